"""Multiply-adds of one call, node by node, from shapes. One multiplication with its addition counts one.

Counted: convolutions, matrix products, attention, recurrence. Element-wise work is not counted, as in the
published figures of MobileNet and MLPerf Tiny.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgekit.compression.layer_shapes import CONVOLUTIONS, GEMMS, PRODUCTS, einsum_sizes, product
from edgekit.compression.network import Graph, Node, element_count

Shape = tuple[int, ...]
RECURRENT_GATES = {"LSTM": 4, "DynamicQuantizeLSTM": 4, "GRU": 3, "RNN": 1}
ELSEWHERE = frozenset(("DeformConv", "STFT", "DFT", "Col2Im", "Loop", "Scan", "CONV_3D", "WHILE", "SVDF", "custom"))
"""Work that is done and not counted here: named in the report."""

TFLITE_RECURRENT = frozenset(
    ("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "RNN", "UNIDIRECTIONAL_SEQUENCE_RNN",
     "BIDIRECTIONAL_SEQUENCE_RNN")
)  # fmt: skip


class Counted(NamedTuple):
    """multiply_adds: null where a size is not known. because: what is missing, "" when it is counted."""

    multiply_adds: int | None
    because: str


def is_counted(node: Node) -> bool:
    """Whether this operator multiplies and adds in the sense above, counted or not."""
    known = (CONVOLUTIONS, PRODUCTS, GEMMS, RECURRENT_GATES)
    return any(node.op in table for table in known) or node.op in _OTHERS or node.op in ELSEWHERE


_OTHERS = frozenset(
    ("ConvTranspose", "MatMulNBits", "MatMulBnb4", "Attention", "QAttention", "MultiHeadAttention", "Einsum",
     "GroupQueryAttention", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL",
     *TFLITE_RECURRENT)
)  # fmt: skip


def count_onnx(node: Node, shapes: Sequence[Shape | None], outputs: Sequence[Shape | None]) -> Counted:
    """The multiply-adds of one ONNX node."""
    try:
        found = _onnx(node, shapes, outputs)
    except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError):
        found = None
    if found is None or found < 0:
        return Counted(None, _why(node, shapes, outputs))
    return Counted(found, "")


def _why(node: Node, shapes: Sequence[Shape | None], outputs: Sequence[Shape | None]) -> str:
    if node.op in ELSEWHERE or node.op == "GroupQueryAttention":
        return "no rule for this operator"
    listed = [*shapes, *outputs]
    if any(s is not None and any(axis < 0 for axis in s) for s in listed):
        return "a size is not fixed"
    return "a shape is not known"


def _known(shape: Shape | None) -> int:
    """Elements of a shape. Raises ValueError where one axis is not known."""
    if shape is None or any(axis < 0 for axis in shape):
        raise ValueError("not known")
    return element_count(shape)


def _onnx(node: Node, shapes: Sequence[Shape | None], outputs: Sequence[Shape | None]) -> int | None:
    op, attributes = node.op, node.attributes
    if op in CONVOLUTIONS:
        weight = shapes[CONVOLUTIONS[op]]
        return _known(outputs[0]) * _known((weight or (-1,))[1:])
    if op == "ConvTranspose":
        weight = shapes[1]
        return _known(shapes[0]) * _known((weight or (-1,))[1:])
    if op in PRODUCTS:
        first, second = (shapes[i] for i in PRODUCTS[op])
        if first is None or second is None:
            return None
        inner = first[-2] if attributes.get("transA") and len(first) > 1 else first[-1]
        return _known(product(first, second, attributes)) * _known((inner,))
    if op in GEMMS:
        first = shapes[0]
        if first is None:
            return None
        return _known(outputs[0]) * _known((first[0] if attributes.get("transA") else first[1],))
    if op in ("MatMulNBits", "MatMulBnb4"):
        rows = (shapes[0] or (-1,))[:-1]
        return _known(rows) * int(attributes["N"]) * int(attributes["K"])
    if op in RECURRENT_GATES:
        steps, batch, width = shapes[0] or (-1, -1, -1)
        hidden = int(attributes["hidden_size"])
        directions = 2 if attributes.get("direction") == "bidirectional" else 1
        return _known((steps, batch)) * directions * RECURRENT_GATES[op] * hidden * (_known((width,)) + hidden)
    if op in ("Attention", "QAttention"):
        batch, length, width = shapes[0] or (-1, -1, -1)
        inner = _known((shapes[1] or (-1, -1))[1:]) // 3
        return _known((batch, length, width)) * 3 * inner + 2 * _known((batch, length, length)) * inner
    if op == "MultiHeadAttention":
        batch, length, width = shapes[0] or (-1, -1, -1)
        keys = (shapes[1] or (-1, -1))[1]
        return 2 * _known((batch, length, width, keys))
    if op == "Einsum":
        sizes = einsum_sizes(attributes.get("equation", ""), shapes)
        return None if sizes is None else _known(tuple(sizes.values()))
    return None


def count_tflite(node: Node, graph: Graph) -> Counted:
    """The multiply-adds of one TFLite node, at the shapes in the file."""

    def shape(name: str) -> Shape | None:
        if name in graph.constants:
            return graph.constants[name].shape
        value = graph.values.get(name)
        return None if value is None or value.shape is None else tuple(abs(axis) for axis in value.shape)

    try:
        found = _tflite(node, [shape(n) for n in node.inputs], [shape(n) for n in node.outputs])
    except (IndexError, TypeError, ValueError):
        found = None
    return Counted(found, "" if found is not None else "no rule for this operator")


def _tflite(node: Node, shapes: Sequence[Shape | None], outputs: Sequence[Shape | None]) -> int | None:
    if node.op == "CONV_2D":  # weight: out, h, w, in / groups
        return _known(outputs[0]) * _known((shapes[1] or (-1,))[1:])
    if node.op == "DEPTHWISE_CONV_2D":  # weight: 1, h, w, out
        return _known(outputs[0]) * _known((shapes[1] or (-1,))[1:3])
    if node.op == "TRANSPOSE_CONV":  # weight: out, h, w, in; data third
        weight = shapes[1] or (-1,)
        return _known(shapes[2]) * _known(weight[:3])
    if node.op == "FULLY_CONNECTED":  # weight: out, in
        return _known(shapes[0]) * (shapes[1] or (-1,))[0]
    if node.op == "BATCH_MATMUL":
        first = shapes[0] or (-1,)
        return _known(outputs[0]) * (first[-2] if node.attributes.get("transposed", (False,))[0] else first[-1])
    return None


def sum_counted(counted: Mapping[str, Counted]) -> tuple[int, dict[str, str]]:
    """The sum of what is counted, and what is not with the reason, by layer."""
    total = sum(c.multiply_adds or 0 for c in counted.values())
    return total, {name: c.because for name, c in counted.items() if c.multiply_adds is None}
