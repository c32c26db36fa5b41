"""Who makes and who takes a value; and where the weight that a layer uses comes from, through what is in between."""

from __future__ import annotations

from typing import NamedTuple

from edgekit.compression.network import Graph, Node, inner_graphs
from edgekit.formats import StoredTensor

STEP_LIMIT = 16

PASSING = frozenset(
    ("Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "QuantizeLinear", "Flatten", "RESHAPE",
     "TRANSPOSE", "CAST", "QUANTIZE", "EXPAND_DIMS", "SQUEEZE")
)  # fmt: skip
"""Operators that hand a weight on."""

RESTORING = frozenset(("DequantizeLinear", "DEQUANTIZE"))


class Scope:
    """The values of a graph, with those of the graphs around it."""

    def __init__(self, graph: Graph, outer: Scope | None = None) -> None:
        self.graph = graph
        self.outer = outer
        self.producers: dict[str, Node] = {name: node for node in graph.nodes for name in node.outputs if name}
        self.consumers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in dict.fromkeys(node.inputs):
                self.consumers.setdefault(name, []).append(node)

    def constant(self, name: str) -> StoredTensor | None:
        """The constant of this name, here or further out."""
        scope: Scope | None = self
        while scope is not None and name:
            if name in scope.graph.constants:
                return scope.graph.constants[name]
            if name in scope.producers:
                return None
            scope = scope.outer
        return None

    def producer(self, name: str) -> Node | None:
        """The node that makes a value, here or further out."""
        scope: Scope | None = self
        while scope is not None and name:
            if name in scope.producers:
                return scope.producers[name]
            scope = scope.outer
        return None

    def takers(self, name: str) -> list[Node]:
        """The nodes of this graph that take a value."""
        return self.consumers.get(name, [])


def scopes(graph: Graph, outer: Scope | None = None) -> list[Scope]:
    """The scope of a graph and of every graph inside it."""
    own = Scope(graph, outer)
    found = [own]
    for node in graph.nodes:
        for inner in inner_graphs(node):
            found += scopes(inner, own)
    return found


class Source(NamedTuple):
    """Where a weight comes from.

    tensor: the stored numbers; for a clustered weight the indices, with the codebook beside. steps: the operators on
    the way, nearest to the tensor first. scale, zero_point: names in a DequantizeLinear. order: how its axes are
    arranged on arrival, null when a reshape lost that. mask: a constant that it is multiplied with.
    """

    tensor: StoredTensor
    steps: tuple[str, ...]
    scale: StoredTensor | None
    zero_point: StoredTensor | None
    axis: int
    block: int
    codebook: StoredTensor | None
    mask: StoredTensor | None
    order: tuple[int, ...] | None


def source_of(scope: Scope, name: str, steps_left: int = STEP_LIMIT) -> Source | None:
    """The constant behind a value, None when the value depends on the inputs."""
    tensor = scope.constant(name)
    if tensor is not None:
        return Source(tensor, (), None, None, 0, 0, None, None, tuple(range(len(tensor.shape))))
    node = scope.producer(name)
    if node is None or steps_left == 0 or not node.inputs:
        return None
    if node.op in ("Gather", "GATHER"):
        return _looked_up(scope, node, steps_left)
    if node.op in ("Mul", "MUL") and len(node.inputs) == 2:
        return _masked(scope, node, steps_left)
    if node.op not in PASSING and node.op not in RESTORING:
        return None
    found = source_of(scope, node.inputs[0], steps_left - 1)
    if found is None:
        return None
    found = found._replace(steps=(*found.steps, node.op))
    if node.op == "DequantizeLinear":
        axis, block = node.attributes.get("axis", 1), node.attributes.get("block_size", 0)
        point = scope.constant(node.inputs[2]) if len(node.inputs) > 2 else None
        return found._replace(
            scale=scope.constant(node.inputs[1]),
            zero_point=point,
            axis=axis if isinstance(axis, int) else 1,
            block=block,
        )
    if node.op in ("Transpose", "TRANSPOSE") and found.order is not None:
        given = node.attributes.get("perm") if node.op == "Transpose" else None
        rank = len(found.order)
        order = given if isinstance(given, tuple) and given else tuple(range(rank))[::-1]
        if sorted(order) == list(range(rank)) and node.op == "Transpose":
            return found._replace(order=tuple(found.order[i] for i in order))
        return found._replace(order=None)
    if node.op in ("Reshape", "RESHAPE", "Flatten", "Squeeze", "Unsqueeze", "SQUEEZE", "EXPAND_DIMS"):
        return found._replace(order=found.order if found.codebook is not None else None)
    return found


def _looked_up(scope: Scope, node: Node, steps_left: int) -> Source | None:
    """W = codebook[index]: both are constants."""
    # Halved, so that the work of a hostile chain stays small where the way parts.
    table = source_of(scope, node.inputs[0], steps_left // 2)
    index = source_of(scope, node.inputs[1], steps_left // 2) if len(node.inputs) > 1 else None
    if table is None or index is None:
        return None
    return index._replace(
        codebook=table.tensor,
        scale=table.scale,
        zero_point=table.zero_point,
        steps=(*index.steps, node.op),
        order=tuple(range(len(index.tensor.shape))),
    )


def _masked(scope: Scope, node: Node, steps_left: int) -> Source | None:
    """W' = W * M: both are constants of the same shape."""
    pair = [source_of(scope, name, steps_left // 2) for name in node.inputs]
    if pair[0] is None or pair[1] is None or pair[0].tensor.shape != pair[1].tensor.shape:
        return None
    return pair[0]._replace(mask=pair[1].tensor, steps=(*pair[0].steps, node.op))
