"""Do these tensors belong to this graph? The same answers and the same words for every runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edgekit.errors import GraphRefused
from edgekit.runtimes import Tensors, TensorSpec, describe, fits
from edgekit.specs.tensor import NUMPY_NAMES

Expected = tuple[tuple[str, "np.dtype[Any]", tuple[int, ...]], ...]


def expected_tensors(specs: Iterable[TensorSpec]) -> Expected:
    """What `check_tensors` compares with, prepared once per graph."""
    return tuple((s.name, np.dtype(NUMPY_NAMES[s.datatype]), s.shape) for s in specs)


def check_tensors(expected: Expected, tensors: Tensors, file: str) -> None:
    """Raise GraphRefused, naming tensor, expected and got, unless exactly these inputs are given."""
    for name, dtype, shape in expected:
        array = tensors.get(name)
        if not isinstance(array, np.ndarray):
            raise _wrong_names(expected, tensors, file)
        if array.dtype != dtype or (array.shape != shape and not fits(array.shape, shape)):
            raise GraphRefused(
                f"{file}: input {name!r}: expected {describe(str(dtype), shape)}, "
                f"got {describe(str(array.dtype), array.shape)}"
            )
    if len(tensors) != len(expected):
        raise _wrong_names(expected, tensors, file)


def _wrong_names(expected: Expected, tensors: Mapping[str, object], file: str) -> GraphRefused:
    names = [name for name, _, _ in expected]
    wrong = [f"{n!r} ({type(t).__name__})" for n, t in tensors.items() if n in names and not isinstance(t, np.ndarray)]
    if wrong:
        return GraphRefused(f"{file}: expected arrays, got {', '.join(wrong)}")
    return GraphRefused(f"{file}: expected the inputs {names}, got {list(tensors)}")
