"""Output shapes of ONNX operators with weights or windows: convolutions, pools, products, attention, recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.compression.network import Node

Shape = tuple[int, ...]
UNKNOWN = -1

CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3, "NhwcFusedConv": 1, "NhwcConv": 1}
"""Position of the weight; the data stands at 0."""

PRODUCTS = {
    "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3), "DynamicQuantizeMatMul": (0, 1),
    "MatMulIntegerToFloat": (0, 1), "FusedMatMul": (0, 1), "TransposeMatMul": (0, 1),
}  # fmt: skip
"""Positions of the two factors."""

GEMMS = {"Gemm": (0, 1), "QGemm": (0, 3), "FusedGemm": (0, 1)}


def layer_shape(node: Node, shapes: Sequence[Shape | None]) -> list[Shape | None]:
    """Shapes of the outputs; [] for an operator that is not one of these."""
    op, attributes = node.op, node.attributes
    first = shapes[0] if shapes else None
    if first is None:
        return []
    if op in CONVOLUTIONS:
        weight = shapes[CONVOLUTIONS[op]]
        return [None if weight is None else _convolved(first, weight, attributes, _is_channels_last(node))]
    if op == "ConvTranspose":
        weight = shapes[1]
        return [None if weight is None else _transposed(first, weight, attributes)]
    if op in ("MaxPool", "AveragePool", "LpPool", "QLinearAveragePool", "NhwcMaxPool"):
        window, last = (1, 1, *attributes["kernel_shape"]), _is_channels_last(node)
        return [_convolved(first, window, attributes, last, channels=first[-1 if last else 1])]
    if op in ("GlobalAveragePool", "GlobalMaxPool", "QLinearGlobalAveragePool"):
        if _is_channels_last(node):
            return [(first[0], *(1 for _ in first[2:]), first[-1])]
        return [(first[0], first[1], *(1 for _ in first[2:]))]
    if op in PRODUCTS:
        a, b = (shapes[i] for i in PRODUCTS[op])
        return [None if a is None or b is None else product(a, b, attributes)]
    if op in GEMMS:
        a, b = (shapes[i] for i in GEMMS[op])
        if a is None or b is None:
            return []
        rows = a[1] if attributes.get("transA") else a[0]
        return [(rows, b[0] if attributes.get("transB") else b[1])]
    if op in ("MatMulNBits", "MatMulBnb4"):
        return [(*first[:-1], attributes["N"])]
    if op in ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"):
        directions = 2 if attributes.get("direction") == "bidirectional" else 1
        hidden = attributes["hidden_size"]
        state = (directions, first[1], hidden)
        return [(first[0], directions, first[1], hidden), state, state]
    if op in ("Attention", "QAttention"):
        bias = shapes[2] if len(shapes) > 2 else None
        return [None if bias is None else (first[0], first[1], bias[0] // 3)]
    if op == "MultiHeadAttention":
        return [first]
    if op == "Einsum":
        return [_einsum(attributes.get("equation", ""), shapes)]
    return []


def _is_channels_last(node: Node) -> bool:
    """As ONNX Runtime's optimiser rearranges quantised graphs."""
    return node.op.startswith("Nhwc") or node.attributes.get("channels_last") == 1


def _convolved(
    data: Shape, weight: Shape, attributes: Any, channels_last: bool, *, channels: int | None = None
) -> Shape:
    spatial = data[1:-1] if channels_last else data[2:]
    kernel = weight[2:]
    if len(kernel) != len(spatial):
        raise ValueError("window and data have other ranks")
    n = len(spatial)
    strides = attributes.get("strides") or (1,) * n
    dilations = attributes.get("dilations") or (1,) * n
    pads = attributes.get("pads") or (0,) * (2 * n)
    same = attributes.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER")
    found = []
    for i, size in enumerate(spatial):
        window = dilations[i] * (kernel[i] - 1) + 1
        if size < 0:
            found.append(UNKNOWN)
        elif same:
            found.append(-(-size // strides[i]))
        else:
            room = size + pads[i] + pads[i + n] - window
            up = attributes.get("ceil_mode", 0)
            found.append((-(-room // strides[i]) if up else room // strides[i]) + 1)
    out = weight[0] if channels is None else channels
    return (data[0], *found, out) if channels_last else (data[0], out, *found)


def _transposed(data: Shape, weight: Shape, attributes: Any) -> Shape:
    n = len(data) - 2
    group = attributes.get("group", 1)
    wanted = attributes.get("output_shape")
    if wanted:
        return (data[0], weight[1] * group, *wanted[-n:])
    strides = attributes.get("strides") or (1,) * n
    dilations = attributes.get("dilations") or (1,) * n
    pads = attributes.get("pads") or (0,) * (2 * n)
    extra = attributes.get("output_padding") or (0,) * n
    same = attributes.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER")
    found = []
    for i in range(n):
        size = data[i + 2]
        window = dilations[i] * (weight[i + 2] - 1) + 1
        full = strides[i] * (size - 1) + extra[i] + window - pads[i] - pads[i + n]
        found.append(UNKNOWN if size < 0 else size * strides[i] if same else full)
    return (data[0], weight[1] * group, *found)


def product(a: Shape, b: Shape, attributes: Any) -> Shape:
    """The shape of a matrix product with broadcast leading axes (numpy.matmul)."""
    if attributes.get("transA") and len(a) > 1:
        a = (*a[:-2], a[-1], a[-2])
    if attributes.get("transB") and len(b) > 1:
        b = (*b[:-2], b[-1], b[-2])
    if len(a) == 1 and len(b) == 1:
        return ()
    if len(a) == 1:
        return (*b[:-2], b[-1])
    if len(b) == 1:
        return a[:-1]
    lead_rank = max(len(a), len(b)) - 2
    lead = []
    for x, y in zip((1,) * (lead_rank - len(a) + 2) + a[:-2], (1,) * (lead_rank - len(b) + 2) + b[:-2]):
        lead.append(y if x == 1 else x)
    return (*lead, a[-2], b[-1])


def einsum_sizes(equation: str, shapes: Sequence[Shape | None]) -> dict[str, int] | None:
    """The size of each letter of an equation without an ellipsis, None where that cannot be said."""
    left = equation.replace(" ", "").split("->")[0].split(",")
    if "." in equation or len(left) != len(shapes):
        return None
    sizes: dict[str, int] = {}
    for letters, shape in zip(left, shapes):
        if shape is None or len(letters) != len(shape):
            return None
        for letter, size in zip(letters, shape):
            sizes[letter] = max(size, sizes.get(letter, UNKNOWN))
    return sizes


def _einsum(equation: str, shapes: Sequence[Shape | None]) -> Shape | None:
    sizes = einsum_sizes(equation, shapes)
    if sizes is None or "->" not in equation:
        return None
    return tuple(sizes[letter] for letter in equation.replace(" ", "").split("->")[1])
