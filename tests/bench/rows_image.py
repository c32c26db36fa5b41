"""Image rows: I1 to I5, I7, I8."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import image_specs
import numpy as np

from bench import bundles, data, peers
from bench.measure import Claim, Group
from edgekit import clock
from edgekit.inputs import preparer
from edgekit.preprocess import jpeg
from edgekit.specs.image import ImageSpec
from edgekit.specs.tensor import Port, Quantization

GOALS = {  # size: I1, I2, I3 as (goal, gate); I4's gate
    "640x480": ((0.93, 1.00), (0.62, 0.70), (0.75, 0.80), 3.2),
    "1080p": ((0.75, 0.85), (0.55, 0.60), (0.36, 0.42), 1.75),
    "12MP": ((0.52, 0.60), (0.50, 0.55), (0.20, 0.22), 1.25),
}


def prepare(spec: ImageSpec) -> Any:
    """value -> tensor as predict makes it, checks and stage clock included."""
    made = preparer(spec, bundles.LIMITS, _no_file)

    def call(value: Any) -> Any:
        return made(value, clock.start({})).values[spec.value]

    return call


def _no_file(name: str) -> bytes:
    raise LookupError(name)


def levels_apart(a: Any, b: Any) -> str:
    """Largest, 99th percentile and mean difference of two normalised tensors in levels of 255."""
    std = np.array(image_specs.CLIP_STD, np.float32).reshape(1, 3, 1, 1)
    apart = np.abs(a - b) * std * 255
    return f"mean {apart.mean():.2f}, p99 {np.percentile(apart, 99):.1f}, max {apart.max():.1f} of 255"


def by_pillow(call: Any) -> Any:
    """The same call where simplejpeg is not installed."""

    def alone(value: Any) -> Any:
        found, jpeg._library = jpeg._library, lambda: None
        try:
            return call(value)
        finally:
            jpeg._library = found

    return alone


def files(sizes: tuple[str, ...]) -> Iterator[Group]:
    """JPEG bytes -> CLIP's 224 x 224 float32 NCHW."""
    import simplejpeg

    matrix = prepare(image_specs.clip_spec(arithmetic="matrix", decode="scaled"))
    ours = {
        "exact (pillow_fused)": prepare(image_specs.clip_spec(arithmetic="pillow_fused")),
        "exact (pillow)": prepare(image_specs.clip_spec(arithmetic="pillow")),
        "exact (pillow_matrix, simplejpeg)": prepare(image_specs.clip_spec(arithmetic="pillow_matrix")),
        "scaled (pillow_fused)": prepare(image_specs.clip_spec(arithmetic="pillow_fused", decode="scaled")),
        "scaled (matrix)": by_pillow(matrix),
        "scaled (matrix, simplejpeg)": matrix,
    }
    theirs = {"HF CLIPImageProcessor": peers.clip_torchvision(), "HF CLIPImageProcessorPil": peers.clip_pillow()}
    for size in sizes:
        content = data.jpeg(size)
        calls = {name: _bound(call, content) for name, call in {**ours, **theirs}.items()}
        results = {name: call() for name, call in calls.items()}
        calls["simplejpeg whole"] = _bound(simplejpeg.decode_jpeg, content)
        calls["simplejpeg scaled"] = _scaled(simplejpeg, content)
        first, second, third, fourth = GOALS[size]
        fast, slow = "HF CLIPImageProcessor", "HF CLIPImageProcessorPil"
        claims = [
            Claim(f"I1 {size}", "exact (pillow_matrix, simplejpeg)", fast, *first, "simplejpeg whole"),
            Claim(f"I1 {size}", "exact (pillow_fused)", fast, *first, "simplejpeg whole"),
            Claim(f"I1 {size}", "exact (pillow)", fast, *first, "simplejpeg whole", note="to the last bit"),
            Claim(f"I2 {size}", "exact (pillow_matrix, simplejpeg)", slow, *second, "simplejpeg whole"),
            Claim(f"I2 {size}", "exact (pillow_fused)", slow, *second, "simplejpeg whole"),
            Claim(f"I2 {size}", "exact (pillow)", slow, *second, "simplejpeg whole", note="to the last bit"),
            Claim(f"I3 {size}", "scaled (matrix, simplejpeg)", fast, *third, "simplejpeg scaled"),
            Claim(f"I3 {size}", "scaled (matrix)", fast, *third, "simplejpeg scaled"),
            Claim(f"I3 {size}", "scaled (pillow_fused)", fast, *third, "simplejpeg scaled"),
            Claim(f"I4 {size}", "scaled (matrix, simplejpeg)", "simplejpeg scaled", None, fourth),
            Claim(f"I4 {size}", "scaled (matrix)", "simplejpeg scaled", None, fourth),
        ]

        def difference(a: str, b: str, results: Any = results) -> str:
            return levels_apart(results[a], results[b]) if a in results and b in results else ""

        yield Group(f"JPEG {size}", calls, claims, difference)


def _bound(call: Any, value: Any) -> Any:
    return lambda: call(value)


def _scaled(simplejpeg: Any, jpeg: bytes) -> Any:
    """The largest reduction that keeps twice the resize's target, decoded and nothing else."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    factor = max((f for f in (1, 2, 4, 8) if min(height, width) // f >= 448), default=1)
    least = {"min_height": height // factor, "min_width": width // factor, "min_factor": 1}
    return lambda: simplejpeg.decode_jpeg(jpeg, **(least if factor > 1 else {}))


def frames(sizes: tuple[str, ...]) -> Iterator[Group]:
    """A decoded frame -> CLIP's tensor."""
    ours = prepare(image_specs.clip_spec(arithmetic="matrix"))
    exact = prepare(image_specs.clip_spec(arithmetic="pillow_matrix"))
    fast, slow = peers.clip_torchvision(), peers.clip_pillow()
    for size, goal, gate in (("640x480", 0.60, 0.68), ("1080p", 0.50, 0.58)):
        if size not in sizes:
            continue
        array = data.frame(size)
        calls = {"matrix": ours, "exact (pillow_matrix)": exact, "HF CLIPImageProcessor": fast, "HF Pil": slow}
        results = {name: call(array) for name, call in calls.items()}

        def difference(a: str, b: str, results: Any = results) -> str:
            return levels_apart(results[a], results[b])

        yield Group(
            f"frame {size}",
            {name: _bound(call, array) for name, call in calls.items()},
            [
                Claim(f"I5 {size}", "matrix", "HF CLIPImageProcessor", goal, gate),
                Claim(f"I5 {size}", "exact (pillow_matrix)", "HF CLIPImageProcessor", None, None),
                Claim(f"I5 {size}", "matrix", "HF Pil", None, None),
            ],
            difference,
        )


def stages() -> Iterator[Group]:
    """Normalisation alone: 224 x 224 x 3 levels -> float32 NCHW."""
    from edgekit.preprocess import image
    from edgekit.preprocess.picture import Picture

    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    spec = image_specs.image_spec(mean=image_specs.CLIP_MEAN, std=image_specs.CLIP_STD)
    picture = Picture(pixels=pixels, height=224, width=224, box=(0.0, 0.0, 224.0, 224.0))
    factor = np.array([1 / (255 * s) for s in image_specs.CLIP_STD], np.float32)[:, None, None]
    shift = np.array([-m / s for m, s in zip(image_specs.CLIP_MEAN, image_specs.CLIP_STD)], np.float32)[:, None, None]

    def ours() -> Any:
        return image.transform(spec, picture)[0]["pixels"]

    def in_place() -> Any:
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        tensor = np.multiply(planes, factor, dtype=np.float32)
        tensor += shift
        return tensor[None]

    def usual() -> Any:
        tensor = pixels.astype(np.float32) / np.float32(255)
        tensor = (tensor - np.float32(image_specs.CLIP_MEAN)) / np.float32(image_specs.CLIP_STD)
        return np.ascontiguousarray(tensor.transpose(2, 0, 1))[None]

    floats = np.zeros((3, 224, 224), np.float32)
    results = {"ours": ours(), "multiply and add in place": in_place(), "numpy, as usual": usual()}

    def difference(a: str, b: str) -> str:
        return f"max {np.abs(results[a] - results[b]).max():.1e}"

    variants = {
        "ours": ours,
        "multiply and add in place": in_place,
        "numpy, as usual": usual,
        "copy of the result": floats.copy,
    }
    limit = "copy of the result"
    yield Group(
        "normalise 224 x 224 x 3",
        variants,
        [
            Claim("normalise", "ours", "multiply and add in place", None, None, limit),
            Claim("normalise", "ours", "numpy, as usual", 0.25, 0.40, limit),
        ],
        difference,
        "µs",
    )


SPIN = "import sys\nsys.stdout.write('.'); sys.stdout.flush()\nwhile True: pass"


def p95_beside_a_neighbour(calls: int = 400) -> dict[str, float]:
    """I7: p50 and p95 (ms) of a 640 x 480 frame, alone and beside a busy process; OpenBLAS as it comes."""
    ours = prepare(image_specs.clip_spec(arithmetic="matrix"))
    array = data.frame("640x480")
    found = {}
    for name in ("alone", "beside"):
        neighbour = None
        if name == "beside":
            neighbour = subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE)
            if neighbour.stdout is not None:
                neighbour.stdout.read(1)
        try:
            times = []
            for _ in range(calls):
                start = time.perf_counter()
                ours(array)
                times.append(1e3 * (time.perf_counter() - start))
        finally:
            if neighbour is not None:
                neighbour.kill()
                neighbour.communicate()
        found[f"{name}_p50"], found[f"{name}_p95"] = (float(np.percentile(times, q)) for q in (50, 95))
    return found


SQUARES = (("480", "640x480", 1.0, 1.05), ("1080", "1080p", 0.5, 0.55), ("3024", "12MP", 0.25, 0.28))
"""I8's pictures: side in pixels, the size they count as, goal, gate."""


def mediapipe(sizes: tuple[str, ...], folder: Path) -> Iterator[Group]:
    """I8: JPEG file -> answer, the same graph, against MediaPipe Tasks."""
    yield from _faces(sizes, folder)
    yield from _classes(sizes, folder)


def _faces(sizes: tuple[str, ...], folder: Path) -> Iterator[Group]:
    """BlazeFace against FaceDetector: a photo with a face, in the middle of others."""
    from mediapipe.tasks.python import BaseOptions, vision

    predictor, model = _blazeface(folder)
    options = vision.FaceDetectorOptions(base_options=BaseOptions(model_asset_path=str(model)))
    task = vision.FaceDetector.create_from_options(options)

    def ours(path: Path) -> Any:
        found = predictor.predict(image=path)
        return [(score, *box) for score, box in zip(found.scores, found.boxes.tolist())]

    def theirs(path: Path) -> Any:
        from mediapipe import Image

        boxes = [
            (d.categories[0].score, d.bounding_box) for d in task.detect(Image.create_from_file(str(path))).detections
        ]
        return [(score, b.origin_x, b.origin_y, b.origin_x + b.width, b.origin_y + b.height) for score, b in boxes]

    def apart(path: Path) -> str:
        (mine, *box), (other, *their_box) = ours(path)[0], theirs(path)[0]
        most = max(abs(a - b) for a, b in zip(box, their_box))
        return f"score {mine:.3f} and {other:.3f}, box {most:.0f} pixels apart"

    yield from _squares(sizes, folder, "MediaPipe FaceDetector", ours, theirs, apart, portrait=True)
    task.close()


def _classes(sizes: tuple[str, ...], folder: Path) -> Iterator[Group]:
    """A quantised MobileNet against ImageClassifier."""
    model = data.SHARED / "models" / "coral" / "mobilenet_v1_0.25_128_quant.tflite"
    if not model.is_file():
        return
    from mediapipe.tasks.python import BaseOptions, vision

    import edgekit

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(model)), max_results=1)
    task = vision.ImageClassifier.create_from_options(options)
    predictor = edgekit.load(_mobilenet(model, folder / "mobilenet.edgekit"))
    plain = folder / "128.png"
    data.canvas().crop((0, 0, 480, 480)).resize((128, 128)).save(plain)

    def ours(path: Path) -> Any:
        scores = predictor.predict(image=path).tensors["scores"]
        best = int(scores[0].argmax())
        return best, float(scores[0, best])

    def theirs(path: Path) -> Any:
        from mediapipe import Image

        found = task.classify(Image.create_from_file(str(path))).classifications[0].categories[0]
        return found.index, found.score

    def apart(path: Path) -> str:
        """On a picture that has the model's size: the resampling differs by design, the model must not."""
        (mine, score), (other, their_score) = ours(plain), theirs(plain)
        return f"at 128x128 class {mine} ({score:.3f}) and {other} ({their_score:.3f})"

    yield from _squares(sizes, folder, "MediaPipe ImageClassifier", ours, theirs, apart, portrait=False)
    task.close()


def _squares(
    sizes: tuple[str, ...],
    folder: Path,
    peer: str,
    ours: Callable[[Path], Any],
    theirs: Callable[[Path], Any],
    apart: Callable[[Path], str],
    *,
    portrait: bool,
) -> Iterator[Group]:
    for size, side, goal, gate in SQUARES:
        if side not in sizes:
            continue
        edge = int(size)
        path = folder / f"{size}{'-portrait' * portrait}.jpg"
        picture = data.canvas().crop((0, 0, edge, edge))
        if portrait:
            picture.paste(data.portrait(edge * 3 // 5), (edge // 5, edge // 5))
        picture.save(path, "JPEG", quality=data.JPEG_QUALITY)
        content = path.read_bytes()

        def decode(content: bytes = content) -> Any:
            from PIL import Image

            return Image.open(io.BytesIO(content)).load()

        yield Group(
            f"{peer} {size}",
            {
                "predict (scaled)": _bound(by_pillow(ours), path),
                "predict (scaled, simplejpeg)": _bound(ours, path),
                peer: _bound(theirs, path),
                "Pillow decode": decode,
            },
            [
                Claim(f"I8 {size}x{size}", f"predict ({way})", peer, goal, gate, "Pillow decode")
                for way in ("scaled, simplejpeg", "scaled")
            ],
            lambda a, b, path=path: apart(path),
        )


def _blazeface(folder: Path) -> tuple[Any, Path]:
    """The recipe's predictor with the decode and the resize that make it fast, and the graph with its metadata."""
    from packing import host_target

    import edgekit
    from edgekit.packaging.build import build
    from edgekit.packaging.recipe import known_recipes, read_recipe
    from edgekit.targets import find_target

    here, phone = host_target(), find_target("android-arm64")
    draft = read_recipe(known_recipes()["blazeface"], None, here, [], lambda *_: None)
    build(draft, phone, folder / "phone.edgekit")
    model = folder / "blazeface.tflite"
    with edgekit.load(folder / "phone.edgekit") as bundle:
        model.write_bytes(bundle.read("blazeface.tflite"))
    spec = draft.inputs["image"]
    resize, pad = spec.steps
    fast = spec.replace(decode="scaled", steps=(resize.replace(coordinates="half_pixel", antialias=True), pad))
    build(draft._replace(inputs={"image": fast}), here, folder / "blazeface.edgekit")
    return edgekit.load(folder / "blazeface.edgekit", threads=1), model


def _mobilenet(model: Path, bundle: Path) -> Path:
    content = model.read_bytes()
    whole = Quantization(scale=1.0, zero_point=0, rounding="nearest_even")
    spec = image_specs.image_spec(
        image_specs.resize("stretch", 128, 128, filter="bilinear", arithmetic="matrix"),
        **{"scale": 1.0, "dtype": "uint8", "quantization": whole, "layout": "nhwc", "decode": "scaled"},
    )
    from edgekit.runtimes.graph import Settings
    from edgekit.runtimes.loading import load_graph

    loaded = load_graph("litert", model, Settings(threads=1, spinning=False, providers=(), cache=None), None)
    given, made = loaded.spec.inputs[0], loaded.spec.outputs[0]
    loaded.close()
    graph = bundles.graph(
        "model.tflite",
        "litert",
        [Port(name=given.name, value="pixels", datatype=given.datatype, shape=given.shape, quantization=None)],
        [
            Port(
                name=made.name, value="scores", datatype=made.datatype, shape=made.shape, quantization=made.quantization
            )
        ],
    )
    return bundles.write(bundle, {"image": spec}, (graph,), {"model.tflite": content})
