"""From the 256 levels of a pixel to numbers: one table per channel, computed once by the reference's own formula."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.specs.image import ImageSpec
from edgekit.specs.quantize import quantize
from edgekit.specs.tensor import Quantization

Table = NDArray[Any]


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
