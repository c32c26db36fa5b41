"""Real numbers to whole ones and back, as a graph's quantisation says."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import InputError
from edgekit.specs.tensor import Quantization


def quantize(values: Array, quantization: Quantization, dtype: np.dtype[Any] | str) -> Array:
    """float32 or float64 values, any shape -> the same shape in `dtype`, saturated to its range.

    nearest_even, nearest_away: round(x / scale) + zero_point (ONNX QuantizeLinear; TFLite AffineQuantize).
    trunc: trunc(x / scale + zero_point), what a C cast does. Everything in the values' own precision. Raises
    InputError on NaN.
    """
    target = np.dtype(dtype)
    limits = np.iinfo(target)
    kind = values.dtype.type
    if np.isnan(values).any():
        raise InputError("a value that is not a number (NaN) cannot be quantised")
    with np.errstate(over="ignore", invalid="ignore"):  # infinity saturates as well
        steps = values / kind(quantization.scale)
        if quantization.rounding == "trunc":
            steps += kind(quantization.zero_point)
            np.trunc(steps, out=steps)
        else:
            if quantization.rounding == "nearest_even":
                np.rint(steps, out=steps)
            else:
                whole = np.trunc(steps)  # adding 0.5 first would lift 0.49999997 to 1
                steps = whole + np.copysign(np.abs(steps - whole) >= 0.5, steps).astype(kind)
            steps += kind(quantization.zero_point)
    if target.itemsize > 2:  # float32 has no 2147483647
        steps = steps.astype(np.float64)
    result: Array = np.clip(steps, limits.min, limits.max).astype(target)
    return result


def dequantize(values: Array, quantization: Quantization) -> Array:
    """Whole numbers, any shape -> float32: scale * (q - zero_point)."""
    wide = values.astype(np.int32 if values.dtype.itemsize < 4 else np.int64)
    centred = wide - quantization.zero_point
    result: Array = centred.astype(np.float32) * np.float32(quantization.scale)
    return result
