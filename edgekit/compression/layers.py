"""The layers of a model that hold weights: which weight in which slot, and how it and its data are quantised.

Evidence is what stands in the graph: QuantizeLinear and DequantizeLinear, the QLinear operators, the dynamic ones, the
datatypes and scales of TFLite tensors.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from edgekit.compression.network import Network, Node, element_count
from edgekit.compression.wiring import Scope, Source, scopes, source_of
from edgekit.formats import StoredTensor

Scheme = Literal["none", "qdq", "qoperator", "integer", "dynamic", "weight-only"]

QLINEAR = frozenset(("QLinearConv", "QLinearMatMul", "QGemm"))
DYNAMIC = frozenset(
    (
        "MatMulInteger",
        "ConvInteger",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "DynamicQuantizeLSTM",
        "QAttention",
    )
)
NBITS = frozenset(("MatMulNBits", "MatMulBnb4"))
INTEGERS = frozenset(("INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2", "INT16"))


class Slot(NamedTuple):
    """Where a node takes a weight. channel, reduced: axes of the outputs and of the sum; -1 for none."""

    position: int
    channel: int
    reduced: int


_SLOTS: dict[str, tuple[Slot, ...]] = {
    "Conv": (Slot(1, 0, 1),), "FusedConv": (Slot(1, 0, 1),), "ConvInteger": (Slot(1, 0, 1),),
    "NhwcFusedConv": (Slot(1, 0, 1),), "QLinearConv": (Slot(3, 0, 1),), "ConvTranspose": (Slot(1, 1, 0),),
    "MatMul": (Slot(1, -1, -2), Slot(0, -2, -1)), "FusedMatMul": (Slot(1, -1, -2),),
    "MatMulInteger": (Slot(1, -1, -2),), "DynamicQuantizeMatMul": (Slot(1, -1, -2),),
    "MatMulIntegerToFloat": (Slot(1, -1, -2),), "QLinearMatMul": (Slot(3, -1, -2),),
    "Attention": (Slot(1, 1, 0),), "QAttention": (Slot(1, 1, 0),), "MatMulNBits": (Slot(1, 0, 1),),
    "MatMulBnb4": (Slot(1, 0, 1),), "LSTM": (Slot(1, 1, 2), Slot(2, 1, 2)), "GRU": (Slot(1, 1, 2), Slot(2, 1, 2)),
    "RNN": (Slot(1, 1, 2), Slot(2, 1, 2)), "DynamicQuantizeLSTM": (Slot(1, 2, 1), Slot(2, 2, 1)),
    "Gather": (Slot(0, 1, 99),), "GatherBlockQuantized": (Slot(0, 1, 99),),
    "CONV_2D": (Slot(1, 0, 3),), "DEPTHWISE_CONV_2D": (Slot(1, 3, 99),), "FULLY_CONNECTED": (Slot(1, 0, 1),),
    "TRANSPOSE_CONV": (Slot(1, 0, 3),), "BATCH_MATMUL": (Slot(1, -1, -2),), "EMBEDDING_LOOKUP": (Slot(1, 1, 99),),
    "GATHER": (Slot(0, 1, 99),), "CONV_3D": (Slot(1, 4, 3),),
}  # fmt: skip
_TFLITE_GATES = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": range(1, 9), "LSTM_TFLITE": range(1, 9), "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "SVDF": (1, 2),
}  # fmt: skip
EMBEDDINGS = frozenset(("Gather", "GATHER", "EMBEDDING_LOOKUP", "GatherBlockQuantized"))


class Layer(NamedTuple):
    """A weight in its layer. channel, reduced: axes of the stored tensor (-1: none or lost on the way)."""

    name: str
    node: Node
    scope: Scope
    source: Source
    tensor: StoredTensor
    parameters: int
    channel: int
    reduced: int
    scheme: Scheme
    evidence: str
    granularity: Literal["", "per-tensor", "per-channel", "per-block"]
    scales: StoredTensor | None
    zero_points: StoredTensor | None


def find_layers(network: Network) -> list[Layer]:
    """Every weight of every linear layer and embedding, in the order of the file."""
    found: list[Layer] = []
    names: dict[str, int] = {}
    roots = (network.main, *network.others)
    for scope in [s for root in roots for s in scopes(root)]:
        for node in scope.graph.nodes:
            for layer in _layers_of(network, scope, node):
                base = layer.name or node.op
                names[base] = names.get(base, 0) + 1
                unique = base if names[base] == 1 else f"{base}#{names[base]}"
                found.append(layer._replace(name=unique))
    return found


def _layers_of(network: Network, scope: Scope, node: Node) -> list[Layer]:
    if node.op in _TFLITE_GATES:
        slots: tuple[Slot, ...] = tuple(Slot(i, 0, 1) for i in _TFLITE_GATES[node.op])
    else:
        slots = _SLOTS.get(node.op, ())
    if node.op == "Gemm" or node.op == "FusedGemm":
        slots = (Slot(1, 0, 1) if node.attributes.get("transB") else Slot(1, 1, 0),)
    elif node.op == "QGemm":
        slots = (Slot(3, 0, 1) if node.attributes.get("transB") else Slot(3, 1, 0),)
    found = []
    for slot in slots:
        if slot.position >= len(node.inputs):
            continue
        source = source_of(scope, node.inputs[slot.position])
        if source is None or not _is_weight(node, scope, source):
            continue
        found.append(_layer(network, scope, node, slot, source))
        if node.op == "MatMul":  # a second constant would be folded
            break
    return found


def _is_weight(node: Node, scope: Scope, source: Source) -> bool:
    tensor = source.tensor
    if node.op not in EMBEDDINGS:
        return element_count(tensor.shape) > 1
    # A gather from a small table of whole numbers picks a part of a shape; one from a constant by a constant is folded.
    data = node.inputs[0] if node.op != "EMBEDDING_LOOKUP" else node.inputs[1]
    index = node.inputs[1] if node.op != "EMBEDDING_LOOKUP" else node.inputs[0]
    quantised = tensor.datatype in INTEGERS and (source.scale is not None or tensor.quantization is not None)
    numbers = tensor.datatype.startswith(("FP", "BF")) or quantised or node.op == "GatherBlockQuantized"
    return numbers and len(tensor.shape) == 2 and source_of(scope, index) is None and data != index


def _layer(network: Network, scope: Scope, node: Node, slot: Slot, source: Source) -> Layer:
    tensor = source.tensor
    scales: StoredTensor | None = source.scale
    points: StoredTensor | None = source.zero_point
    channel, reduced = _axis(slot.channel, source), _axis(slot.reduced, source)
    parameters = element_count(tensor.shape)
    scheme, evidence = _scheme(network, scope, node, source)
    granularity: Literal["", "per-tensor", "per-channel", "per-block"] = ""
    if node.op in NBITS:
        tensor = _nbits(node, tensor)
        parameters = node.attributes.get("N", 0) * node.attributes.get("K", 0)
        granularity = "per-block"
        scales = scope.constant(node.inputs[2]) if len(node.inputs) > 2 else None
        channel, reduced = 0, 1
    elif tensor.name in scope.graph.block_scales:
        granularity = "per-block"
        scales = scope.constant(scope.graph.block_scales[tensor.name])
    elif tensor.quantization is not None:
        granularity = "per-channel" if len(tensor.quantization.scales) > 1 else "per-tensor"
    elif node.op in QLINEAR:
        scales, points = scope.constant(node.inputs[slot.position + 1]), scope.constant(node.inputs[slot.position + 2])
    elif scheme == "dynamic":
        scales, points = _dynamic_scale(scope, node, source), _dynamic_point(scope, node)
    if not granularity and scheme != "none":
        many = scales is not None and element_count(scales.shape) > 1
        granularity = "per-block" if source.block else "per-channel" if many else "per-tensor"
    return Layer(
        name=_name(node),
        node=node,
        scope=scope,
        source=source,
        tensor=tensor,
        parameters=parameters,
        channel=channel,
        reduced=reduced,
        scheme=scheme,
        evidence=evidence,
        granularity=granularity,
        scales=scales,
        zero_points=points,
    )


def _name(node: Node) -> str:
    return node.name or (node.outputs[0] if node.outputs else node.op)


def _axis(axis: int, source: Source) -> int:
    """The stored tensor's axis that arrives as this one; -1 for none."""
    rank = len(source.tensor.shape)
    if source.order is None or axis >= rank or axis < -rank:
        return -1
    return source.order[axis % rank]


def _nbits(node: Node, tensor: StoredTensor) -> StoredTensor:
    """The packed blocks of MatMulNBits as rows of numbers: (N, blocks * block size), padding included."""
    bits = node.attributes.get("bits", 4)
    if tensor.datatype != "UINT8" or bits not in (2, 4, 8) or not tensor.shape:
        return tensor
    rows = tensor.shape[0]
    columns = element_count(tensor.shape[1:]) * 8 // bits
    return tensor.replace(datatype=f"UINT{bits}", shape=(rows, columns))


def _scheme(network: Network, scope: Scope, node: Node, source: Source) -> tuple[Scheme, str]:
    tensor = source.tensor
    if network.format == "tflite":
        return _tflite_scheme(scope, node, source)
    if node.op in QLINEAR:
        return "qoperator", node.op
    if node.op in DYNAMIC:
        return "dynamic", f"DynamicQuantizeLinear and {node.op}" if node.op.endswith("Integer") else node.op
    if node.op in NBITS or node.op == "GatherBlockQuantized":
        bits = node.attributes.get("bits", 4)
        return "weight-only", f"{node.op}, {bits} bits in blocks of {node.attributes.get('block_size', 0)}"
    if "DequantizeLinear" not in source.steps or tensor.datatype not in INTEGERS:
        return "none", ""
    data = scope.producer(node.inputs[0]) if node.op not in EMBEDDINGS else None
    after = [n.op for name in node.outputs for n in scope.takers(name)]
    if data is not None and data.op == "DequantizeLinear":
        return "qdq", "DequantizeLinear on data and weight"
    if node.op in EMBEDDINGS and "QuantizeLinear" in after:
        return "qdq", "DequantizeLinear before, QuantizeLinear after"
    return "weight-only", "DequantizeLinear on the weight alone"


def _tflite_scheme(scope: Scope, node: Node, source: Source) -> tuple[Scheme, str]:
    tensor = source.tensor
    if tensor.datatype not in INTEGERS:
        return "none", ""
    if "DEQUANTIZE" in source.steps:
        return "weight-only", "DEQUANTIZE on the weight alone"
    if node.op in EMBEDDINGS:
        out = scope.graph.values.get(node.outputs[0]) if node.outputs else None
        is_float = out is not None and out.datatype == "FP32"
        return (
            ("weight-only", "float rows from an integer table") if is_float else ("integer", f"{tensor.datatype} rows")
        )
    position = 2 if node.op == "TRANSPOSE_CONV" else 0
    data = scope.graph.values.get(node.inputs[position])
    if data is not None and data.datatype in INTEGERS:
        return "integer", f"{data.datatype} data, {tensor.datatype} weight"
    return "dynamic", f"float data, {tensor.datatype} weight: quantised at run time"


def _dynamic_scale(scope: Scope, node: Node, source: Source) -> StoredTensor | None:
    """The weight's scale: an input of the fused operators, else a constant in the product after the integers."""
    positions = {"DynamicQuantizeMatMul": 2, "MatMulIntegerToFloat": 3, "QAttention": 4}
    if node.op in positions:
        at = positions[node.op]
        return scope.constant(node.inputs[at]) if at < len(node.inputs) else None
    names = [*node.outputs]
    for _ in range(4):
        takers = [taker for name in names for taker in scope.takers(name)]
        for taker in takers:
            if taker.op == "Mul":
                for name in taker.inputs:
                    product = scope.producer(name)
                    if product is not None and product.op == "Mul":
                        constants = [scope.constant(n) for n in product.inputs]
                        found = next((c for c in constants if c is not None), None)
                        if found is not None:
                            return found
        names = [name for taker in takers if taker.op in ("Cast", "Reshape") for name in taker.outputs]
    return None


def _dynamic_point(scope: Scope, node: Node) -> StoredTensor | None:
    at = {"DynamicQuantizeMatMul": 3, "MatMulIntegerToFloat": 5, "QAttention": 7}.get(node.op, 3)
    return scope.constant(node.inputs[at]) if at < len(node.inputs) else None
