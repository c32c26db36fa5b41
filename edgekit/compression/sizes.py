"""Parameters, bytes and live values of a model, from its constants and shapes."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.compression.layers import Layer
from edgekit.compression.network import Graph, Network, Node, element_count, ordered, walk
from edgekit.compression.shapes import Shape
from edgekit.formats import BITS, StoredTensor

_SCALE_POSITIONS: dict[str, tuple[int, ...]] = {
    "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7), "QGemm": (1, 2, 4, 5, 7, 8), "QLinearAdd": (1, 2, 4, 5, 6, 7),
    "QLinearMul": (1, 2, 4, 5, 6, 7), "ConvInteger": (2, 3), "MatMulInteger": (2, 3), "MatMulNBits": (2, 3, 4),
    "MatMulBnb4": (2,), "DynamicQuantizeMatMul": (2, 3), "MatMulIntegerToFloat": (2, 3, 4, 5), "Clip": (1, 2),
    "QAttention": (3, 4, 6, 7), "DynamicQuantizeLSTM": (8, 9, 10, 11), "GatherBlockQuantized": (2, 3),
    "Resize": (1, 2, 3), "BatchNormalization": (3, 4), "Pad": (1, 2, 3), "OneHot": (1, 2), "Upsample": (1,),
    "QLinearGlobalAveragePool": (1, 2, 3, 4), "QLinearAveragePool": (1, 2, 3, 4), "QLinearSigmoid": (1, 2, 3, 4),
}  # fmt: skip
"""Inputs that describe and do not weigh: scales, limits, statistics of a batch normalisation."""

_NUMBERS = frozenset(("FP32", "FP16", "FP64", "BF16", "INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2", "INT16"))
FLOAT_BYTES = 4


def parameter_tensors(network: Network, layers: list[Layer]) -> list[StoredTensor]:
    """The constants that weigh: floats and quantised integers that are no scale, limit or single number."""
    excluded: set[tuple[str, int]] = set()
    biases: set[tuple[str, int]] = set()
    for root in (network.main, *network.others):
        for graph, node in walk(root):
            for position, name in enumerate(node.inputs):
                tensor = graph.constants.get(name)
                if tensor is None:
                    continue
                if position in _SCALE_POSITIONS.get(node.op, ()):
                    excluded.add((name, tensor.offset))
                if tensor.datatype in ("INT32", "INT64") and _is_bias(node, position):
                    biases.add((name, tensor.offset))
    for layer in layers:
        for helper in (layer.scales, layer.zero_points, layer.source.codebook, layer.source.mask):
            if helper is not None:
                excluded.add((helper.name, helper.offset))
    own = {(layer.source.tensor.name, layer.source.tensor.offset) for layer in layers}
    found: dict[tuple[str, str, int], StoredTensor] = {}
    for root in (network.main, *network.others):
        graphs = {id(g): g for g, _ in walk(root)}
        graphs[id(root)] = root
        for graph in graphs.values():
            for name, tensor in graph.constants.items():
                key = (name, tensor.offset)
                if (key in excluded and key not in own) or not _weighs(tensor, key in own, key in biases):
                    continue
                found[tensor.location, name, tensor.offset] = tensor
    return list(found.values())


def _is_bias(node: Node, position: int) -> bool:
    where = {"DequantizeLinear": 0, "QLinearConv": 8, "QGemm": 6, "CONV_2D": 2, "DEPTHWISE_CONV_2D": 2}
    where |= {"FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}
    return where.get(node.op) == position


def _weighs(tensor: StoredTensor, is_weight: bool, is_bias: bool) -> bool:
    if is_weight or is_bias:
        return True
    if element_count(tensor.shape) <= 1:
        return False
    return tensor.datatype in _NUMBERS


def constant_bytes(network: Network) -> tuple[int, int]:
    """Bytes of all constants, and of those outside the file."""
    inside = outside = 0
    for root in (network.main, *network.others):
        graphs = {id(g): g for g, _ in walk(root)}
        graphs[id(root)] = root
        for graph in graphs.values():
            for tensor in graph.constants.values():
                if tensor.location:
                    outside += tensor.size_bytes
                else:
                    inside += tensor.size_bytes
    return inside + outside, outside


def live_bytes(graph: Graph, shapes: Mapping[str, Shape], datatypes: Mapping[str, str]) -> int | None:
    """The largest sum of values alive at once when the nodes run in order; null where a size is not known.

    A runtime that runs nodes in place or in another order needs less, one that keeps scratch space more.
    """
    last: dict[str, int] = {}
    nodes = ordered(graph)
    for at, node in enumerate(nodes):
        for name in (*node.inputs, *node.outputs):
            last[name] = at
    for name in graph.outputs:
        last[name] = len(graph.nodes)
    sizes: dict[str, int] = {}
    for name in last:
        if name and name not in graph.constants:
            size = _size(shapes.get(name), datatypes.get(name, ""))
            if size is None:
                return None
            sizes[name] = size
    alive = {v.name: sizes.get(v.name, 0) for v in graph.inputs}
    peak = now = sum(alive.values())
    for at, node in enumerate(nodes):
        for name in node.outputs:
            if name in sizes and name not in alive:
                alive[name] = sizes[name]
                now += sizes[name]
        peak = max(peak, now)
        for name in (*node.inputs, *node.outputs):
            if last.get(name) == at:
                now -= alive.pop(name, 0)
    return peak


def _size(shape: Shape | None, datatype: str) -> int | None:
    if shape is None or any(axis < 0 for axis in shape) or datatype not in BITS:
        return None
    return (element_count(shape) * BITS[datatype] + 7) // 8


_BOOLEAN = frozenset(
    ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Not", "Xor", "IsNaN", "IsInf")
)


def onnx_datatypes(graph: Graph) -> dict[str, str]:
    """The datatype of each value: as declared, else as the operator makes it of its first input."""
    from edgekit.formats.onnx import DATATYPES

    known = {name: tensor.datatype for name, tensor in graph.constants.items()}
    known.update({value.name: value.datatype for value in graph.inputs})
    known.update({name: value.datatype for name, value in graph.values.items()})
    for node in ordered(graph):
        first = known.get(node.inputs[0], "") if node.inputs else ""
        if node.op == "Cast":
            first = DATATYPES.get(node.attributes.get("to", 0), "")
        elif node.op in ("Shape", "Size", "ArgMax", "ArgMin", "NonZero"):
            first = "INT64"
        elif node.op in _BOOLEAN:
            first = "BOOL"
        elif node.op == "DequantizeLinear":
            first = known.get(node.inputs[1], "")
        elif node.op == "QuantizeLinear":
            first = known.get(node.inputs[2], "UINT8") if len(node.inputs) > 2 else "UINT8"
        elif node.op in ("MatMulInteger", "ConvInteger"):
            first = "INT32"
        elif node.op == "DynamicQuantizeLinear":
            for name, datatype in zip(node.outputs, ("UINT8", "FP32", "UINT8")):
                known.setdefault(name, datatype)
        elif node.op in ("Where", "Gather") and len(node.inputs) > 1:
            first = known.get(node.inputs[1 if node.op == "Where" else 0], "")
        elif node.op == "ConstantOfShape":
            held = node.attributes.get("value")
            first = held.datatype if isinstance(held, StoredTensor) else "FP32"
        for name in node.outputs:
            known.setdefault(name, first)
    return known
