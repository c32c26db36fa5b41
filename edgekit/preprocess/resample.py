"""Resampling as products of small matrices: for frames and arrays, without Pillow's rounding between its two passes.

Each output pixel is a weighted sum of neighbouring input pixels, so a row of weights has few entries that are not
zero. Outputs are taken a few at a time: their weights make a small dense matrix over a short band of the input.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgekit.specs.image import Filter

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

PRODUCT_LIMIT = 262144
"""Multiplications per matrix product. OpenBLAS stays on the calling thread up to here (interface/gemm.c, smaller
than SMP_THRESHOLD_MIN x GEMM_MULTITHREAD_THRESHOLD cubes); its threads cost tens of milliseconds at the 95th
percentile when another core is busy."""

ROWS_AT_ONCE = 4
COLUMNS_AT_ONCE = 16

SUPPORT: dict[str, float] = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""Half the width of each filter in pixels of the coarser side, as in Pillow's Resample.c."""


class Axis(NamedTuple):
    """How one side is resampled: `length` input pixels to outputs [start, stop) of `new_length`.

    box: the part (from, to) of the input that the new_length outputs show, in pixels.
    """

    length: int
    new_length: int
    start: int
    stop: int
    box: tuple[float, float]
    filter: Filter
    antialias: bool


class Band(NamedTuple):
    """Outputs [start, stop) as weights (stop - start, high - low) of the inputs [low, high)."""

    start: int
    stop: int
    low: int
    high: int
    weights: F32


class Bands(NamedTuple):
    """`taken`: the inputs that are used at all, in the order the bands count them; None where that is all of them."""

    taken: NDArray[np.intp] | None
    bands: tuple[Band, ...]


def filter_value(name: Filter, x: float) -> float:
    """The filter at a distance of x; Pillow's Resample.c (bicubic with a = -0.5)."""
    x = abs(x)
    if name == "box":
        return 1.0 if x <= 0.5 else 0.0
    if name == "bilinear":
        return max(1.0 - x, 0.0)
    if name == "hamming":
        return 0.0 if x >= 1.0 else _sinc(x) * (0.54 + 0.46 * math.cos(math.pi * x))
    if name == "bicubic":
        if x < 1.0:
            return (1.5 * x - 2.5) * x * x + 1.0
        return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x < 2.0 else 0.0
    return _sinc(x) * _sinc(x / 3.0) if x < 3.0 else 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0.0 else math.sin(math.pi * x) / (math.pi * x)


def reach(axis: Axis, output: int) -> tuple[int, int]:
    """The inputs [low, high) that an output is made of; Pillow's bounds to the last bit of its arithmetic."""
    scale = (axis.box[1] - axis.box[0]) / axis.new_length
    support = SUPPORT[axis.filter] * (max(scale, 1.0) if axis.antialias else 1.0)
    center = axis.box[0] + (output + 0.5) * scale
    low = max(int(center - support + 0.5), 0)
    return low, max(min(int(center + support + 0.5), axis.length), low + 1)


def _rows(axis: Axis) -> list[tuple[int, list[float]]]:
    """Per output the first input and the weights from there on."""
    if axis.filter == "nearest":
        return [(x, [1.0]) for x in _nearest(axis)[axis.start : axis.stop]]
    return [_row(axis, output) for output in range(axis.start, axis.stop)]


def _nearest(axis: Axis) -> list[int]:
    """Pillow adds up the step instead of multiplying (ImagingScaleAffine), which decides where two are as near."""
    step = (axis.box[1] - axis.box[0]) / axis.new_length
    at = axis.box[0] + step * 0.5
    inputs = []
    for _ in range(axis.new_length):
        inputs.append(min(max(int(at), 0), axis.length - 1))
        at += step
    return inputs


def _row(axis: Axis, output: int) -> tuple[int, list[float]]:
    low, high = reach(axis, output)
    scale = (axis.box[1] - axis.box[0]) / axis.new_length
    stretch = max(scale, 1.0) if axis.antialias else 1.0
    center = axis.box[0] + (output + 0.5) * scale
    weights = [filter_value(axis.filter, (x - center + 0.5) / stretch) for x in range(low, high)]
    total = sum(weights)
    return low, [w / total for w in weights] if total != 0.0 else [1.0] + [0.0] * (len(weights) - 1)


@lru_cache(maxsize=32)
def _bands(axis: Axis, at_once: int) -> Bands:
    rows = _rows(axis)
    taken = None
    if not axis.antialias:  # samples lie apart: number the inputs that are used, so that bands stay short
        used = sorted({x for low, weights in rows for x in range(low, low + len(weights))})
        place = {x: i for i, x in enumerate(used)}
        rows = [(place[low], weights) for low, weights in rows]
        taken = np.array(used, np.intp)
    bands = []
    for start in range(0, len(rows), at_once):
        block = rows[start : start + at_once]
        low = min(first for first, _ in block)
        high = max(first + len(weights) for first, weights in block)
        dense = np.zeros((len(block), high - low), np.float32)
        for i, (first, weights) in enumerate(block):
            dense[i, first - low : first - low + len(weights)] = weights
        dense.setflags(write=False)
        bands.append(Band(start, start + len(block), low, high, dense))
    return Bands(taken, tuple(bands))


def resample(pixels: U8, rows: Axis, columns: Axis) -> U8:
    """Pixels (H, W, C) resampled to (rows.stop - rows.start, columns.stop - columns.start, C), rounded to 0-255.

    Rows first, then columns, in float32 without rounding between; channels of the result lie apart in memory.
    """
    down, across = _bands(rows, ROWS_AT_ONCE), _bands(columns, COLUMNS_AT_ONCE)
    if down.taken is not None:
        pixels = pixels[down.taken]
    if across.taken is not None:
        pixels = pixels[:, across.taken]
        low, high = 0, len(across.taken)
    else:
        low, high = min(b.low for b in across.bands), max(b.high for b in across.bands)
        pixels = pixels[:, low:high]
    channels = pixels.shape[2]
    flat = pixels.reshape(pixels.shape[0], -1)  # a copy only where the columns were cut
    tall, wide = rows.stop - rows.start, columns.stop - columns.start
    planes = np.empty((channels, tall, high - low), np.float32)
    strip = np.empty((ROWS_AT_ONCE, flat.shape[1]), np.float32)
    for band in down.bands:
        count = band.stop - band.start
        step = max(PRODUCT_LIMIT // (ROWS_AT_ONCE * (band.high - band.low)), 1)
        for at in range(0, flat.shape[1], step):
            source = flat[band.low : band.high, at : at + step].astype(np.float32)
            np.matmul(band.weights, source, out=strip[:count, at : at + step])
        planes[:, band.start : band.stop] = strip[:count].reshape(count, -1, channels).transpose(2, 0, 1)
    lines = planes.reshape(channels * tall, -1)
    result = np.empty((channels * tall, wide), np.float32)
    for band in across.bands:
        step = max(PRODUCT_LIMIT // (COLUMNS_AT_ONCE * (band.high - band.low)), 1)
        weights = band.weights.T
        for at in range(0, lines.shape[0], step):
            source = lines[at : at + step, band.low - low : band.high - low]
            result[at : at + step, band.start : band.stop] = source @ weights
    levels: U8 = to_levels(result).reshape(channels, tall, wide).transpose(1, 2, 0)
    return levels


def to_levels(values: F32) -> U8:
    """Real levels to whole ones in place of `values`: half up, cut to 0-255, as Pillow ends each pass."""
    np.add(values, np.float32(0.5), out=values)
    np.clip(values, np.float32(0.0), np.float32(255.0), out=values)
    return values.astype(np.uint8)
