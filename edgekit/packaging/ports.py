"""The ports of a graph, read from its file: what a person or a config would only copy from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from edgekit.errors import InputError
from edgekit.runtimes.graph import GraphTensors, RuntimeName, Settings, TensorSpec
from edgekit.runtimes.loading import load_graph
from edgekit.specs.tensor import Port

Rounding = Literal["nearest_even", "nearest_away", "trunc"]

_SETTINGS = Settings(threads=1, spinning=False, providers=(), cache=None)


def runtime_of(file: str) -> RuntimeName:
    """The runtime that a graph file is for, by its ending."""
    if file.endswith((".onnx", ".ort")):
        return "onnxruntime"
    if file.endswith(".tflite"):
        return "litert"
    raise InputError(f"{file}: expected .onnx, .ort or .tflite")


def read_ports(
    path: Path,
    runtime: RuntimeName,
    graph: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    rounding: Rounding | None,
) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """The named inputs and outputs of a graph file as ports; names are graph tensor -> value.

    rounding: how real values become a quantised input's numbers; must be given where one is quantised.
    Raises InputError for names that the graph does not have, listing those it has.
    """
    graph_file = load_graph(runtime, path, _SETTINGS, None)
    tensors = graph_file.spec
    graph_file.close()
    return (
        tuple(_port(graph, "input", tensors.inputs, name, value, rounding) for name, value in inputs.items()),
        tuple(_port(graph, "output", tensors.outputs, name, value, rounding) for name, value in outputs.items()),
    )


def read_tensors(path: Path, runtime: RuntimeName) -> GraphTensors:
    """The inputs and outputs of a graph file as it declares them."""
    graph = load_graph(runtime, path, _SETTINGS, None)
    tensors = graph.spec
    graph.close()
    return tensors


def read_all_ports(path: Path, runtime: RuntimeName, rounding: Rounding) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Every input and output of a graph file as ports; each value has its tensor's name."""
    graph = load_graph(runtime, path, _SETTINGS, None)
    tensors = graph.spec
    graph.close()
    return (
        tuple(_port(path.name, "input", tensors.inputs, t.name, t.name, rounding) for t in tensors.inputs),
        tuple(_port(path.name, "output", tensors.outputs, t.name, t.name, rounding) for t in tensors.outputs),
    )


def _port(
    graph: str, side: str, tensors: tuple[TensorSpec, ...], name: str, value: str, rounding: Rounding | None
) -> Port:
    found = next((t for t in tensors if t.name == name), None)
    if found is None:
        listed = ", ".join(t.name for t in tensors)
        raise InputError(f"graph '{graph}' has no {side} '{name}'", hint=f"its {side}s: {listed}")
    quantization = found.quantization
    if quantization is not None:
        if rounding is None:
            raise InputError(
                f"graph '{graph}': {side} '{name}' is quantised, 'rounding' is missing",
                hint="say how the training rounded: nearest_even, nearest_away or trunc",
            )
        quantization = quantization.replace(rounding=rounding)
    return Port(name=name, value=value, datatype=found.datatype, shape=found.shape, quantization=quantization)
