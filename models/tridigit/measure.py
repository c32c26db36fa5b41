"""Measure every set of graphs with whichever runtimes this environment has; needs numpy, Pillow and a runtime only.

python measure.py --data DIR [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import json
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import features

Array = NDArray[Any]
Graph = Callable[[Array], Array]

SPEAKERS = ("george", "jackson", "nicolas", "theo", "yweweler")
TEST_TAKES = range(0, 3)
TEST_IMAGES = slice(7000, 8000)
PRECISIONS = {"fp32": "", "fp16": "_fp16", "int8": "_int8"}


def open_onnx(path: Path) -> Graph:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda values: np.asarray(session.run(None, {name: values})[0])


def quantise(values: Array, detail: dict[str, Any]) -> Array:
    if detail["dtype"] != np.int8:
        return values.astype(detail["dtype"])
    scale, zero_point = detail["quantization"]
    return np.clip(np.rint(values / scale) + zero_point, -128, 127).astype(np.int8)


def dequantise(values: Array, detail: dict[str, Any]) -> Array:
    if detail["dtype"] != np.int8:
        return values
    scale, zero_point = detail["quantization"]
    return (values.astype(np.float32) - zero_point) * np.float32(scale)


def open_tflite(interpreter_class: Any, path: Path) -> Graph:
    """Run the static batch of one for each item; pictures come as NCHW."""
    interpreter = interpreter_class(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run_one(item: Array) -> Array:
        interpreter.set_tensor(taken["index"], quantise(item, taken).reshape(taken["shape"]))
        interpreter.invoke()
        return dequantise(interpreter.get_tensor(given["index"]), given)[0]

    return lambda values: np.stack([run_one(item) for item in values])


def installed_runtimes() -> dict[str, tuple[str, Callable[[Path], Graph]]]:
    """Return {name and version: (file suffix, opener)} for what can be imported here."""
    found: dict[str, tuple[str, Callable[[Path], Graph]]] = {}
    if importlib.util.find_spec("onnxruntime"):
        found[f"onnxruntime {version('onnxruntime')}"] = (".onnx", open_onnx)
    for module, distribution in (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime")):
        if importlib.util.find_spec(module):
            interpreter = importlib.import_module(f"{module}.interpreter").Interpreter
            found[f"{distribution} {version(distribution)}"] = (".tflite", partial(open_tflite, interpreter))
    return found


def test_images(data: Path) -> tuple[Array, Array]:
    with np.load(data / "mnist_t10k_first8000.npz") as archive:
        return features.normalise_pixels(archive["images"][TEST_IMAGES])[:, None], archive["labels"][TEST_IMAGES]


def test_recordings(data: Path) -> tuple[Array, Array]:
    spoken = itertools.product(SPEAKERS, TEST_TAKES, range(10))
    named = [(digit, f"{digit}_{speaker}_{take}.wav") for speaker, take, digit in spoken]
    samples = [features.read_wave(data / "recordings" / name) for _, name in named]
    return np.stack([features.audio_features(item) for item in samples]), np.array([digit for digit, _ in named])


def accuracy(embeddings: Array, words: Array, labels: Array) -> float:
    """Share of embeddings whose nearest word, by cosine, is the label."""
    unit = words / np.linalg.norm(words, axis=1, keepdims=True)
    return float(np.mean((embeddings @ unit.T).argmax(1) == labels))


def measure_set(weights: Path, ending: str, open_graph: Callable[[Path], Graph], data: Path) -> dict[str, float]:
    graphs = {name: open_graph(weights / f"{name}{ending}") for name in ("image", "audio", "text")}
    words, characters = (
        graphs["text"](np.stack([features.text_features(text) for text in texts]))
        for texts in (features.DIGIT_WORDS, features.DIGIT_CHARACTERS)
    )
    images, image_labels = test_images(data)
    recordings, recording_labels = test_recordings(data)
    return {
        "image_to_text": accuracy(graphs["image"](images), words, image_labels),
        "audio_to_text": accuracy(graphs["audio"](recordings), words, recording_labels),
        "characters_to_words": accuracy(characters, words, np.arange(10)),
        "size_bytes": sum((weights / f"{name}{ending}").stat().st_size for name in graphs),
    }


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist_t10k_first8000.npz and recordings/")
    parser.add_argument("--weights", type=Path, default=here / "weights")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    for runtime, (suffix, open_graph) in installed_runtimes().items():
        for precision, infix in PRECISIONS.items():
            name = f"{runtime} {precision}"
            figures[name] = measure_set(arguments.weights, f"{infix}{suffix}", open_graph, arguments.data)
            print(name, figures[name], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
