"""Shapes of every value of an ONNX graph for one call: a light propagation, unknown axes stay -1.

Operator semantics: onnx.ai/onnx/operators; com.microsoft: ContribOperators.md of ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.arrays import Array
from edgekit.compression.layer_shapes import layer_shape
from edgekit.compression.network import Graph, Node, inner_graphs, ordered
from edgekit.compression.values import FOLD_LIMIT, fold
from edgekit.compression.values import UNKNOWN as UNKNOWN_NUMBER
from edgekit.compression.weights import Weights
from edgekit.formats import StoredTensor

Shape = tuple[int, ...]
UNKNOWN = -1

_SAME = frozenset(
    (
        "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "Elu", "Selu", "HardSigmoid", "HardSwish", "Softplus",
        "Softsign", "Erf", "Exp", "Log", "Sqrt", "Abs", "Neg", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Cast",
        "Identity", "Dropout", "BatchNormalization", "InstanceNormalization", "LayerNormalization",
        "GroupNormalization", "LpNormalization", "Softmax", "LogSoftmax", "Hardmax", "QuantizeLinear",
        "DequantizeLinear", "DynamicQuantizeLinear", "Not", "IsNaN", "Gelu", "FastGelu", "BiasGelu", "QuickGelu",
        "SkipLayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization", "CumSum", "LRN", "Mish",
        "SkipSimplifiedLayerNormalization", "ThresholdedRelu", "Reciprocal", "PRelu", "ScatterND", "ScatterElements",
        "Trilu", "Swish", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "RotaryEmbedding",
    )
)  # fmt: skip
_BROADCAST = frozenset(
    (
        "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mod", "And", "Or", "Xor", "Equal", "Greater", "Less",
        "GreaterOrEqual", "LessOrEqual", "Where", "Sum", "Mean", "QLinearAdd", "QLinearMul", "BitShift",
    )
)  # fmt: skip


class Shapes:
    """Shape of each value by name; a value whose rank is not known is not in it."""

    def __init__(self, weights: Weights) -> None:
        self.known: dict[str, Shape] = {}
        self.values: dict[str, Array] = {}
        self._sizes: dict[str, int] = {}
        self._weights = weights

    def of(self, name: str) -> Shape | None:
        """The shape of a value, -1 for unknown axes; None when not even the rank is known."""
        return self.known.get(name)

    def run(self, graph: Graph, inputs: Mapping[str, Shape]) -> None:
        """Propagate through a graph (inner ones too) from its inputs' shapes."""
        self.known.update(inputs)
        for given in graph.inputs:
            known = zip(given.symbols, self.known.get(given.name, ()))
            self._sizes.update({symbol: size for symbol, size in known if symbol and size >= 0})
        for name, tensor in graph.constants.items():
            self.known[name] = tensor.shape
            if tensor.datatype in ("INT64", "INT32") and tensor.size_bytes <= 8 * FOLD_LIMIT:
                value = self._weights.read(tensor, FOLD_LIMIT)
                if value is not None:
                    self.values[name] = value.reshape(tensor.shape)
        for node in ordered(graph):
            self._node(node)
            for name in node.outputs:
                declared = graph.values.get(name)
                if declared is not None and declared.shape is not None:
                    symbols = declared.symbols or ("",) * len(declared.shape)
                    sized = zip(declared.shape, symbols)
                    self._take_declared(name, tuple(self._sizes.get(s, d) if d < 0 else d for d, s in sized))

    def _take_declared(self, name: str, declared: Shape) -> None:
        """What the file says fills the gaps; what was computed for this call stands."""
        computed = self.known.get(name)
        if computed is None:
            self.known[name] = declared
        elif len(computed) == len(declared):
            self.known[name] = tuple(d if c < 0 else c for c, d in zip(computed, declared))

    def _node(self, node: Node) -> None:
        for name, value in _constant_attribute(node):
            self.values[name], self.known[name] = value, value.shape
        shapes = [self.known.get(name) if name else None for name in node.inputs]
        if node.op in ("If", "Loop", "Scan"):
            self._inner(node)
            return
        if node.op == "Shape" and node.outputs and shapes and shapes[0] is not None:
            start, end = node.attributes.get("start", 0), node.attributes.get("end")
            self.values[node.outputs[0]] = _as_numbers(shapes[0][start:end])
        elif node.op == "Size" and node.outputs and shapes and shapes[0] is not None and UNKNOWN not in shapes[0]:
            self.values[node.outputs[0]] = np.asarray(int(np.prod(shapes[0])), np.int64)
        elif node.op == "ConstantOfShape" and node.outputs:
            self._filled(node)
        elif node.inputs and node.outputs and any(name in self.values for name in node.inputs):
            folded = fold(node, [self.values.get(name) if name else None for name in node.inputs])
            if folded is not None:
                self.values[node.outputs[0]] = folded
        try:
            found = self._infer(node, shapes)
        except (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError, KeyError):
            found = []
        for name, shape in zip(node.outputs, found):
            if name and shape is not None and len(shape) <= 32:
                self.known[name] = tuple(int(axis) if axis >= 0 else UNKNOWN for axis in shape)
        for name in node.outputs[:1]:
            if name in self.values and name not in self.known:
                self.known[name] = self.values[name].shape

    def _filled(self, node: Node) -> None:
        """ConstantOfShape of whole numbers: exporters compare with it to see which axes to expand."""
        wanted, held = self.values.get(node.inputs[0]), node.attributes.get("value")
        if wanted is None or wanted.ndim != 1 or UNKNOWN_NUMBER in wanted or not 0 <= wanted.prod() <= FOLD_LIMIT:
            return
        fill = self._weights.read(held, 1) if isinstance(held, StoredTensor) else None
        if fill is not None and fill.size and fill.dtype.kind in "iub":
            shape = tuple(int(v) for v in wanted)
            self.values[node.outputs[0]] = np.full(shape, int(fill.reshape(-1)[0]), np.int64)

    def _inner(self, node: Node) -> None:
        """Each branch from the outer values; outputs take the shape of the last branch that knows it."""
        for graph in inner_graphs(node):
            declared = {v.name: v.shape for v in graph.inputs if v.shape is not None}
            self.run(graph, declared)
            names = graph.outputs if node.op == "If" else graph.outputs[-len(node.outputs) :]
            for outer, inner in zip(node.outputs, names):
                if inner in self.known:
                    self.known[outer] = self.known[inner]

    def _ints(self, node: Node, position: int, attribute: str) -> list[int] | None:
        """A list of whole numbers given as an input (newer opsets) or an attribute (older ones)."""
        if len(node.inputs) > position and node.inputs[position]:
            value = self.values.get(node.inputs[position])
            return None if value is None or UNKNOWN_NUMBER in value else [int(v) for v in value.reshape(-1)]
        found = node.attributes.get(attribute)
        return list(found) if isinstance(found, tuple) and found else None

    def _infer(self, node: Node, shapes: list[Shape | None]) -> list[Shape | None]:
        op = node.op
        first = shapes[0] if shapes else None
        if op in _SAME:
            return [first] + ([first] if op == "Dropout" else [(), ()] if op == "DynamicQuantizeLinear" else [])
        if op in _BROADCAST:
            given = shapes[0::3][:2] if op.startswith("QLinear") else shapes
            return [None] if None in given else [_broadcast([s for s in given if s is not None])]
        if op == "Constant" and node.outputs:
            return [self.known.get(node.outputs[0])]
        if op in ("ConstantOfShape", "Expand", "Tile", "Range", "Shape", "Reshape", "Resize", "Upsample"):
            return [self._from_values(node, first)]
        if op == "Split":
            return list(self._split(node, first))
        if first is None:
            return []
        return layer_shape(node, shapes) or self._moved(node, first, shapes)

    def _from_values(self, node: Node, first: Shape | None) -> Shape | None:
        op = node.op
        if op == "Shape":
            return (
                None if first is None else (len(first[node.attributes.get("start", 0) : node.attributes.get("end")]),)
            )
        if op == "Range":
            made = self.values.get(node.outputs[0])
            return (UNKNOWN,) if made is None else made.shape
        if op == "ConstantOfShape":
            wanted = self.values.get(node.inputs[0])
            return None if wanted is None else _as_shape(wanted)
        if op in ("Resize", "Upsample"):
            return self._resized(node, first)
        wanted = self.values.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if wanted is None and op == "Reshape" and isinstance(node.attributes.get("shape"), tuple):
            wanted = np.asarray(node.attributes["shape"])
        if wanted is None:
            declared = self.known.get(node.inputs[1]) if len(node.inputs) > 1 else None
            return (UNKNOWN,) * declared[0] if declared and len(declared) == 1 and 0 <= declared[0] <= 32 else None
        target = _as_shape(wanted)
        if op == "Expand":
            return None if first is None else _broadcast([first, target])
        if op == "Tile":
            return None if first is None else tuple(_times(a, b) for a, b in zip(first, target))
        return _reshaped(first, target, bool(node.attributes.get("allowzero", 0)))

    def _resized(self, node: Node, first: Shape | None) -> Shape | None:
        if first is None:
            return None
        if len(node.inputs) > 3 and node.inputs[3]:
            sizes = self.values.get(node.inputs[3])
            return None if sizes is None else _as_shape(sizes)
        return None

    def _split(self, node: Node, first: Shape | None) -> list[Shape]:
        if first is None:
            return []
        axis = node.attributes.get("axis", 0) % len(first)
        sizes = self._ints(node, 1, "split")
        count = len(node.outputs)
        if sizes is None:
            part = -(-first[axis] // count) if first[axis] >= 0 else UNKNOWN
            sizes = [part] * (count - 1) + [first[axis] - part * (count - 1) if part >= 0 else UNKNOWN]
        return [(*first[:axis], size, *first[axis + 1 :]) for size in sizes]

    def _moved(self, node: Node, first: Shape, shapes: list[Shape | None]) -> list[Shape | None]:
        """Operators that move axes about."""
        op, attributes = node.op, node.attributes
        rank = len(first)
        if op == "Transpose":
            order = attributes.get("perm") or tuple(range(rank))[::-1]
            return [tuple(first[i] for i in order)]
        if op == "Flatten":
            axis = attributes.get("axis", 1)
            return [(_product(first[:axis]), _product(first[axis:]))]
        if op == "Unsqueeze":
            axes = self._ints(node, 1, "axes")
            if axes is None:
                return []
            total = rank + len(axes)
            places = {a % total for a in axes}
            rest = iter(first)
            return [tuple(1 if i in places else next(rest) for i in range(total))]
        if op == "Squeeze":
            axes = self._ints(node, 1, "axes")
            gone = {a % rank for a in axes} if axes is not None else {i for i, v in enumerate(first) if v == 1}
            return [tuple(v for i, v in enumerate(first) if i not in gone)]
        if op == "Concat":
            return [_concatenated(shapes, attributes.get("axis", 0))]
        if op == "QLinearConcat":
            return [_concatenated(shapes[2::3], attributes.get("axis", 0))]
        if op in ("Gather", "GatherBlockQuantized"):
            index = shapes[1]
            axis = attributes.get("axis", attributes.get("gather_axis", 0)) % rank
            return [None if index is None else (*first[:axis], *index, *first[axis + 1 :])]
        if op in ("GatherElements", "GatherND"):
            return [shapes[1]] if op == "GatherElements" else []
        if op == "Slice":
            return [self._sliced(node, first)]
        if op == "Pad":
            pads = self._ints(node, 1, "pads")
            if pads is None or len(pads) != 2 * rank:
                return [(UNKNOWN,) * rank]
            return [tuple(v if v < 0 else v + pads[i] + pads[i + rank] for i, v in enumerate(first))]
        if op.startswith("Reduce") or op in ("ArgMax", "ArgMin"):
            return [self._reduced(node, first)]
        if op == "DepthToSpace":
            b = attributes["blocksize"]
            return [(first[0], first[1] // (b * b), _times(first[2], b), _times(first[3], b))]
        if op == "SpaceToDepth":
            b = attributes["blocksize"]
            return [(first[0], first[1] * b * b, first[2] // b, first[3] // b)]
        return []

    def _sliced(self, node: Node, first: Shape) -> Shape:
        starts, ends = self._ints(node, 1, "starts"), self._ints(node, 2, "ends")
        axes, steps = self._ints(node, 3, "axes"), self._ints(node, 4, "steps")
        touched = list(range(len(starts or ()))) if axes is None else [a % len(first) for a in axes]
        shape = list(first)
        if axes is None and len(node.inputs) > 3 and node.inputs[3]:
            return (UNKNOWN,) * len(first)
        if starts is None or ends is None:
            lost = range(len(first)) if axes is None else touched
            return tuple(UNKNOWN if i in lost else axis for i, axis in enumerate(first))
        for at, axis in enumerate(touched):
            step = steps[at] if steps else 1
            if shape[axis] >= 0:
                shape[axis] = len(range(*slice(starts[at], ends[at], step).indices(shape[axis])))
            elif not (starts[at] == 0 and ends[at] > 1 << 30):
                shape[axis] = ends[at] - starts[at] if 0 <= starts[at] < ends[at] < 1 << 30 and step == 1 else UNKNOWN
        return tuple(shape)

    def _reduced(self, node: Node, first: Shape) -> Shape:
        rank = len(first)
        keep = node.attributes.get("keepdims", 1)
        if node.op in ("ArgMax", "ArgMin"):
            gone = {node.attributes.get("axis", 0) % rank}
        else:
            axes = self._ints(node, 1, "axes")
            none = axes is None and node.attributes.get("noop_with_empty_axes", 0)
            gone = set() if none else {a % rank for a in axes} if axes is not None else set(range(rank))
        return tuple(1 if i in gone else v for i, v in enumerate(first) if keep or i not in gone)


def _constant_attribute(node: Node) -> list[tuple[str, Array]]:
    """Constants written as plain numbers (value_int, value_ints)."""
    if node.op != "Constant" or not node.outputs:
        return []
    for key in ("value_int", "value_ints"):
        if key in node.attributes:
            return [(node.outputs[0], np.asarray(node.attributes[key], np.int64))]
    return []


def _as_numbers(shape: Shape) -> Array:
    return np.asarray([axis if axis >= 0 else UNKNOWN_NUMBER for axis in shape], np.int64)


def _as_shape(numbers: Array) -> Shape:
    return tuple(max(int(v), UNKNOWN) for v in numbers.reshape(-1))


def _times(a: int, b: int) -> int:
    return a * b if a >= 0 and b >= 0 else UNKNOWN


def _product(axes: Sequence[int]) -> int:
    total = 1
    for axis in axes:
        total = _times(total, axis)
    return total


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    rank = max(map(len, shapes))
    found = []
    for column in zip(*((1,) * (rank - len(s)) + tuple(s) for s in shapes)):
        sizes = {v for v in column if v != 1}
        found.append(1 if not sizes else max(sizes) if len(sizes) == 1 or max(sizes) > 1 else UNKNOWN)
    return tuple(found)


def _reshaped(first: Shape | None, target: Shape, allow_zero: bool) -> Shape:
    shape = list(target)
    for i, axis in enumerate(shape):
        if axis == 0 and not allow_zero:
            shape[i] = first[i] if first is not None and i < len(first) else UNKNOWN
    if shape.count(UNKNOWN) == 1 and first is not None and UNKNOWN not in first:
        rest = _product([v for v in shape if v != UNKNOWN])
        if rest > 0:
            shape[shape.index(UNKNOWN)] = _product(first) // rest
    return tuple(shape)


def _concatenated(shapes: Sequence[Shape | None], axis: int) -> Shape | None:
    known = [s for s in shapes if s is not None]
    if not known:
        return None
    at = axis % len(known[0])
    sizes = [s[at] for s in known]
    whole = len(known) == len(shapes) and all(v >= 0 for v in sizes)
    merged = [max(column) for column in zip(*known)]
    merged[at] = sum(sizes) if whole else UNKNOWN
    return tuple(merged)
