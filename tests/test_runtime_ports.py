"""'Bad input': a manifest whose ports are not the graph's own tensors is refused, with expected and got."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.errors import GraphRefused
from edgekit.manifest import Constant, GraphSpec
from edgekit.records import parse
from edgekit.runtimes.checks import check_ports
from edgekit.runtimes.graph import GraphTensors, TensorSpec
from edgekit.specs.tensor import Quantization

QUANTIZED = Quantization(scale=0.5, zero_point=-3, rounding="nearest_even")
TENSORS = GraphTensors(
    inputs=(
        TensorSpec(name="x", datatype="INT8", shape=(-1, 4), quantization=QUANTIZED),
        TensorSpec(name="h", datatype="FP32", shape=(1, 2), quantization=None),
    ),
    outputs=(
        TensorSpec(name="y", datatype="FP32", shape=(-1, 4), quantization=None),
        TensorSpec(name="h_out", datatype="FP32", shape=(1, 2), quantization=None),
    ),
)


def port(name: str, datatype: str, shape: list[int], quantization: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"name": name, "value": name, "datatype": datatype, "shape": shape, "quantization": quantization}


def scaled(scale: float = 0.5, zero_point: int = -3) -> dict[str, Any]:
    return {"scale": scale, "zero_point": zero_point, "rounding": "trunc"}


def graph(**changes: Any) -> GraphSpec:
    document: dict[str, Any] = {
        "name": "main",
        "file": "m.tflite",
        "data": None,
        "runtime": "litert",
        "role": "model",
        "precision": "int8",
        "inputs": [port("x", "INT8", [-1, 4], scaled())],
        "outputs": [port("y", "FP32", [-1, 4])],
        "state": [],
        "constants": [{"name": "h", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 0.0]}],
    }
    return parse(GraphSpec, document | changes)


def test_ports_that_agree_are_accepted() -> None:
    check_ports(graph(), TENSORS)
    check_ports(graph(inputs=[port("x", "INT8", [1, 4], scaled())]), TENSORS)
    check_ports(graph(inputs=[port("x", "INT8", [-1, 4])]), TENSORS)
    check_ports(graph(inputs=[port("x", "INT8", [-1, 4], scaled(0.5000000001))]), TENSORS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"inputs": [port("z", "INT8", [-1, 4])]}, r"expected an input 'z', the graph has \['h', 'x'\]"),
        (
            {"inputs": [port("x", "UINT8", [-1, 4])]},
            r"'x': expected UINT8 \(\?, 4\), the graph has INT8 \(\?, 4\)",
        ),
        ({"inputs": [port("x", "INT8", [-1, 5])]}, r"expected INT8 \(\?, 5\), the graph has INT8 \(\?, 4\)"),
        ({"inputs": [port("x", "INT8", [4])]}, r"expected INT8 \(4\), the graph has INT8 \(\?, 4\)"),
        ({"inputs": [port("x", "INT8", [-1, -1])]}, r"expected INT8 \(\?, \?\), the graph has"),
        (
            {"inputs": [port("x", "INT8", [-1, 4], scaled(0.25))]},
            r"scale 0\.25 and zero point -3, the graph has 0\.5",
        ),
        ({"inputs": [port("x", "INT8", [-1, 4], scaled(0.5, 0))]}, r"zero point 0, the graph has 0\.5 and -3"),
        ({"outputs": [port("x", "INT8", [-1, 4])]}, r"expected an output 'x', the graph has \['h_out', 'y'\]"),
        ({"outputs": [port("y", "FP16", [-1, 4])]}, r"output 'y': expected FP16"),
        ({"constants": []}, r"each input once, got none for \['h'\]"),
        ({"inputs": [port("x", "INT8", [-1, 4])] * 2}, r"several for \['x'\]"),
    ],
)
def test_each_difference_is_named(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(GraphRefused, match=rf"graph 'main' \(m\.tflite\): .*{expected}") as caught:
        check_ports(graph(**changes), TENSORS)
    assert caught.value.exit_code == 5


def test_constants_are_checked_like_ports() -> None:
    for constant in (
        Constant(name="k", datatype="FP32", shape=(1, 2), data=(0.0, 0.0)),
        Constant(name="h", datatype="INT8", shape=(1, 2), data=(0.0, 0.0)),
        Constant(name="h", datatype="FP32", shape=(2,), data=(0.0, 0.0)),
    ):
        with pytest.raises(GraphRefused, match=f"constant '{constant.name}'"):
            check_ports(graph().replace(constants=(constant,)), TENSORS)


def test_a_state_between_unknown_tensors_is_refused() -> None:
    states = [{"input": "h", "output": "nope", "init": "zeros"}]
    with pytest.raises(GraphRefused, match="state 'nope' -> 'h'"):
        check_ports(graph(state=states, constants=[]), TENSORS)
