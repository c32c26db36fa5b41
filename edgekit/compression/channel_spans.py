"""Where the channels that a layer of an ONNX graph makes go, up to the layers that sum over them.

A span is what must change with a layer's channels: normalisation, bias and slope tensors, depthwise filters, the
shape of a reshape, and the summed axis of the layers at its end. Where the graph does something else with the
channels there is none, and a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgekit.arrays import Array
from edgekit.compression.weight_edits import Weight, attribute, names_read

# f(0) = 0
_KEEPS_ZERO = frozenset(
    ("Relu", "LeakyRelu", "Tanh", "Elu", "Selu", "Celu", "Gelu", "HardSwish", "Mish", "Softsign", "ThresholdedRelu",
     "Identity", "Dropout", "Erf", "Abs", "Neg", "Sqrt", "Sin")
)  # fmt: skip
_LOSES_ZERO = frozenset(("Sigmoid", "HardSigmoid", "Softplus", "Exp"))
_POOLS = frozenset(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"))
_BINARY = frozenset(("Add", "Sub", "Mul", "Div", "PRelu"))


class Edit(NamedTuple):
    """A tensor that has an axis of these channels. repeat: how often in a row each stands on it.

    masked: whether the mask is applied to it as well, so that the channel stays zero.
    """

    node: Any
    at: int
    axis: int
    repeat: int
    masked: bool


class Span(NamedTuple):
    """What changes with the channels. depthwise: convolutions whose groups are these; shapes: the reshapes, with
    both lengths of their result; values: whose shapes change."""

    edits: tuple[Edit, ...]
    depthwise: tuple[Any, ...]
    shapes: tuple[tuple[Any, int, int], ...]
    values: tuple[str, ...]


OUTPUT = "they are an output of the graph"


class _Refused(Exception):
    """Why channels cannot be followed."""


class _State(NamedTuple):
    """How a value has the channels. rank: of the value, null where not known; their axis is 1, or the last one where
    `last`. repeat: null after a flattening whose length is not known yet. zero: whether a masked channel is zero."""

    last: bool
    rank: int | None
    repeat: int | None
    zero: bool


class Graph:
    """What the walk asks of a graph."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.nodes: Sequence[Any] = list(model.graph.node)
        self.outputs = {o.name for o in model.graph.output}
        self.shapes: Mapping[str, tuple[int, ...]] = {t.name: tuple(t.dims) for t in model.graph.initializer}
        self.takers: dict[str, int] = {}
        self.inner: set[str] = set()
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.takers[name] = self.takers.get(name, 0) + 1
            for item in node.attribute:
                for inner in (item.g, *item.graphs):
                    self.inner |= names_read(inner)
        small = {t.name: t for t in model.graph.initializer if int(np.prod(t.dims)) <= 64}
        constants = {
            n.output[0]: a.t for n in self.nodes if n.op_type == "Constant" for a in n.attribute if a.name == "value"
        }
        self._small = {**small, **constants}
        self._read = numpy_helper.to_array

    def numbers(self, name: str) -> Array | None:
        """A small constant."""
        return np.asarray(self._read(self._small[name])) if name in self._small else None


def find_span(graph: Graph, weight: Weight) -> Span | str:
    """The span of a layer's output channels, or why there is none."""
    try:
        return _Walk(graph, weight).span()
    except _Refused as reason:
        return str(reason)


class _Walk:
    def __init__(self, graph: Graph, weight: Weight) -> None:
        self.graph = graph
        self.weight = weight
        self.count = int(weight.array.shape[weight.outputs])
        self.carried: dict[str, _State] = {}
        self.edits: list[Edit] = []
        self.depthwise: list[Any] = []
        self.shapes: list[tuple[Any, int, int]] = []

    def span(self) -> Span:
        node, array = self.weight.node, self.weight.array
        if self.graph.takers[self.weight.name] > 1:
            raise _Refused("its weight is shared")
        conv = node.op_type == "Conv"
        if conv and attribute(node, "group", 1) != 1:
            raise _Refused("it has groups, whose channels follow the layer before")
        rank = array.ndim if conv else (2 if node.op_type == "Gemm" else None)
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2 and node.input[2]:
            self._edit(node, 2, _State(True, 1, 1, True), masked=True)
        self.carried[node.output[0]] = _State(not conv, rank, 1, True)
        handled = dict.fromkeys(self.carried, 0)
        for other in self.graph.nodes:
            taken = [name for name in dict.fromkeys(other.input) if name in self.carried]
            if taken:
                before = set(self.carried)
                self._through(other, taken)
                for name in taken:
                    handled[name] += 1
                handled |= dict.fromkeys(set(self.carried) - before, 0)
        for name, times in handled.items():
            if name in self.graph.outputs:
                raise _Refused(OUTPUT)
            if name in self.graph.inner or times != self.graph.takers.get(name, 0):
                raise _Refused("they go into a part of the graph that is not followed")
        if not any(handled.values()):
            raise _Refused("nothing takes them")
        return Span(tuple(self.edits), tuple(self.depthwise), tuple(self.shapes), tuple(self.carried))

    def _through(self, node: Any, taken: list[str]) -> None:
        op, state = node.op_type, self.carried[taken[0]]
        if op in _BINARY:
            return self._binary(node, taken)
        if len(taken) > 1 or node.input[0] != taken[0]:
            raise _Refused(f"{_called(node)} takes them in a way that is not followed")
        if op in _KEEPS_ZERO or (op == "Clip" and self._clips_around_zero(node)) or (op in _POOLS and not state.last):
            self.carried[node.output[0]] = state
        elif op in _LOSES_ZERO or op == "Clip":
            self.carried[node.output[0]] = state._replace(zero=False)
        elif op == "BatchNormalization" and (not state.last or state.rank == 2):
            for at in (1, 2, 3, 4):
                self._edit(node, at, _State(True, 1, state.repeat, True), masked=at < 3)
            self.carried[node.output[0]] = state._replace(zero=True)
        elif op in ("Flatten", "Reshape", "Squeeze", "ReduceMean") and not state.last:
            self._flatten(node, state)
        elif op == "Conv" and not state.last:
            self._convolution(node, state)
        elif op in ("Gemm", "MatMul") and state.last:
            self._sum(node, state)
        else:
            raise _Refused(f"{_called(node)} takes them")
        return None

    def _binary(self, node: Any, taken: list[str]) -> None:
        states = [self.carried[name] for name in taken]
        if len(node.input) == 2 and all(name in self.carried for name in node.input):
            first, second = states[0], states[-1]
            if node.op_type not in ("Add", "Sub", "Mul") or first._replace(zero=True) != second._replace(zero=True):
                raise _Refused(f"{_called(node)} joins them")
            zero = (first.zero or second.zero) if node.op_type == "Mul" else (first.zero and second.zero)
            self.carried[node.output[0]] = first._replace(zero=zero)
            return
        (state,) = states
        at = 1 - list(node.input).index(taken[0])
        shape = self.graph.shapes.get(node.input[at])
        numbers = self.graph.numbers(node.input[at])
        if shape is None and numbers is not None:
            shape = numbers.shape
        if shape is None:
            raise _Refused(f"{_called(node)} joins them with the channels of another layer")
        if at == 0 and node.op_type in ("Div", "PRelu"):
            raise _Refused(f"{_called(node)} takes them")
        shifts = node.op_type in ("Add", "Sub")
        if int(np.prod(shape)) == 1:
            zero = state.zero and (not shifts or (numbers is not None and not numbers.any()))
        else:
            self._edit(node, at, state, masked=shifts)
            zero = state.zero
        self.carried[node.output[0]] = state._replace(zero=zero)

    def _clips_around_zero(self, node: Any) -> bool:
        ends = [-np.inf, np.inf]
        for at, name in enumerate(("min", "max")):
            if len(node.input) > at + 1 and node.input[at + 1]:
                given = self.graph.numbers(node.input[at + 1])
                if given is None:
                    return False
                ends[at] = float(given.reshape(-1)[0])
            else:
                ends[at] = next((a.f for a in node.attribute if a.name == name), ends[at])
        return bool(ends[0] <= 0.0 <= ends[1])

    def _flatten(self, node: Any, state: _State) -> None:
        """To (batch, channels x positions), or what is left of a picture of one position."""
        flat = state._replace(last=True, rank=2, repeat=None)
        spatial = None if state.rank is None else set(range(2, state.rank))
        if node.op_type == "Flatten" and attribute(node, "axis", 1) == 1:
            self.carried[node.output[0]] = flat
        elif node.op_type == "Reshape" and attribute(node, "allowzero", 0) == 0:
            wanted = self.graph.numbers(node.input[1])
            if wanted is None or wanted.shape != (2,) or wanted[0] not in (-1, 0, 1):
                raise _Refused(f"{_called(node)} takes them")
            length = int(wanted[1])
            if length > 0:
                flat = flat._replace(repeat=self._repeat(node, length))
                self.shapes.append((node, int(wanted[0]), length))
            self.carried[node.output[0]] = flat
        elif node.op_type in ("Squeeze", "ReduceMean") and self._axes(node, state.rank) == spatial:
            kept = node.op_type == "ReduceMean" and attribute(node, "keepdims", 1) == 1
            self.carried[node.output[0]] = state if kept else state._replace(last=True, rank=2)
        else:
            raise _Refused(f"{_called(node)} takes them")

    def _axes(self, node: Any, rank: int | None) -> set[int]:
        given = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
        if given is None and len(node.input) > 1:
            numbers = self.graph.numbers(node.input[1])
            given = None if numbers is None else [int(n) for n in numbers.reshape(-1)]
        return {axis % (rank or 1) for axis in given or ()}

    def _convolution(self, node: Any, state: _State) -> None:
        group, shape = attribute(node, "group", 1), self._weight_shape(node)
        if group == 1:
            self._end(node, state, 1)
            return
        repeat = state.repeat or 1
        if not state.zero:
            raise _Refused(f"{_called(node)} takes them where they are not zero")
        if group != self.count * repeat or shape[1] != 1:
            raise _Refused(f"{_called(node)} has groups of several channels")
        wide = state._replace(repeat=repeat * (shape[0] // group), last=False)
        self.edits.append(Edit(node, 1, 0, wide.repeat or 1, False))
        if len(node.input) > 2 and node.input[2]:
            self._edit(node, 2, _State(True, 1, wide.repeat, True), masked=True)
        self.depthwise.append(node)
        self.carried[node.output[0]] = wide

    def _sum(self, node: Any, state: _State) -> None:
        shape = self._weight_shape(node)
        if len(shape) != 2 or attribute(node, "transA", 0):
            raise _Refused(f"{_called(node)} takes them")
        self._end(node, state, 1 if attribute(node, "transB", 0) else 0)

    def _end(self, node: Any, state: _State, axis: int) -> None:
        """A layer that sums over the channels: a channel that is zero adds nothing."""
        if not state.zero:
            raise _Refused(f"{_called(node)} takes them where they are not zero")
        length = self._weight_shape(node)[axis]
        repeat = self._repeat(node, length)
        if state.repeat not in (None, repeat):
            raise _Refused(f"{_called(node)} does not have them all")
        self.edits.append(Edit(node, 1, axis, repeat, False))

    def _weight_shape(self, node: Any) -> tuple[int, ...]:
        shape = self.graph.shapes.get(node.input[1])
        if shape is None:
            raise _Refused(f"{_called(node)} has no stored weight")
        return shape

    def _repeat(self, node: Any, length: int) -> int:
        if length % self.count:
            raise _Refused(f"{_called(node)} does not have them all")
        return length // int(self.count)

    def _edit(self, node: Any, at: int, state: _State, *, masked: bool) -> None:
        """A tensor beside the value, aligned to its last axis as numpy broadcasts."""
        shape = self.graph.shapes.get(node.input[at])
        if shape is None:
            raise _Refused(f"{_called(node)} takes them with a tensor that is not stored")
        axis = len(shape) - 1 if state.last else len(shape) - ((state.rank or 0) - 1)
        if axis < 0 or shape[axis] == 1:
            raise _Refused(f"{_called(node)} takes them with a tensor of another shape")
        repeat = self._repeat(node, shape[axis])
        if state.repeat not in (None, repeat):
            raise _Refused(f"{_called(node)} does not have them all")
        self.edits.append(Edit(node, at, axis, repeat, masked))


def _called(node: Any) -> str:
    return f"{node.op_type} '{node.name or node.output[0]}'"
