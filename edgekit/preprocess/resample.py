"""Resampling as products of small matrices: for frames and arrays, without Pillow's rounding between its two passes.

Each output pixel is a weighted sum of neighbouring input pixels, so a row of weights has few entries that are not
zero. Outputs are taken a few at a time: their weights make a small dense matrix over a short band of the input.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from edgekit.arrays import Float32, Float64, Int64, Uint8
from edgekit.specs.image import Filter

PRODUCT_LIMIT = 262144
"""Multiplications per matrix product. OpenBLAS stays on the calling thread up to here (interface/gemm.c, smaller
than SMP_THRESHOLD_MIN x GEMM_MULTITHREAD_THRESHOLD cubes); its threads cost tens of milliseconds at the 95th
percentile when another core is busy."""

ROWS_AT_ONCE = 4
COLUMNS_AT_ONCE = 16
STRIPS_AT_ONCE = 8
HELD_NUMBERS = 3 << 17
"""Numbers that are float at one time: 1.5 MB, about what a core has of the cache."""

SUPPORT: dict[str, float] = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""Half the width of each filter in pixels of the coarser side, as in Pillow's Resample.c."""


class Axis(NamedTuple):
    """How one side is resampled: `length` input pixels to outputs [start, stop) of `new_length`.

    box: the part (from, to) of the input that the new_length outputs show, in pixels.
    asymmetric: output i lies on pixel i times the scale, not in the middle of what it covers.
    """

    length: int
    new_length: int
    start: int
    stop: int
    box: tuple[float, float]
    filter: Filter
    antialias: bool
    asymmetric: bool


class Band(NamedTuple):
    """Outputs [start, stop) as weights (stop - start, high - low) of the inputs [low, high)."""

    start: int
    stop: int
    low: int
    high: int
    weights: Float32


class Bands(NamedTuple):
    """`taken`: the inputs that are used at all, in the order the bands count them; None where that is all of them."""

    taken: Int64 | None
    bands: tuple[Band, ...]


def filter_values(name: Filter, x: Float64) -> Float64:
    """The filter at distances `x`, any sign and shape; Pillow's Resample.c (bicubic with a = -0.5)."""
    x = np.abs(x)
    if name == "box":
        return np.where(x <= 0.5, 1.0, 0.0)
    if name == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    if name == "hamming":
        return np.where(x < 1.0, np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)), 0.0)
    if name == "bicubic":
        inner = (1.5 * x - 2.5) * x * x + 1.0
        outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
        return np.where(x < 1.0, inner, np.where(x < 2.0, outer, 0.0))
    return np.where(x < 3.0, np.sinc(x) * np.sinc(x / 3.0), 0.0)


def reach(axis: Axis, output: int) -> tuple[int, int]:
    """The inputs [low, high) that an output is made of; Pillow's bounds to the last bit of its arithmetic."""
    scale = (axis.box[1] - axis.box[0]) / axis.new_length
    support = SUPPORT[axis.filter] * max(scale, 1.0)
    center = axis.box[0] + (output + 0.5) * scale
    return max(int(center - support + 0.5), 0), min(int(center + support + 0.5), axis.length)


def _weights(axis: Axis) -> tuple[Int64, Float64]:
    """Per output the first input (n,) and the weights from there on (n, widest), zeros where it needs fewer."""
    if axis.filter == "nearest":
        first = np.array(_nearest(axis)[axis.start : axis.stop], np.int64)
        return first, np.ones((len(first), 1))
    scale = (axis.box[1] - axis.box[0]) / axis.new_length
    stretch = max(scale, 1.0) if axis.antialias else 1.0
    support = SUPPORT[axis.filter] * stretch
    center = axis.box[0] + (np.arange(axis.start, axis.stop) + 0.5) * scale
    if axis.asymmetric:
        center += 0.5 - 0.5 * scale
    first = np.minimum(np.maximum((center - support + 0.5).astype(np.int64), 0), axis.length - 1)
    last = np.maximum(np.minimum((center + support + 0.5).astype(np.int64), axis.length), first + 1)
    inputs = first[:, None] + np.arange((last - first).max())
    weights = filter_values(axis.filter, (inputs - center[:, None] + 0.5) / stretch)
    weights[inputs >= last[:, None]] = 0.0
    total = weights.sum(axis=1, keepdims=True)
    return first, weights / np.where(total == 0.0, 1.0, total)


def _nearest(axis: Axis) -> list[int]:
    """Pillow adds up the step instead of multiplying (ImagingScaleAffine), which decides where two are as near."""
    step = (axis.box[1] - axis.box[0]) / axis.new_length
    at = axis.box[0] + step * 0.5
    inputs = []
    for _ in range(axis.new_length):
        inputs.append(min(max(int(at), 0), axis.length - 1))
        at += step
    return inputs


@lru_cache(maxsize=16)
def _bands(axis: Axis, at_once: int) -> Bands:
    first, weights = _weights(axis)
    widest = weights.shape[1]
    taken = None
    if not axis.antialias:  # samples lie apart: number the inputs that are used, so that bands stay short
        used = np.minimum(first[:, None] + np.arange(widest), axis.length - 1)
        taken, place = np.unique(used, return_inverse=True)
        first = place.reshape(used.shape)[:, 0]
    bands = []
    for start in range(0, len(first), at_once):
        block = slice(start, min(start + at_once, len(first)))
        low, high = int(first[block].min()), int(first[block].max()) + widest
        dense = np.zeros((block.stop - start, high - low), np.float32)
        for row, (at, values) in enumerate(zip(first[block] - low, weights[block])):
            dense[row, at : at + widest] = values
        high = min(high, len(taken) if taken is not None else axis.length)
        dense = np.ascontiguousarray(dense[:, : high - low])
        dense.setflags(write=False)
        bands.append(Band(start, block.stop, low, high, dense))
    return Bands(taken, tuple(bands))


def resample(pixels: Uint8, rows: Axis, columns: Axis) -> Uint8:
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
    planes = _down(flat, down.bands, channels, tall)
    lines = planes.reshape(channels * tall, -1)
    result = np.empty((channels * tall, wide), np.float32)
    for band in across.bands:
        step = max(PRODUCT_LIMIT // (COLUMNS_AT_ONCE * (band.high - band.low)), 1)
        weights = band.weights.T
        for at in range(0, lines.shape[0], step):
            source = lines[at : at + step, band.low - low : band.high - low]
            np.matmul(source, weights, out=result[at : at + step, band.start : band.stop])
    levels: Uint8 = to_levels(result).reshape(channels, tall, wide).transpose(1, 2, 0)
    return levels


def _down(flat: Uint8, bands: tuple[Band, ...], channels: int, tall: int) -> Float32:
    """The pass along rows: (H, W x C) levels to (C, tall, W) float32, a few strips from rows that become float once.

    Neighbouring strips share half of their rows and more: converting strip by strip converts each row twice.
    """
    width = flat.shape[1]
    groups = [bands[i : i + STRIPS_AT_ONCE] for i in range(0, len(bands), STRIPS_AT_ONCE)]
    tallest = max(band.high - band.low for band in bands)
    most_rows = max(group[-1].high - group[0].low for group in groups)
    step = max(min(PRODUCT_LIMIT // (ROWS_AT_ONCE * tallest), HELD_NUMBERS // most_rows, width), 1)
    held = np.empty(most_rows * step, np.float32)
    strips = np.empty((STRIPS_AT_ONCE * ROWS_AT_ONCE, width), np.float32)
    planes = np.empty((channels, tall, width // channels), np.float32)
    for group in groups:
        top, bottom, first, last = group[0].low, group[-1].high, group[0].start, group[-1].stop
        for at in range(0, width, step):
            part = slice(at, min(at + step, width))
            floats = held[: (bottom - top) * (part.stop - at)].reshape(bottom - top, -1)
            np.copyto(floats, flat[top:bottom, part])
            for band in group:
                source = floats[band.low - top : band.high - top]
                np.matmul(band.weights, source, out=strips[band.start - first : band.stop - first, part])
        made = strips[: last - first].reshape(last - first, -1, channels)
        planes[:, first:last] = made.transpose(2, 0, 1)
    return planes


def to_levels(values: Float32) -> Uint8:
    """Real levels to whole ones in place of `values`: half up, cut to 0-255, as Pillow ends each pass."""
    np.add(values, np.float32(0.5), out=values)
    np.clip(values, np.float32(0.0), np.float32(255.0), out=values)
    return values.astype(np.uint8)
