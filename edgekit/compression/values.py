"""The small whole numbers that ONNX graphs compute shapes with: folded where they are known.

Operator semantics: onnx.ai/onnx/operators.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.arrays import Array
from edgekit.compression.network import Node

FOLD_LIMIT = 4096
"""Elements; larger values are no shapes."""

UNKNOWN = -(1 << 40)
"""Stands for a number that is not known; -1 is one that graphs compute with."""

_BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum}
_COMPARE = {
    "Equal": np.equal, "Greater": np.greater, "Less": np.less, "And": np.logical_and, "Or": np.logical_or,
    "GreaterOrEqual": np.greater_equal, "LessOrEqual": np.less_equal,
}  # fmt: skip


def fold(node: Node, inputs: Sequence[Array | None]) -> Array | None:
    """The first output of a node over small known integers (UNKNOWN where a part is not known), or None."""
    given = [value for value in inputs if value is not None]
    if not given or any(value.size > FOLD_LIMIT for value in given):
        return None
    try:
        found = _fold(node, list(inputs))
    except (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError):
        return None
    return found if found is not None and found.size <= FOLD_LIMIT else None


def _fold(node: Node, inputs: list[Array | None]) -> Array | None:
    op, first = node.op, inputs[0]
    if op in ("Identity", "Cast"):
        return first
    if op == "Concat":
        parts = [value for value in inputs if value is not None]
        whole = len(parts) == len(inputs) and all(p.ndim == 1 for p in parts)
        return np.concatenate(parts) if whole else None
    if first is None:
        return None
    if op in _BINARY or op == "Div":
        return _arithmetic(op, first, inputs[1] if len(inputs) > 1 else None)
    if op in _COMPARE:
        second = inputs[1]
        if second is None or (op != "Equal" and (UNKNOWN in first or UNKNOWN in second)):
            return None
        # Exporters ask whether a size is -1 before they expand: one that is not known is not -1 either.
        return np.asarray(_COMPARE[op](first, second))
    if op == "Where" and inputs[1] is not None and inputs[2] is not None:
        return np.where(first.astype(bool), inputs[1], inputs[2])
    if op in ("Unsqueeze", "Squeeze"):
        return _resize_rank(node, inputs)
    if op == "Gather" and inputs[1] is not None and first.ndim == 1:
        return np.asarray(first[inputs[1]])
    if op == "Slice" and first.ndim == 1:
        return _slice(node, inputs)
    if op == "Reshape":
        return first.reshape(-1) if inputs[1] is not None and inputs[1].size == 1 else first
    if op == "ReduceProd" and UNKNOWN not in first:
        return np.asarray(first.prod()).reshape(1 if node.attributes.get("keepdims", 1) else ())
    if op == "Range" and all(v is not None and UNKNOWN not in v for v in inputs):
        start, limit, delta = (int(v.reshape(-1)[0]) for v in inputs if v is not None)
        return np.arange(start, limit, delta) if abs(limit - start) <= FOLD_LIMIT * abs(delta) else None
    if op in ("Neg", "Floor", "Ceil"):
        return np.where(first == UNKNOWN, UNKNOWN, -first) if op == "Neg" else first
    if op == "Not":
        return ~first.astype(bool)
    return None


def _arithmetic(op: str, a: Array, b: Array | None) -> Array | None:
    if b is None:
        return None
    if op == "Div":
        if (b == 0).any():
            return None
        found = np.asarray(np.floor_divide(a, b))
    else:
        found = np.asarray(_BINARY[op](a, b))
    unknown = (a == UNKNOWN) | (b == UNKNOWN)
    return np.where(unknown, UNKNOWN, found)


def _resize_rank(node: Node, inputs: list[Array | None]) -> Array | None:
    first = inputs[0]
    if first is None:
        return None
    if node.op == "Squeeze":
        return first.reshape(()) if first.size == 1 else first
    return first.reshape(1) if first.ndim == 0 else None


def _slice(node: Node, inputs: list[Array | None]) -> Array | None:
    first = inputs[0]
    starts, ends = node.attributes.get("starts"), node.attributes.get("ends")
    step = 1
    if len(inputs) > 2:
        a, b = inputs[1], inputs[2]
        if a is None or b is None:
            return None
        starts, ends = a.reshape(-1).tolist(), b.reshape(-1).tolist()
        if len(inputs) > 4:
            if inputs[4] is None:
                return None
            step = int(inputs[4].reshape(-1)[0])
    if first is None or not starts or not ends or not step or UNKNOWN in (starts[0], ends[0]):
        return None
    limit = 1 << 31
    return np.asarray(first[max(-limit, starts[0]) : min(limit, ends[0]) : step])
