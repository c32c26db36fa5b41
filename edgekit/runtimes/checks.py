"""Do these tensors belong to this graph? The same answers and the same words for every runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edgekit.errors import GraphRefused
from edgekit.manifest import GraphSpec
from edgekit.runtimes.graph import GraphTensors, Tensors, TensorSpec
from edgekit.specs.tensor import DATATYPES, NUMPY_NAMES, Port

SCALE_TOLERANCE = 1e-6
"""Relative; a float32 scale and its decimal text differ by less."""

Expected = tuple[tuple[str, "np.dtype[Any]", tuple[int, ...]], ...]


def expected_tensors(specs: Iterable[TensorSpec]) -> Expected:
    """What `check_tensors` compares with, prepared once per graph."""
    return tuple((s.name, np.dtype(NUMPY_NAMES[s.datatype]), s.shape) for s in specs)


def fits(shape: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    """Whether a shape is one of those declared, -1 being any size."""
    return len(shape) == len(declared) and all(d in (-1, s) for s, d in zip(shape, declared))


def check_tensors(expected: Expected, tensors: Tensors, file: str) -> None:
    """Raise GraphRefused, naming tensor, expected and got, unless exactly these inputs are given."""
    for name, dtype, shape in expected:
        array = tensors.get(name)
        if not isinstance(array, np.ndarray):
            raise _wrong_names(expected, tensors, file)
        if (array.dtype is not dtype and array.dtype != dtype) or (
            array.shape != shape and not fits(array.shape, shape)
        ):
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


def describe(dtype_name: str, shape: tuple[int, ...]) -> str:
    """Datatype and shape in a manifest's words, `?` for a free axis."""
    axes = ", ".join("?" if axis < 0 else str(axis) for axis in shape)
    return f"{DATATYPES.get(dtype_name, dtype_name)} ({axes})"


def check_carry(tensors: GraphTensors, carry: Mapping[str, str], initial: Tensors, file: str) -> None:
    """Raise GraphRefused unless outputs are carried into inputs, each once, and every one has a first value."""
    inputs, outputs = [t.name for t in tensors.inputs], [t.name for t in tensors.outputs]
    for source, target in carry.items():
        if source not in inputs or target not in outputs:
            raise GraphRefused(
                f"{file}: cannot carry output {target!r} into input {source!r}: "
                f"expected one of {outputs} and one of {inputs}"
            )
        if source not in initial:
            raise GraphRefused(f"{file}: carried input {source!r} has no initial tensor")
    if len(set(carry.values())) != len(carry):
        raise GraphRefused(f"{file}: one output cannot be carried into several inputs")


def check_ports(graph: GraphSpec, tensors: GraphTensors) -> None:
    """Raise GraphRefused unless the manifest's ports are the graph's own tensors.

    Every input needs a port, a constant or a state; an output without a port is not read. A port's axis may fix a
    free one of the graph, never the other way round. A port with quantisation needs the graph's scale and zero
    point where the graph states them (its rounding is the manifest's own affair).
    """
    where = f"graph {graph.name!r} ({graph.file})"
    inputs = {t.name: t for t in tensors.inputs}
    outputs = {t.name: t for t in tensors.outputs}
    for port in graph.inputs:
        _check_port(where, "input", port, inputs)
    for port in graph.outputs:
        _check_port(where, "output", port, outputs)
    for constant in graph.constants:
        tensor = inputs.get(constant.name)
        if tensor is None:
            raise GraphRefused(f"{where}: constant {constant.name!r} is no input, expected one of {sorted(inputs)}")
        if constant.datatype != tensor.datatype or not fits(constant.shape, tensor.shape):
            raise _differs(where, "constant", constant.name, tensor, constant.datatype, constant.shape)
    given = [*(p.name for p in graph.inputs), *(c.name for c in graph.constants), *(s.input for s in graph.state)]
    missing = sorted(inputs.keys() - set(given))
    doubled = sorted({name for name in given if given.count(name) > 1})
    if missing or doubled:
        raise GraphRefused(f"{where}: each input once, got none for {missing} and several for {doubled}")
    for state in graph.state:
        if state.input not in inputs or state.output not in outputs:
            raise GraphRefused(
                f"{where}: state {state.output!r} -> {state.input!r}: expected an output of {sorted(outputs)} "
                f"and an input of {sorted(inputs)}"
            )


def _check_port(where: str, kind: str, port: Port, tensors: Mapping[str, TensorSpec]) -> None:
    tensor = tensors.get(port.name)
    if tensor is None:
        raise GraphRefused(f"{where}: expected an {kind} {port.name!r}, the graph has {sorted(tensors)}")
    if port.datatype != tensor.datatype or not fits(port.shape, tensor.shape):
        raise _differs(where, kind, port.name, tensor, port.datatype, port.shape)
    mine, own = port.quantization, tensor.quantization
    if mine is None or own is None:
        return
    if abs(mine.scale - own.scale) > SCALE_TOLERANCE * own.scale or mine.zero_point != own.zero_point:
        raise GraphRefused(
            f"{where}: {kind} {port.name!r}: expected scale {mine.scale} and zero point {mine.zero_point}, "
            f"the graph has {own.scale} and {own.zero_point}"
        )


def _differs(
    where: str, kind: str, name: str, tensor: TensorSpec, datatype: str, shape: tuple[int, ...]
) -> GraphRefused:
    return GraphRefused(
        f"{where}: {kind} {name!r}: expected {describe(datatype, shape)}, "
        f"the graph has {describe(tensor.datatype, tensor.shape)}"
    )
