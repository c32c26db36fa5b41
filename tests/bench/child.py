"""One measurement in a fresh process: `python -m bench.child PROGRAM ARGUMENT`; prints one line of JSON last.

Every program does what a user's script would do from its first import on. `seconds` counts from the given moment of
spawning (CLOCK_MONOTONIC, which all processes share) to the answer; `peak_mib` is the process's high-water mark.
"""

import sys
import time

if __name__ == "__main__" and len(sys.argv) > 3:
    SPAWNED_S = float(sys.argv[3])

from typing import Any


def image_edgekit(folder: str) -> None:
    import edgekit

    with edgekit.load(f"{folder}/convolutions.edgekit") as predictor:
        predictor.predict(image=f"{folder}/photo.jpg")


def image_floor(folder: str) -> None:
    """The least by hand: draft, resize of the crop, numpy, a session on the graph optimised beforehand."""
    import numpy as np
    import onnxruntime as ort
    from PIL import Image

    image = Image.open(f"{folder}/photo.jpg")
    image.draft("RGB", (796, 448))
    edge = image.height
    left = (image.width - edge) / 2
    image = image.resize((224, 224), Image.Resampling.BICUBIC, box=(left, 0, left + edge, edge))
    tensor = np.asarray(image).transpose(2, 0, 1).astype(np.float32)
    tensor *= np.float32(1 / 127.5)
    tensor -= np.float32(1)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(f"{folder}/optimised.onnx", options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": tensor[None]})


def image_plain(folder: str) -> None:
    """What a user writes: Pillow, numpy, a session with its defaults."""
    import numpy as np
    import onnxruntime as ort
    from PIL import Image

    image = Image.open(f"{folder}/photo.jpg").convert("RGB").resize((398, 224), Image.Resampling.BICUBIC)
    image = image.crop((87, 0, 311, 224))
    tensor = (np.asarray(image).astype(np.float32) / 255 - 0.5) / 0.5
    session = ort.InferenceSession(f"{folder}/convolutions.onnx", providers=["CPUExecutionProvider"])
    session.run(None, {"x": tensor.transpose(2, 0, 1)[None]})


def _image_hf(processor: Any, folder: str, kind: str) -> None:
    import numpy as np
    import onnxruntime as ort
    from PIL import Image

    pixels = processor(Image.open(f"{folder}/photo.jpg"), return_tensors=kind)["pixel_values"]
    session = ort.InferenceSession(f"{folder}/convolutions.onnx", providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.asarray(pixels)})


def image_hf(folder: str) -> None:
    from transformers import CLIPImageProcessorPil

    _image_hf(CLIPImageProcessorPil(), folder, "np")


def image_hf_torch(folder: str) -> None:
    from bench.peers import one_thread_torch

    one_thread_torch()
    from transformers import CLIPImageProcessor

    _image_hf(CLIPImageProcessor(), folder, "pt")


def text_edgekit(folder: str) -> None:
    import edgekit

    with edgekit.load(f"{folder}/encoder.edgekit") as predictor:
        predictor.predict(text="A photo of a small dog.")


def _session(path: str) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def text_floor(folder: str) -> None:
    """tokenizers and a session on the graph optimised beforehand, weights outside and prepacked."""
    import numpy as np
    import onnxruntime as ort
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(f"{folder}/tokenizer.json").encode("A photo of a small dog.").ids
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(f"{folder}/prepacked.onnx", options, providers=["CPUExecutionProvider"])
    session.run(None, {"ids": np.array([ids], np.int64)})


def text_hf(folder: str) -> None:
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(f"{folder}/tokenizer")("A photo of a small dog.", return_tensors="np")
    _session(f"{folder}/encoder.onnx").run(None, {"ids": ids["input_ids"]})


def load_edgekit(folder: str) -> dict[str, float]:
    """Load and first answer alone, imports done before; what it added to the process."""
    import numpy as np
    import onnxruntime  # noqa: F401

    import edgekit.predictor
    import edgekit.runtimes.onnx

    def work() -> Any:
        predictor = edgekit.load(f"{folder}/ids.edgekit")
        predictor.predict(ids=np.arange(8)[None])
        return predictor

    return _added(work)


def load_session(folder: str) -> dict[str, float]:
    """The same by InferenceSession as it comes, one thread."""
    import numpy as np
    import onnxruntime  # noqa: F401

    def work() -> Any:
        session = _session(f"{folder}/encoder.onnx")
        session.run(None, {"ids": np.arange(8)[None]})
        return session

    return _added(work)


def _added(work: Any) -> dict[str, float]:
    before = status()
    start = time.perf_counter()
    kept = work()
    took = time.perf_counter() - start
    after = status()
    del kept
    return {
        "work_s": took,
        "resident_mib": after["VmRSS"] - before["VmRSS"],
        "private_mib": after["RssAnon"] - before["RssAnon"],
    }


def import_bare(folder: str) -> dict[str, float]:
    """What edgekit stands on."""
    import numpy  # noqa: F401
    import onnxruntime  # noqa: F401
    import PIL.Image
    import PIL.JpegImagePlugin  # noqa: F401

    return {"own_s": 0.0}


def import_edgekit(folder: str) -> dict[str, float]:
    """edgekit with every public name, on top; `own_s` is what that takes by itself, the collector's share included."""
    import_bare(folder)
    begun_s = time.perf_counter()
    import edgekit

    for name in edgekit.__all__:
        getattr(edgekit, name)
    return {"own_s": time.perf_counter() - begun_s}


def import_nothing(folder: str) -> None:
    """The interpreter alone."""


def _peak(value: Any, call: Any, warm: Any) -> dict[str, float]:
    """How far one call raises the resident memory at its highest, after a warm-up on a small picture."""
    for _ in range(3):
        call(warm)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets the high-water mark
    before = status()["VmRSS"]
    call(value)
    return {"growth_mib": status()["VmHWM"] - before}


def _peak_edgekit(folder: str, decode: str, arithmetic: str) -> dict[str, float]:
    import image_specs

    from bench.rows_image import prepare

    call = prepare(image_specs.clip_spec(arithmetic=arithmetic, decode=decode))
    return _peak(read(f"{folder}/12MP.jpg"), call, read(f"{folder}/640x480.jpg"))


def peak_scaled(folder: str) -> dict[str, float]:
    return _peak_edgekit(folder, "scaled", "matrix")


def peak_scaled_pillow(folder: str) -> dict[str, float]:
    return _peak_edgekit(folder, "scaled", "pillow_fused")


def peak_exact_matrix(folder: str) -> dict[str, float]:
    return _peak_edgekit(folder, "exact", "pillow_matrix")


def peak_exact(folder: str) -> dict[str, float]:
    return _peak_edgekit(folder, "exact", "pillow_fused")


def peak_exact_pillow(folder: str) -> dict[str, float]:
    return _peak_edgekit(folder, "exact", "pillow")


def peak_hf(folder: str) -> dict[str, float]:
    from bench.peers import clip_pillow

    return _peak(read(f"{folder}/12MP.jpg"), clip_pillow(), read(f"{folder}/640x480.jpg"))


def peak_hf_torch(folder: str) -> dict[str, float]:
    from bench.peers import clip_torchvision

    return _peak(read(f"{folder}/12MP.jpg"), clip_torchvision(), read(f"{folder}/640x480.jpg"))


def _paced(call: Any, calls: int = 40, period_s: float = 0.05) -> dict[str, float]:
    """CPU and latency per call at 20 calls a second."""
    for _ in range(5):
        call()
    times = []
    next_s = time.perf_counter()
    spent = time.process_time()
    for _ in range(calls):
        next_s += period_s
        time.sleep(max(0.0, next_s - time.perf_counter()))
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    spent = time.process_time() - spent
    return {"cpu_s": spent / calls, "latency_s": sorted(times)[calls // 2]}


def paced_edgekit(folder: str, threads: int = 2) -> dict[str, float]:
    import numpy as np

    import edgekit

    predictor = edgekit.load(f"{folder}/tensor.edgekit", threads=threads)
    x = np.ones((1, 3, 224, 224), np.float32)
    return _paced(lambda: predictor.predict(x=x))


def paced_edgekit_1(folder: str) -> dict[str, float]:
    return paced_edgekit(folder, 1)


def paced_default(folder: str) -> dict[str, float]:
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(f"{folder}/convolutions.onnx", options, providers=["CPUExecutionProvider"])
    x = np.ones((1, 3, 224, 224), np.float32)
    return _paced(lambda: session.run(None, {"x": x}))


def read(path: str) -> bytes:
    """A file's bytes."""
    with open(path, "rb") as file:
        return file.read()


def status() -> dict[str, float]:
    """Memory of this process in MiB."""
    found = {}
    with open("/proc/self/status") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if rest.endswith(" kB\n"):
                found[name] = int(rest[:-3]) / 1024
    return found


def main() -> None:
    program = globals()[sys.argv[1]]
    found: dict[str, float] = program(sys.argv[2]) or {}
    found["seconds"] = time.clock_gettime(time.CLOCK_MONOTONIC) - SPAWNED_S
    found["peak_mib"] = status()["VmHWM"]
    import json

    print(json.dumps(found))


if __name__ == "__main__":
    main()
