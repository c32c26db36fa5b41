"""Small hub folders made on the spot: configs as transformers writes them, and graphs that a person can check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from graphs import info, node, onnx_bytes

TOKENIZER = json.loads((Path(__file__).parent / "golden" / "hub.json").read_text())["tokenizer"]
TOKENIZER_CONFIG = {"model_max_length": 16, "pad_token": "[PAD]", "unk_token": "[UNK]"}
VIT = {
    "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 8, "width": 8}, "resample": 2,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip
WAV2VEC2 = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True, "sampling_rate": 16000}
LABELS = {"0": "cat", "1": "dog", "2": "owl"}
PIXELS = ["batch", "channels", "height", "width"]
IDS = ["batch", "tokens"]


def drawn(*shape: int, seed: int = 5) -> Any:
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def write_folder(path: Path, config: dict[str, Any], **files: Any) -> Path:
    """config.json and more: a name with `__` for `/` and `_json` for `.json` holds what JSON it is given."""
    path.mkdir(parents=True, exist_ok=True)
    for name, content in {"config_json": config, **files}.items():
        file = path / name.replace("__", "/").replace("_json", ".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return path


def save(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def means(source: str, made: str) -> list[Any]:
    """(b, 3, h, w) to its means (b, 3)."""
    return [node("ReduceMean", [source], [made], axes=[2, 3], keepdims=0)]


def image_graph(classes: int = 3, shape: Any = PIXELS, output: str = "logits", channels: int = 3) -> bytes:
    """logits = mean of each channel @ w."""
    nodes = [*means("pixel_values", "mean"), node("MatMul", ["mean", "w"], [output])]
    outputs = [info(output, ["batch", classes])]
    return onnx_bytes(nodes, [info("pixel_values", shape)], outputs, {"w": drawn(channels, classes)})


def text_graph(classes: int = 3, *, tokens: bool = False, types: bool = True, mask: bool = True) -> bytes:
    """States e[ids] (+ t[type_ids]); of tokens their classes, else the classes of their sum."""
    nodes = [node("Gather", ["e", "input_ids"], ["states"])]
    weights = {"e": drawn(32, classes)}
    inputs = [info("input_ids", IDS, "INT64")]
    last = "states"
    if types:
        nodes += [node("Gather", ["t", "token_type_ids"], ["kinds"]), node("Add", ["states", "kinds"], ["typed"])]
        weights["t"] = drawn(2, classes, seed=6)
        inputs.append(info("token_type_ids", IDS, "INT64"))
        last = "typed"
    if mask:
        nodes += [
            node("Cast", ["attention_mask"], ["real"], to=1),
            node("Unsqueeze", ["real", "axis"], ["wide"]),
            node("Mul", [last, "wide"], ["masked"]),
        ]
        weights["axis"] = np.array([2])
        inputs.append(info("attention_mask", IDS, "INT64"))
        last = "masked"
    if tokens:
        nodes.append(node("Identity", [last], ["logits"]))
    else:
        nodes.append(node("ReduceSum", [last, "middle"], ["logits"], keepdims=0))
        weights["middle"] = np.array([1])
    shape = ["batch", "tokens", classes] if tokens else ["batch", classes]
    return onnx_bytes(nodes, inputs, [info("logits", shape)], weights)


def states_graph(width: int = 4, output: str = "last_hidden_state") -> bytes:
    """last_hidden_state = e[input_ids], without a mask."""
    nodes = [node("Gather", ["e", "input_ids"], [output])]
    outputs = [info(output, ["batch", "tokens", width])]
    return onnx_bytes(nodes, [info("input_ids", IDS, "INT64")], outputs, {"e": drawn(32, width)})


def normalized(source: str, made: str) -> list[Any]:
    """Rows of length 1."""
    return [node("ReduceL2", [source], [f"{made}_length"], axes=[1]), node("Div", [source, f"{made}_length"], [made])]


def two_sides_graph(scale: float, bias: float, other: str = "image", width: int = 4) -> bytes:
    """logits_per_image = scale * image_embeds @ text_embeds.T + bias, over unit vectors."""
    name, kind = ("pixel_values", PIXELS) if other == "image" else ("input_features", ["batch", 1, "frames", 64])
    reduced = [0, 1] if other == "image" else [0, 0]
    start = means(name, "mean") if other == "image" else [node("ReduceMean", [name], ["mean"], axes=[1, 2], keepdims=0)]
    nodes = [
        *start,
        node("MatMul", ["mean", "w"], ["other_raw"]),
        *normalized("other_raw", f"{other}_embeds"),
        node("Gather", ["e", "input_ids"], ["states"]),
        node("ReduceSum", ["states", "middle"], ["text_raw"], keepdims=0),
        *normalized("text_raw", "text_embeds"),
        node("Transpose", ["text_embeds"], ["turned"], perm=[1, 0]),
        node("MatMul", [f"{other}_embeds", "turned"], ["cosine"]),
        node("Mul", ["cosine", "scale"], ["scaled"]),
        node("Add", ["scaled", "bias"], [f"logits_per_{other}"]),
    ]
    weights = {
        "w": drawn(3 if reduced[1] else 64, width),
        "e": drawn(32, width, seed=6),
        "middle": np.array([1]),
        "scale": np.array(scale, np.float32),
        "bias": np.array(bias, np.float32),
        "unused": drawn(50, 50),
    }
    inputs = [info(name, kind), info("input_ids", IDS, "INT64")]
    outputs = [
        info(f"logits_per_{other}", ["images", "texts"]),
        info("text_embeds", ["texts", width]),
        info(f"{other}_embeds", ["images", width]),
    ]
    return onnx_bytes(nodes, inputs, outputs, weights)


def detection_graph(classes: int, mask: Any = ("batch", 64, 64), queries: int = 5) -> bytes:
    """logits and boxes that do not depend on the picture but for its mean, and a mask that must be given."""
    nodes = [
        node("ReduceMean", ["pixel_values"], ["mean"], axes=[1, 2, 3], keepdims=1),
        node("Squeeze", ["mean", "last"], ["level"]),
        node("Cast", ["pixel_mask"], ["real"], to=1),
        node("ReduceMin", ["real"], ["least"], axes=[1, 2], keepdims=1),
        node("Mul", ["level", "least"], ["seen"]),
        node("Add", ["l", "seen"], ["logits"]),
        node("Mul", ["seen", "zero"], ["nothing"]),
        node("Add", ["b", "nothing"], ["pred_boxes"]),
    ]
    boxes = np.random.RandomState(3).uniform(0.2, 0.6, (1, queries, 4)).astype(np.float32)
    weights = {
        "l": 3 * drawn(1, queries, classes), "b": boxes, "last": np.array([3]), "zero": np.zeros(1, np.float32),
    }  # fmt: skip
    outputs = [info("logits", ["batch", queries, classes]), info("pred_boxes", ["batch", queries, 4])]
    inputs = [info("pixel_values", PIXELS), info("pixel_mask", list(mask), "INT64")]
    return onnx_bytes(nodes, inputs, outputs, weights)


def map_graph(channels: int, output: str) -> bytes:
    """A quarter of the size; (b, channels, h, w), or for one channel (b, h, w)."""
    nodes = [node("AveragePool", ["pixel_values"], ["small"], kernel_shape=[4, 4], strides=[4, 4])]
    weights = {"k": drawn(channels, 3, 1, 1)}
    if channels > 1:
        nodes.append(node("Conv", ["small", "k"], [output]))
        shape: list[Any] = ["batch", channels, "h", "w"]
    else:
        nodes += [node("Conv", ["small", "k"], ["one"]), node("Squeeze", ["one", "axis"], [output])]
        weights["axis"] = np.array([1])
        shape = ["batch", "h", "w"]
    return onnx_bytes(nodes, [info("pixel_values", PIXELS)], [info(output, shape)], weights)


def waves_graph(ids: int = 6, *, kernel: int = 20, hop: int = 10, mask: bool = False) -> bytes:
    """logits (b, frames, ids): one convolution over the waveform."""
    nodes = [
        node("Unsqueeze", ["input_values", "one"], ["line"]),
        node("Conv", ["line", "k"], ["frames"], strides=[hop]),
        node("Transpose", ["frames"], ["logits" if not mask else "plain"], perm=[0, 2, 1]),
    ]
    inputs = [info("input_values", ["batch", "samples"])]
    weights = {"k": drawn(ids, 1, kernel), "one": np.array([1])}
    if mask:
        inputs.append(info("attention_mask", ["batch", "samples"], "INT64"))
        nodes += [
            node("Cast", ["attention_mask"], ["real"], to=1),
            node("ReduceMin", ["real"], ["least"], axes=[1], keepdims=1),
            node("Unsqueeze", ["least", "one"], ["wide"]),
            node("Mul", ["plain", "wide"], ["logits"]),
        ]
    return onnx_bytes(nodes, inputs, [info("logits", ["batch", "frames", ids])], weights)
