"""From the 256 levels of a pixel to numbers: one table per channel, computed once by the reference's own formula."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from edgekit.arrays import Array, Float32, Uint8
from edgekit.specs.image import ImageSpec
from edgekit.specs.quantize import quantize
from edgekit.specs.tensor import Quantization

Table = Array


def table(spec: ImageSpec) -> Table:
    """(channels, 256), in the tensor's dtype and in its channel order; read-only."""
    return _table(spec.scale, spec.offset, spec.mean, spec.std, spec.dtype, _key(spec.quantization))


def fill(spec: ImageSpec, values: tuple[float, ...]) -> Table:
    """Normalised values, one per channel, in the tensor's dtype."""
    real = np.array(values, np.float32)
    return real.astype(spec.dtype) if spec.quantization is None else quantize(real, spec.quantization, spec.dtype)


def is_identity(levels: Table) -> bool:
    """Whether the tensor holds the levels as they are."""
    return levels.dtype == np.uint8 and bool((levels == np.arange(256)).all())


Arithmetic = tuple[tuple[Any, np.float32], ...]
"""Operations on a whole plane, each with its number: (np.divide, 255), (np.subtract, mean), (np.divide, std)."""


def arithmetic(spec: ImageSpec) -> tuple[Arithmetic, ...] | None:
    """Per channel what gives the table's own numbers, all 256 of them to the bit; None where nothing known does.

    A few passes of arithmetic over a plane take less time than looking its levels up.
    """
    if spec.dtype != "float32" or spec.offset != 0.0 or len(spec.std) != len(spec.mean):
        return None
    return _arithmetic(spec.scale, spec.mean, spec.std)


@lru_cache(maxsize=64)
def _arithmetic(scale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Arithmetic, ...] | None:
    if scale == 0.0:
        return None
    wanted = _table(scale, 0.0, mean, std, "float32", None)
    found = []
    for channel in range(len(mean)):
        steps = ((np.divide, 1.0 / scale), (np.subtract, mean[channel]), (np.divide, std[channel]))
        chain = tuple((operation, np.float32(number)) for operation, number in steps)
        plane = np.empty(256, np.float32)
        compute(chain, np.arange(256, dtype=np.uint8), plane)
        if plane.tobytes() != wanted[channel].tobytes():
            return None
        found.append(chain)
    return tuple(found)


def compute(chain: Arithmetic, pixels: Uint8, plane: Float32) -> None:
    """Put what the operations make of the levels into `plane`."""
    (first, number), *rest = chain
    first(pixels, number, out=plane, dtype=np.float32)
    for operation, number in rest:
        operation(plane, number, out=plane)


def _key(quantization: Quantization | None) -> tuple[Any, ...] | None:
    return None if quantization is None else (quantization.scale, quantization.zero_point, quantization.rounding)


@lru_cache(maxsize=64)
def _table(
    scale: float,
    offset: float,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: str,
    key: tuple[Any, ...] | None,
) -> Table:
    channels = len(mean)
    scaled = (np.arange(256, dtype=np.float64) * scale).astype(np.float32)
    shifted = scaled + np.float32(offset) if offset else scaled
    real = np.empty((channels, 256), np.float32)
    for channel in range(channels):
        real[channel] = (shifted - np.float32(mean[channel])) / np.float32(std[channel])
        for again in std[channels + channel :: channels]:
            real[channel] = (real[channel] - np.float32(0.0)) / np.float32(again)
    if key is None:
        result: Table = real.astype(dtype)
    else:
        result = quantize(real, Quantization(scale=key[0], zero_point=key[1], rounding=key[2]), dtype)
    result.setflags(write=False)
    return result
