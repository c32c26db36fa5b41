"""What compression left in the wiring: low-rank pairs, shared and clustered weights, folded and fused operators."""

from __future__ import annotations

import hashlib
from collections import Counter

from edgekit.compression.layers import EMBEDDINGS, Layer
from edgekit.compression.network import Graph, Network, Node, element_count, walk
from edgekit.compression.weights import Weights
from edgekit.compression.wiring import Scope, source_of
from edgekit.formats import StoredTensor
from edgekit.records import Record

SHARED_MIN_ELEMENTS = 256
BETWEEN = frozenset(
    (
        "Identity",
        "QuantizeLinear",
        "DequantizeLinear",
        "Reshape",
        "Cast",
        "QUANTIZE",
        "DEQUANTIZE",
        "Dropout",
        "RESHAPE",
    )
)
"""Operators between two factors that leave the product linear."""


class LowRank(Record):
    """Two consecutive linear layers W = U V. rank: of the product; full: of one matrix in their place.

    kept: their parameters as a share of that matrix's.
    """

    first: str
    second: str
    rank: int
    full: int
    kept: float


class Shared(Record):
    """One constant in several places; copies: how often the same bytes are stored (1: stored once, used by all)."""

    tensor: str
    users: tuple[str, ...]
    copies: int
    size_bytes: int


class Folding(Record):
    """batch_normalizations: nodes left. after_convolution: of them right after a convolution, where they could be
    folded. biased: convolutions with a bias. fused_activations, fused_operators: by name."""

    convolutions: int
    biased: int
    batch_normalizations: int
    after_convolution: int
    fused_activations: dict[str, int]
    fused_operators: dict[str, int]


def low_rank_pairs(layers: list[Layer], weights: Weights) -> list[LowRank]:
    """The pairs whose inner rank is below both outer sizes and that save parameters.

    A bias (other than zeros) on the first layer or an activation in between makes it a bottleneck by design, not
    the factors of one matrix. Where the two weights are convolutions one of them may look beyond its pixel only.
    """
    by_node = {id(layer.node): layer for layer in layers if layer.node.op not in EMBEDDINGS}
    found = []
    for first in by_node.values():
        second = _next_linear(first, by_node)
        if second is None or first.node.attributes.get("activation") or _has_bias(first, weights):
            continue
        a, b = _matrix(first), _matrix(second)
        if a is None or b is None or a[1] != b[0] // _window(second):
            continue
        rank, inputs, outputs = a[1], a[0], b[1] * _window(second)
        full = min(inputs, outputs)
        whole = inputs * outputs
        pair = first.parameters + second.parameters
        if rank < inputs and rank < outputs and pair < whole and min(_window(first), _window(second)) in (1, 3, 5, 7):
            found.append(LowRank(first=first.name, second=second.name, rank=rank, full=full, kept=pair / whole))
    return found


def _next_linear(layer: Layer, by_node: dict[int, Layer]) -> Layer | None:
    """The linear layer that takes this one's output as its data, alone, through nothing that bends it."""
    names = layer.node.outputs[:1]
    for _ in range(4):
        if not names or names[0] in layer.scope.graph.outputs:
            return None
        takers = layer.scope.takers(names[0])
        if len(takers) != 1:
            return None
        taker = takers[0]
        if id(taker) in by_node:
            return by_node[id(taker)] if taker.inputs[0] == names[0] else None
        if taker.op not in BETWEEN or taker.inputs[0] != names[0]:
            return None
        names = taker.outputs[:1]
    return None


def _has_bias(layer: Layer, weights: Weights) -> bool:
    position = {"QLinearConv": 8, "QGemm": 6}.get(layer.node.op, 2)
    if layer.node.op in ("MatMul", "MatMulInteger", "MatMulNBits", "QLinearMatMul") or position >= len(
        layer.node.inputs
    ):
        return False
    if not layer.node.inputs[position]:
        return False
    source = source_of(layer.scope, layer.node.inputs[position])
    if source is None:
        return True
    numbers = weights.read(source.tensor, 1 << 16)
    return numbers is None or bool(numbers.any())


def _matrix(layer: Layer) -> tuple[int, int] | None:
    """(summed, outputs) of a layer's weight as one matrix; None for grouped convolutions and lost axes."""
    tensor = layer.tensor
    if layer.node.attributes.get("group", 1) != 1 or layer.node.op == "DEPTHWISE_CONV_2D" or layer.channel < 0:
        return None
    if layer.node.op in ("LSTM", "GRU", "RNN", "ConvTranspose", "TRANSPOSE_CONV", "Attention", "QAttention"):
        return None
    if layer.node.op == "MatMulNBits":
        return layer.node.attributes.get("K", 0), layer.node.attributes.get("N", 0)
    outputs = tensor.shape[layer.channel]
    return (element_count(tensor.shape) // outputs, outputs) if outputs else None


def _window(layer: Layer) -> int:
    """Pixels that one output of a convolution looks at; 1 for a matrix."""
    if len(layer.tensor.shape) < 3 or layer.reduced < 0 or not layer.tensor.shape[layer.channel]:
        return 1
    both = layer.tensor.shape[layer.channel] * layer.tensor.shape[layer.reduced]
    return element_count(layer.tensor.shape) // both if both else 1


def shared_constants(network: Network, layers: list[Layer], weights: Weights) -> list[Shared]:
    """Weights that several layers use, and weights whose bytes are stored more than once."""
    groups: dict[tuple[str, int, str], list[Layer]] = {}
    for layer in layers:
        tensor = layer.source.codebook or layer.source.tensor
        groups.setdefault((tensor.location, tensor.offset, tensor.name), []).append(layer)
    tensors = {key: group[0].source.codebook or group[0].source.tensor for key, group in groups.items()}
    users = {key: list(dict.fromkeys(layer.name for layer in group)) for key, group in groups.items()}
    found: list[Shared] = []
    by_bytes: dict[tuple[int, str, tuple[int, ...]], list[tuple[str, int, str]]] = {}
    for key, group in groups.items():
        tensor = tensors[key]
        is_large = element_count(tensor.shape) >= SHARED_MIN_ELEMENTS
        # Both branches of an If (a merged decoder) use the same weights and only one of them runs.
        at_once = Counter(id(layer.scope) for layer in group)
        if max(at_once.values()) > 1 and (is_large or group[0].source.codebook is not None):
            found.append(Shared(tensor=tensor.name, users=tuple(users[key]), copies=1, size_bytes=tensor.size_bytes))
        if is_large:
            by_bytes.setdefault((tensor.size_bytes, tensor.datatype, tensor.shape), []).append(key)
    for keys in by_bytes.values():
        found += _copies(keys, tensors, users, weights) if len(keys) > 1 else []
    return found


def _copies(
    keys: list[tuple[str, int, str]],
    tensors: dict[tuple[str, int, str], StoredTensor],
    users: dict[tuple[str, int, str], list[str]],
    weights: Weights,
) -> list[Shared]:
    alike: dict[bytes, list[tuple[str, int, str]]] = {}
    for key in keys:
        seen = hashlib.sha256()
        for piece in weights.raw(tensors[key]):
            seen.update(piece)
        alike.setdefault(seen.digest(), []).append(key)
    found = []
    for same in alike.values():
        places = {key[:2] for key in same}
        if len(same) > 1:
            first = tensors[same[0]]
            everyone = tuple(name for key in same for name in users[key])
            size = first.size_bytes
            found.append(Shared(tensor=first.name, users=everyone, copies=len(places), size_bytes=size))
    return found


FUSED = frozenset(
    ("FusedConv", "FusedGemm", "FusedMatMul", "Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention",
     "SkipLayerNormalization", "EmbedLayerNormalization", "BiasGelu", "FastGelu", "Gelu", "QuickGelu", "NhwcFusedConv",
     "LayerNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", "QGemm",
     "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "RotaryEmbedding")
)  # fmt: skip
_CONVOLUTIONS = frozenset(("Conv", "FusedConv", "QLinearConv", "ConvInteger", "CONV_2D", "DEPTHWISE_CONV_2D"))


def folding(network: Network) -> Folding:
    """Batch normalisations and activations: folded into their layer, or left beside it."""
    convolutions = biased = normalizations = after = 0
    activations: Counter[str] = Counter()
    fused: Counter[str] = Counter()
    for root in (network.main, *network.others):
        producers = {name: node for graph, node in walk(root) for name in node.outputs}
        for graph, node in walk(root):
            if node.op in _CONVOLUTIONS:
                convolutions += 1
                biased += _is_biased(node, graph)
            if node.op == "BatchNormalization" and node.inputs:
                normalizations += 1
                before = producers.get(node.inputs[0])
                after += before is not None and before.op in ("Conv", "ConvTranspose")
            if node.op in FUSED and (node.domain or node.op not in ("LayerNormalization", "Gelu")):
                fused[node.op] += 1
            activation = node.attributes.get("activation")
            if isinstance(activation, str) and activation:
                activations[activation] += 1
    return Folding(
        convolutions=convolutions,
        biased=biased,
        batch_normalizations=normalizations,
        after_convolution=after,
        fused_activations=dict(sorted(activations.items())),
        fused_operators=dict(sorted(fused.items())),
    )


def _is_biased(node: Node, graph: Graph) -> bool:
    position = 8 if node.op == "QLinearConv" else 2
    return len(node.inputs) > position and bool(node.inputs[position])


def bias_scale_error(layer: Layer, scope: Scope) -> float | None:
    """How far a TFLite bias's scales are from input scale times weight scale, as a factor; null where not given.

    LiteRT's quantisation specification: a bias is stored with exactly that product as its scale.
    """
    node, weight = layer.node, layer.source.tensor.quantization
    if layer.scheme != "integer" or weight is None or len(node.inputs) < 3 or not node.inputs[2]:
        return None
    bias = scope.constant(node.inputs[2])
    data = scope.graph.values.get(node.inputs[0])
    if bias is None or bias.quantization is None or data is None or data.quantization is None:
        return None
    stored = bias.quantization.scales
    expected = [data.quantization.scales[0] * s for s in weight.scales]
    if len(expected) == 1 < len(stored):
        expected *= len(stored)
    if len(stored) != len(expected):
        return None
    worst = 1.0
    for a, b in zip(stored, expected):
        if a > 0 and b > 0:
            worst = max(worst, a / b, b / a)
        elif a != b:
            return float("inf")
    return worst
