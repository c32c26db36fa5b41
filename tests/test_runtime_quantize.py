"""Quantised inputs: three roundings, saturating, against literal values worked out by hand from each law."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.specs.quantize import dequantize, quantize
from edgekit.specs.tensor import Quantization

HALVES = np.array([-2.5, -1.5, -0.75, -0.5, 0.0, 0.49999997, 0.5, 1.5, 2.5, 2.75], np.float32)


def law(rounding: str, scale: float = 1.0, zero_point: int = 0) -> Quantization:
    return Quantization(scale=scale, zero_point=zero_point, rounding=rounding)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rounding", "zero_point", "expected"),
    [
        ("nearest_even", 0, [-2, -2, -1, 0, 0, 0, 0, 2, 2, 3]),
        ("nearest_even", 3, [1, 1, 2, 3, 3, 3, 3, 5, 5, 6]),  # ties are judged before the zero point is added
        ("nearest_away", 0, [-3, -2, -1, -1, 0, 0, 1, 2, 3, 3]),
        ("nearest_away", -4, [-7, -6, -5, -5, -4, -4, -3, -2, -1, -1]),
        ("trunc", 0, [-2, -1, 0, 0, 0, 0, 0, 1, 2, 2]),
        ("trunc", 3, [0, 1, 2, 2, 3, 3, 3, 4, 5, 5]),  # the cast comes after the zero point
    ],
)
def test_rounding_on_literal_values(rounding: str, zero_point: int, expected: list[int]) -> None:
    result = quantize(HALVES, law(rounding, 1.0, zero_point), "int8")
    assert (result.dtype, result.tolist()) == (np.int8, expected)


@pytest.mark.parametrize("rounding", ["nearest_even", "nearest_away", "trunc"])
@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("int8", -128, 127), ("uint8", 0, 255), ("int16", -32768, 32767), ("int32", -(2**31), 2**31 - 1)],
)
def test_values_beyond_the_range_saturate(rounding: str, dtype: str, low: int, high: int) -> None:
    values = np.array([-np.inf, -3e38, 3e38, np.inf], np.float32)
    assert quantize(values, law(rounding, 0.5, 1), dtype).tolist() == [low, low, high, high]


def test_nan_is_an_error_of_the_input() -> None:
    with pytest.raises(InputError, match="NaN"):
        quantize(np.array([1.0, np.nan], np.float32), law("trunc"), "int8")


def test_shape_is_kept_and_the_input_is_not_changed() -> None:
    values = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)[:, ::-1]
    before = values.copy()
    result = quantize(values, law("nearest_even", 1 / 128, 0), np.dtype("int8"))
    assert result.shape == (2, 3, 4)
    assert (values == before).all()


def test_the_way_back_is_scale_times_difference() -> None:
    """Literal: scale 0.5, zero point -3: -128 -> -62.5, -3 -> 0, 127 -> 65."""
    result = dequantize(np.array([-128, -3, 127], np.int8), law("nearest_even", 0.5, -3))
    assert (result.dtype, result.tolist()) == (np.float32, [-62.5, 0.0, 65.0])
    assert dequantize(np.array([0, 255], np.uint8), law("trunc", 0.25, 128)).tolist() == [-32.0, 31.75]


@pytest.mark.parametrize("rounding", ["nearest_even", "nearest_away"])
def test_there_and_back_is_the_identity_on_every_value(rounding: str) -> None:
    for dtype, zero_point in (("int8", -3), ("uint8", 128)):
        info = np.iinfo(dtype)
        every = np.arange(info.min, info.max + 1).astype(dtype)
        spec = law(rounding, 0.0078125, zero_point)
        assert (quantize(dequantize(every, spec), spec, dtype) == every).all()


def test_onnx_runtime_rounds_to_even_as_we_do() -> None:
    """ONNX's QuantizeLinear is the truth for nearest_even."""
    runtime = pytest.importorskip("onnxruntime")
    from graphs import info, node, onnx_bytes

    weights = {"s": np.array(0.37, np.float32), "z": np.array(5, np.int8)}
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["y"])]
    session = runtime.InferenceSession(
        onnx_bytes(nodes, [info("x", ["n"])], [info("y", ["n"], "INT8")], weights), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(8)
    values = np.concatenate([rng.uniform(-60, 60, 20_000), 0.37 * np.arange(-150, 150, 0.5)]).astype(np.float32)
    truth = session.run(None, {"x": values})[0]
    assert (quantize(values, law("nearest_even", 0.37, 5), "int8") == truth).all()
