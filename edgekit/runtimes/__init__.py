"""Inference runtimes behind one small protocol.

`load_graph` picks the runtime; nothing is imported before a graph needs it. What one runtime prints, raises or calls
its tensors stays in its module.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgekit.errors import GraphRefused
from edgekit.records import Record
from edgekit.specs.tensor import DATATYPES, Datatype, Port, Quantization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgekit.manifest import GraphSpec

    Array = NDArray[np.generic]
else:
    Array = Any

Tensors = Mapping[str, Array]
RuntimeName = Literal["onnxruntime", "litert"]

SCALE_TOLERANCE = 1e-6
"""Relative; a float32 scale and its decimal text differ by less."""


class TensorSpec(Record):
    """A tensor as the graph itself declares it; -1 for a free axis; quantization null when it has none."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    quantization: Quantization | None


class GraphTensors(Record):
    """The inputs and outputs of a loaded graph, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Binding(Protocol):
    """A graph run step after step by one thread, what it carries staying inside; see `Graph.bind`."""

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """One step: the outputs that are not carried, by name; the arrays belong to the caller.

        An input that is not given keeps what it was given last; a carried input that is given replaces what
        the step before left. Raises GraphRefused, ClosedError.
        """

    def state(self) -> dict[str, Array]:
        """A copy of what the next step would read, by carried input."""

    def reset(self) -> None:
        """Start again from the initial tensors; the other inputs keep what they were given last."""


class Graph(Protocol):
    """A loaded graph. Arrays in and out are in the graph's own datatypes (quantised stay quantised)."""

    @property
    def spec(self) -> GraphTensors:
        """What goes in and what comes out."""

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """Outputs by name; the arrays belong to the caller. Raises GraphRefused, ClosedError."""

    def bind(self, carry: Mapping[str, str], initial: Tensors) -> Binding:
        """Steps in which the output carry[i] of one is the input i of the next; shapes may grow on free axes.

        initial: the first value of every carried input, and of any other input that stays the same.
        """

    def close(self) -> None:
        """Free the runtime's memory; a second call does nothing."""


class Settings(Record):
    """How a runtime is started.

    threads: intra-op threads, 0 = the runtime's own choice. spinning: whether idle workers spin (costs CPU
    between paced calls). providers: execution providers in order of preference, () = CPU only.
    cache: directory for optimised graphs and weight caches, or null.
    """

    threads: int
    spinning: bool
    providers: tuple[str, ...]
    cache: str | None


def load_graph(
    runtime: RuntimeName, path: str | os.PathLike[str], settings: Settings, data: str | os.PathLike[str] | None
) -> Graph:
    """A loaded graph; the file is opened by the runtime through `path`, never read into Python.

    data: the file with an ONNX graph's outside weights, in the same directory, or None. Raises GraphRefused,
    BundleError (weights anywhere else), RuntimeMissing, ProviderInactive.
    """
    if runtime == "onnxruntime":
        from edgekit.runtimes import onnx

        return onnx.load(path, settings, data=data)
    from edgekit.runtimes import litert

    return litert.load(path, settings, data=data)


def installed() -> dict[str, str]:
    """The version of each runtime that this interpreter can import, by distribution name; imports them."""
    from edgekit.runtimes import litert, onnx

    return {**onnx.installed(), **litert.installed()}


def fits(shape: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    """Whether a shape is one of those declared, -1 being any size."""
    return len(shape) == len(declared) and all(d in (-1, s) for s, d in zip(shape, declared))


def describe(dtype_name: str, shape: tuple[int, ...]) -> str:
    """Datatype and shape in a manifest's words, `?` for a free axis."""
    axes = ", ".join("?" if axis < 0 else str(axis) for axis in shape)
    return f"{DATATYPES.get(dtype_name, dtype_name)} ({axes})"


def check_ports(graph: GraphSpec, tensors: GraphTensors) -> None:
    """Raise GraphRefused unless the manifest's ports are the graph's own tensors.

    Every input needs a port or a constant; an output without a port is not read. A port's axis may fix a free one
    of the graph, never the other way round. A port with quantisation needs the graph's scale and zero point
    where the graph states them (its rounding is the manifest's own affair).
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
    given = [p.name for p in graph.inputs] + [c.name for c in graph.constants]
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
