"""The graphs of the benchmark, made with the `onnx` package; their weights are seeded noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Collects nodes and weights of one graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.rng = np.random.default_rng(0)

    def weight(self, *shape: int, scale: float) -> str:
        name = f"w{len(self.weights)}"
        values = (self.rng.standard_normal(shape, np.float32) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, values: Any, dtype: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def write(self, path: Path, inputs: list[Any], output: str, shape: list[Any]) -> Path:
        """The graph's last value becomes its output `y`."""
        self.nodes[-1].output[0] = "y" if self.nodes[-1].output[0] == output else self.nodes[-1].output[0]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
        graph = helper.make_graph(self.nodes, "bench", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.write_bytes(model.SerializeToString())
        return path


def one_op(path: Path) -> Path:
    """y = x + x, float32 (1, 4)."""
    b = Builder()
    return b.write(path, [_floats("x", [1, 4])], b.add("Add", "x", "x"), [1, 4])


def dense(path: Path, width: int, layers: int) -> Path:
    """`layers` products with a width x width matrix and a Relu each."""
    b = Builder()
    value = "x"
    for _ in range(layers):
        value = b.add("Relu", b.add("MatMul", value, b.weight(width, width, scale=width**-0.5)))
    return b.write(path, [_floats("x", [1, width])], value, [1, width])


def convolutions(path: Path) -> Path:
    """A classifier of the size of a small MobileNet, 224 x 224 x 3 to 100 classes, 1.1 MB."""
    b = Builder()
    value, channels = "x", 3
    for width, stride in ((16, 2), (32, 2), (64, 2), (128, 2), (128, 1), (128, 2)):
        kernel = b.weight(width, channels, 3, 3, scale=(channels * 9) ** -0.5)
        value = b.add("Conv", value, kernel, strides=[stride, stride], pads=[1, 1, 1, 1])
        value = b.add("Relu", value)
        channels = width
    value = b.add("Flatten", b.add("GlobalAveragePool", value))
    value = b.add("MatMul", value, b.weight(channels, 100, scale=0.1))
    return b.write(path, [_floats("x", [1, 3, 224, 224])], value, [1, 100])


def encoder(path: Path, *, words: int = 30522, width: int = 384, layers: int = 6, heads: int = 12) -> Path:
    """A BERT-like text encoder of MiniLM's size (90 MB): ids (1, n) -> states (1, n, width)."""
    b = Builder()
    zeros = b.constant(np.zeros(width), np.float32)
    ones = b.constant(np.ones(width), np.float32)

    def norm(value: str) -> str:
        return b.add("LayerNormalization", value, ones, zeros, axis=-1)

    def project(value: str, inner: int, outer: int) -> str:
        return b.add(
            "Add", b.add("MatMul", value, b.weight(inner, outer, scale=inner**-0.5)), b.weight(outer, scale=0.1)
        )

    split = b.constant([0, 0, heads, width // heads], np.int64)
    joined = b.constant([0, 0, width], np.int64)
    shrink = b.constant((width // heads) ** -0.5, np.float32)
    half, one, root = b.constant(0.5, np.float32), b.constant(1.0, np.float32), b.constant(2**-0.5, np.float32)
    value = norm(b.add("Gather", b.weight(words, width, scale=1.0), "ids"))
    for _ in range(layers):
        q, k, v = (b.add("Reshape", project(value, width, width), split) for _ in range(3))
        q, v = (b.add("Transpose", x, perm=[0, 2, 1, 3]) for x in (q, v))
        scores = b.add("MatMul", b.add("Mul", q, shrink), b.add("Transpose", k, perm=[0, 2, 3, 1]))
        mixed = b.add("MatMul", b.add("Softmax", scores, axis=-1), v)
        mixed = b.add("Reshape", b.add("Transpose", mixed, perm=[0, 2, 1, 3]), joined)
        value = norm(b.add("Add", value, project(mixed, width, width)))
        inner = project(value, width, 4 * width)
        gate = b.add("Add", b.add("Erf", b.add("Mul", inner, root)), one)
        inner = b.add("Mul", b.add("Mul", inner, gate), half)
        value = norm(b.add("Add", value, project(inner, 4 * width, width)))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "n"])
    return b.write(path, [ids], value, [1, "n", width])


def _floats(name: str, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
