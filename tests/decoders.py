"""Decoders for tests, built with the onnx package: one set of random weights as merged, split and cacheless graphs.

Each layer: self-attention over a cache, attention over the encoder's states, two products around a ReLU; learned
positions. Names and shapes are those that `optimum-cli export onnx` writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402  # after the check that it is there

OPSET = 17
MERGED, FIRST, REST = "decoder_model_merged.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx"


class Size(NamedTuple):
    """Of a decoder. wide: the deviation of its random weights; large ones make tokens differ."""

    vocabulary: int
    width: int
    heads: int
    layers: int
    positions: int
    wide: float


TOY = Size(vocabulary=60, width=16, heads=2, layers=2, positions=48, wide=0.7)


class _Nodes:
    """Collects the nodes of one (sub)graph, each result under a fresh name."""

    def __init__(self, prefix: str) -> None:
        self.nodes: list[Any] = []
        self._prefix = prefix

    def add(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"{self._prefix}{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output


def weights_of(size: Size, seed: int) -> dict[str, np.ndarray]:
    """The random weights, and the constants of the nodes."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * size.wide / np.sqrt(shape[0])).astype(np.float32)

    found = {
        "tokens": draw(size.vocabulary, size.width) * np.float32(np.sqrt(size.vocabulary)),
        "places": draw(size.positions, size.width) * np.float32(np.sqrt(size.positions)),
        "head": draw(size.width, size.vocabulary),
        "split": np.array([0, -1, size.heads, size.width // size.heads], np.int64),
        "join": np.array([0, -1, size.width], np.int64),
        "root": np.array(np.sqrt(size.width // size.heads), np.float32),
        "far": np.array(-1e9, np.float32),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "axis0": np.array([0], np.int64),
        "axis1": np.array([1], np.int64),
    }
    for layer in range(size.layers):
        for part in ("q", "k", "v", "o", "cq", "ck", "cv", "co"):
            found[f"{layer}.{part}"] = draw(size.width, size.width)
        found[f"{layer}.up"], found[f"{layer}.down"] = (
            draw(size.width, 4 * size.width),
            draw(4 * size.width, size.width),
        )
    return found


def _length(nodes: _Nodes, tensor: str, axis: int) -> str:
    return nodes.add("Squeeze", nodes.add("Shape", tensor, start=axis, end=axis + 1), "axis0")


def _heads(nodes: _Nodes, value: str) -> str:
    return nodes.add("Transpose", nodes.add("Reshape", value, "split"), perm=[0, 2, 1, 3])


def _attend(nodes: _Nodes, query: str, key: str, value: str, hidden: str | None, out: str) -> str:
    scores = nodes.add("Div", nodes.add("MatMul", query, nodes.add("Transpose", key, perm=[0, 1, 3, 2])), "root")
    if hidden is not None:
        scores = nodes.add("Where", hidden, "far", scores)
    mixed = nodes.add("MatMul", nodes.add("Softmax", scores, axis=-1), value)
    return nodes.add("MatMul", nodes.add("Reshape", nodes.add("Transpose", mixed, perm=[0, 2, 1, 3]), "join"), out)


def _body(nodes: _Nodes, size: Size, *, cached: bool, prefix: str) -> None:
    """The decoder over new tokens; with a cache the encoder's keys and values come from it as well."""
    new = _length(nodes, "input_ids", 1)
    past = _length(nodes, "past_key_values.0.decoder.key", 2) if cached else "zero"
    total = nodes.add("Add", past, new)
    here = nodes.add("Range", past, total, "one")
    there = nodes.add("Range", "zero", total, "one")
    # A token does not see those after it.
    hidden = nodes.add("Greater", nodes.add("Unsqueeze", there, "axis0"), nodes.add("Unsqueeze", here, "axis1"))
    x = nodes.add("Add", nodes.add("Gather", "tokens", "input_ids"), nodes.add("Gather", "places", here))
    for n in range(size.layers):
        key, value = (_heads(nodes, nodes.add("MatMul", x, f"{n}.{part}")) for part in "kv")
        if cached:
            key = nodes.add("Concat", f"past_key_values.{n}.decoder.key", key, axis=2)
            value = nodes.add("Concat", f"past_key_values.{n}.decoder.value", value, axis=2)
        nodes.add("Identity", key, name=f"{prefix}present.{n}.decoder.key")
        nodes.add("Identity", value, name=f"{prefix}present.{n}.decoder.value")
        query = _heads(nodes, nodes.add("MatMul", x, f"{n}.q"))
        x = nodes.add("Add", x, _attend(nodes, query, key, value, hidden, f"{n}.o"))
        if cached:
            key, value = f"past_key_values.{n}.encoder.key", f"past_key_values.{n}.encoder.value"
        else:
            key, value = (_heads(nodes, nodes.add("MatMul", "encoder_hidden_states", f"{n}.c{p}")) for p in "kv")
            nodes.add("Identity", key, name=f"{prefix}present.{n}.encoder.key")
            nodes.add("Identity", value, name=f"{prefix}present.{n}.encoder.value")
        query = _heads(nodes, nodes.add("MatMul", x, f"{n}.cq"))
        x = nodes.add("Add", x, _attend(nodes, query, key, value, None, f"{n}.co"))
        inner = nodes.add("Relu", nodes.add("MatMul", x, f"{n}.up"))
        x = nodes.add("Tanh", nodes.add("Add", x, nodes.add("MatMul", inner, f"{n}.down")))
    nodes.add("MatMul", x, "head", name=f"{prefix}logits")


def _info(name: str, size: Size, tokens: str = "n") -> Any:
    kind = TensorProto.INT64 if name == "input_ids" else TensorProto.FLOAT
    shapes: dict[str, list[Any]] = {
        "input_ids": ["batch", "n"],
        "encoder_hidden_states": ["batch", "frames", size.width],
        "logits": ["batch", tokens, size.vocabulary],
    }
    shape = shapes.get(
        name, ["batch", size.heads, "frames" if ".encoder." in name else tokens, size.width // size.heads]
    )
    if name == "use_cache_branch":
        kind, shape = TensorProto.BOOL, [1]
    return helper.make_tensor_value_info(name, kind, shape)


def _names(size: Size, kind: str, of: tuple[str, ...]) -> list[str]:
    return [f"{kind}.{n}.{side}.{part}" for n in range(size.layers) for side in of for part in ("key", "value")]


def write_decoder_only(folder: Path, size: Size = TOY, seed: int = 1, *, embeds: bool = False) -> None:
    """A decoder without an encoder, told positions and mask; embeds: it reads what `embed_tokens.onnx` makes of ids."""
    weights = weights_of(size, seed)
    nodes = _Nodes("")
    if not embeds:
        nodes.add("Gather", "tokens", "input_ids", name="inputs_embeds")
    total = nodes.add("Squeeze", nodes.add("ReduceSum", "attention_mask", "axis1", keepdims=0), "axis0")
    here, there = nodes.add("Squeeze", "position_ids", "axis0"), nodes.add("Range", "zero", total, "one")
    hidden = nodes.add("Greater", nodes.add("Unsqueeze", there, "axis0"), nodes.add("Unsqueeze", here, "axis1"))
    x = nodes.add("Add", "inputs_embeds", nodes.add("Gather", "places", here))
    for n in range(size.layers):
        key, value = (_heads(nodes, nodes.add("MatMul", x, f"{n}.{part}")) for part in "kv")
        key = nodes.add("Concat", f"past_key_values.{n}.key", key, axis=2, name=f"present.{n}.key")
        value = nodes.add("Concat", f"past_key_values.{n}.value", value, axis=2, name=f"present.{n}.value")
        query = _heads(nodes, nodes.add("MatMul", x, f"{n}.q"))
        x = nodes.add("Tanh", nodes.add("Add", x, _attend(nodes, query, key, value, hidden, f"{n}.o")))
    nodes.add("MatMul", x, "head", name="logits")
    caches = [f"past_key_values.{n}.{part}" for n in range(size.layers) for part in ("key", "value")]
    made = [f"present.{n}.{part}" for n in range(size.layers) for part in ("key", "value")]
    given = helper.make_tensor_value_info("inputs_embeds", TensorProto.FLOAT, ["batch", "n", size.width])
    inputs = [
        given if embeds else _info("input_ids", size),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "all"]),
        helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["batch", "n"]),
        *(_info(name, size, "past") for name in caches),
    ]
    _save(folder / "model.onnx", nodes.nodes, inputs, [_info(n, size, "all") for n in ("logits", *made)], weights)
    if embeds:
        nodes = _Nodes("")
        nodes.add("Gather", "tokens", "input_ids", name="inputs_embeds")
        _save(folder / "embed_tokens.onnx", nodes.nodes, [_info("input_ids", size)], [given], weights)


def _save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, np.ndarray]) -> None:
    graph = helper.make_graph(
        nodes, "decoder", inputs, outputs, [numpy_helper.from_array(a, n) for n, a in weights.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    path.write_bytes(model.SerializeToString())


def write_split(folder: Path, size: Size = TOY, seed: int = 1) -> None:
    """The graph of the first step and the one of the others; the first alone is a decoder without caches."""
    weights = weights_of(size, seed)
    both = ("decoder", "encoder")
    nodes = _Nodes("")
    _body(nodes, size, cached=False, prefix="")
    outputs = [_info(n, size) for n in ["logits", *_names(size, "present", both)]]
    _save(
        folder / FIRST, nodes.nodes, [_info(n, size) for n in ("input_ids", "encoder_hidden_states")], outputs, weights
    )
    nodes = _Nodes("")
    _body(nodes, size, cached=True, prefix="")
    inputs = [_info("input_ids", size), *(_info(n, size, "past") for n in _names(size, "past_key_values", both))]
    outputs = [_info(n, size, "all") for n in ["logits", *_names(size, "present", ("decoder",))]]
    _save(folder / REST, nodes.nodes, inputs, outputs, weights)


def write_merged(folder: Path, size: Size = TOY, seed: int = 1) -> None:
    """Both in one graph; the branch with a cache gives no encoder's keys and values, as optimum's does not."""
    names = ["logits", *_names(size, "present", ("decoder", "encoder"))]
    branches = {}
    for branch, cached in (("then_branch", True), ("else_branch", False)):
        nodes = _Nodes(f"{branch}_")
        _body(nodes, size, cached=cached, prefix=f"{branch}.")
        if cached:
            empty = np.zeros((0, size.heads, 1, size.width // size.heads), np.float32)
            for name in _names(size, "present", ("encoder",)):
                value = numpy_helper.from_array(empty, f"{branch}.{name}.empty")
                nodes.add("Constant", name=f"{branch}.{name}", value=value)
        outputs = [_info(name, size, "all") for name in names]
        for info in outputs:
            info.name = f"{branch}.{info.name}"
            if ".encoder." in info.name:  # the branches differ in shape
                info.type.tensor_type.ClearField("shape")
        branches[branch] = helper.make_graph(nodes.nodes, branch, [], outputs)
    node = helper.make_node("If", ["use_cache_branch"], names, **branches)
    inputs = [
        *(_info(n, size) for n in ("input_ids", "encoder_hidden_states")),
        *(_info(n, size, "past") for n in _names(size, "past_key_values", ("decoder", "encoder"))),
        _info("use_cache_branch", size),
    ]
    _save(folder / MERGED, [node], inputs, [_info(n, size, "all") for n in names], weights_of(size, seed))
