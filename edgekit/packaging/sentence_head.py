"""sentence-transformers' modules behind the transformer, as one small graph: poolings side by side, Dense layers.

A single plain pooling needs no graph: postprocessing has it. The formulas are those of sentence-transformers 5
(`models/Pooling.py`, `models/Dense.py`); the file is made with the `onnx` package, on the host only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgekit.arrays import Float32
from edgekit.errors import InputError
from edgekit.manifest import GraphSpec
from edgekit.packaging.draft import Content
from edgekit.packaging.hf_graphs import Staged
from edgekit.packaging.hub_folder import Config, HubFolder, read_object
from edgekit.packaging.split import require_onnx
from edgekit.runtimes.graph import TensorSpec
from edgekit.specs.tensor import Port

FILE = "sentence_head.onnx"
STATES, MASK, EMBEDDING = "last_hidden_state", "attention_mask", "sentence_embedding"
POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}
"""In the order in which sentence-transformers puts them side by side."""
PLAIN = ("cls", "max", "mean", "last")
"""What postprocessing does by itself (specs/post.py)."""
_ACTIVATIONS = {"Identity": None, "Tanh": "Tanh", "ReLU": "Relu", "Sigmoid": "Sigmoid"}
_OPSET, _IR_VERSION = 17, 8
_DATATYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
HEADER_LIMIT_BYTES = 1 << 20


class Dense(NamedTuple):
    """y = activation(x @ weight.T + bias); activation: an ONNX operator or None."""

    weight: Float32
    bias: Float32 | None
    activation: str | None


def poolings(config: Config) -> list[str]:
    """The poolings that a `1_Pooling/config.json` asks for. Raises InputError for one that is not known."""
    on = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    unknown = [key for key in on if key not in POOLINGS]
    if unknown or not on:
        raise InputError(f"1_Pooling/config.json asks for {', '.join(unknown) or 'no pooling'}")
    return [mode for key, mode in POOLINGS.items() if key in on]


def read_head(folder: HubFolder, staged: Staged, states: TensorSpec, files: dict[str, Content]) -> GraphSpec | None:
    """The graph between the states and the embedding, its file added; None where postprocessing suffices.

    Raises InputError for weights that cannot be read, or a runtime that the graph cannot stand beside.
    """
    modes, layers = poolings(folder.pooling) if folder.pooling else [], _layers(folder)
    if not layers and (not modes or (len(modes) == 1 and modes[0] in PLAIN)):
        return None
    what = " and ".join([*modes, *(["Dense"] if layers else [])])
    if staged.graph.runtime != "onnxruntime":
        raise InputError(f"{folder.name}: modules.json asks for {what}, which needs an ONNX graph beside the model")
    if MASK not in staged.inputs or len(states.shape) != 3:
        raise InputError(
            f"{folder.name}: modules.json asks for {what}: the graph gives no states of tokens with a mask"
        )
    width = states.shape[2]
    files[FILE] = _graph(modes or ["mean"], layers, width)
    made = len(layers[-1].weight) if layers else len(modes) * width if width > 0 else -1

    def port(name: str, datatype: Any, shape: tuple[int, ...]) -> Port:
        return Port(name=name, value=name, datatype=datatype, shape=shape, quantization=None)

    return GraphSpec(
        name="head",
        file=FILE,
        data=None,
        runtime="onnxruntime",
        role="head",
        precision=staged.graph.precision,
        inputs=(port(STATES, "FP32", (-1, -1, width)), port(MASK, "INT64", (-1, -1))),
        outputs=(port(EMBEDDING, "FP32", (-1, made)),),
        state=(),
        constants=(),
    )


def _layers(folder: HubFolder) -> list[Dense]:
    found = []
    for module in folder.modules:
        if str(module["type"]).endswith(".Dense"):
            found.append(_dense(folder, str(module.get("path", ""))))
    return found


def _dense(folder: HubFolder, inner: str) -> Dense:
    path = folder.path / inner
    if not inner or inner != Path(inner).name or inner.startswith("."):
        raise InputError(f"{folder.name}: modules.json: {inner!r} is no folder of this model")
    config = read_object(path / "config.json")
    activation = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if activation not in _ACTIVATIONS:
        raise InputError(f"{inner}/config.json: activation_function {activation}: not one of {', '.join(_ACTIVATIONS)}")
    tensors = _read_safetensors(path / "model.safetensors")
    weight = tensors.get("linear.weight")
    shape = (config.get("out_features"), config.get("in_features"))
    if weight is None or weight.shape != shape:
        got = "none" if weight is None else list(weight.shape)
        raise InputError(f"{inner}: expected a weight of {list(shape)}, as its config.json says, got {got}")
    return Dense(weight, tensors.get("linear.bias"), _ACTIVATIONS[activation])


def _read_safetensors(path: Path) -> dict[str, Float32]:
    """Every tensor as float32: a header's length (8 bytes), a JSON header, then the numbers (safetensors' format)."""
    if not path.is_file():
        raise InputError(
            f"{path.parent.name}: no {path.name}: the Dense layer's weights are missing",
            hint="sentence-transformers writes it: SentenceTransformer(FOLDER).save(FOLDER)",
        )
    data = path.read_bytes()
    try:
        length = int.from_bytes(data[:8], "little")
        if length > HEADER_LIMIT_BYTES:
            raise ValueError(f"a header of {length} bytes")
        header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
        header.pop("__metadata__", None)
        found = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            if entry["dtype"] == "BF16":
                numbers = (np.frombuffer(body[begin:end], "<u2").astype(np.uint32) << 16).view(np.float32)
            else:
                numbers = np.frombuffer(body[begin:end], _DATATYPES[entry["dtype"]]).astype(np.float32)
            found[str(name)] = numbers.reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path.parent.name}/{path.name}: not readable ({error})") from None
    return found


def _graph(modes: Sequence[str], layers: Sequence[Dense], width: int) -> bytes:
    onnx = require_onnx("making the graph of sentence-transformers' modules")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes: list[Any] = []
    weights = {"first": np.array(0), "one": np.array([1]), "two": np.array([2]), "axis": np.array(1)}
    floats = {"least": 1e-9, "nothing": -1e9, "unit": 1.0, "zero": 0.0}
    weights.update({name: np.array(value, np.float32) for name, value in floats.items()})

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    add("Cast", [MASK], "real", to=onnx.TensorProto.FLOAT)
    add("Unsqueeze", ["real", "two"], "mask")
    parts = [_POOLS[mode](add) for mode in modes]
    last = add("Concat", parts, "pooled", axis=1) if len(parts) > 1 else parts[0]
    for index, layer in enumerate(layers):
        weights[f"w{index}"] = layer.weight
        inputs = [last, f"w{index}"]
        if layer.bias is not None:
            weights[f"b{index}"] = layer.bias
            inputs.append(f"b{index}")
        last = add("Gemm", inputs, f"dense{index}", transB=1)
        if layer.activation is not None:
            last = add(layer.activation, [last], f"active{index}")
    add("Identity", [last], EMBEDDING)
    info, proto = helper.make_tensor_value_info, onnx.TensorProto
    graph = helper.make_graph(
        nodes,
        "sentence_head",
        [
            info(STATES, proto.FLOAT, ["batch", "tokens", width if width > 0 else "width"]),
            info(MASK, proto.INT64, ["batch", "tokens"]),
        ],
        [info(EMBEDDING, proto.FLOAT, ["batch", "embedding"])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    return bytes(model.SerializeToString())


def _sum(add: Any, mask: str, name: str, root: bool = False) -> str:
    """sum(states * mask) / max(sum(mask), 1e-9), or over the root of it."""
    add("Mul", [STATES, mask], f"{name}_masked")
    add("ReduceSum", [f"{name}_masked", "one"], f"{name}_sum", keepdims=0)
    add("ReduceSum", [mask, "one"], f"{name}_number", keepdims=0)
    count = add("Max", [f"{name}_number", "least"], f"{name}_count")
    if root:
        count = add("Sqrt", [count], f"{name}_root")
    return str(add("Div", [f"{name}_sum", count], name))


def _largest(add: Any) -> str:
    add("Greater", ["mask", "zero"], "is_real")
    add("Where", ["is_real", STATES, "nothing"], "hidden")
    return str(add("ReduceMax", ["hidden"], "max", axes=[1], keepdims=0))


def _places(add: Any, prefix: str) -> str:
    """1, 2, 3, ... over the real tokens, 0 elsewhere."""
    add("Mul", ["real", "zero"], f"{prefix}_zeros")
    add("Add", [f"{prefix}_zeros", "unit"], f"{prefix}_ones")
    add("CumSum", [f"{prefix}_ones", "axis"], f"{prefix}_places")
    return str(add("Mul", [f"{prefix}_places", "real"], f"{prefix}_weights"))


def _weighted(add: Any) -> str:
    add("Unsqueeze", [_places(add, "weighted"), "two"], "weighted_mask")
    return _sum(add, "weighted_mask", "weighted_mean")


def _final(add: Any) -> str:
    add("ArgMax", [_places(add, "last")], "last_place", axis=1, keepdims=1)
    return str(add("GatherND", [STATES, "last_place"], "last", batch_dims=1))


_POOLS = {
    "cls": lambda add: add("Gather", [STATES, "first"], "cls", axis=1),
    "max": _largest,
    "mean": lambda add: _sum(add, "mask", "mean"),
    "mean_sqrt_len": lambda add: _sum(add, "mask", "mean_sqrt_len", root=True),
    "weighted_mean": _weighted,
    "last": _final,
}
