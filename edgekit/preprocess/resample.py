"""Resampling of arrays as products of small matrices, with or without Pillow's rounding between its two passes.

Each output pixel is a weighted sum of neighbouring input pixels, so a row of weights has few entries that are not
zero. Outputs are taken a few at a time: their weights make a small dense matrix over a short band of the input.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit.arrays import Float32, Uint8
from edgekit.preprocess.weights import Axis, Band, bands

PRODUCT_LIMIT = 262144
"""Multiplications per matrix product. OpenBLAS stays on the calling thread up to here (interface/gemm.c, smaller
than SMP_THRESHOLD_MIN x GEMM_MULTITHREAD_THRESHOLD cubes); its threads cost tens of milliseconds at the 95th
percentile when another core is busy."""

ROWS_AT_ONCE = 4
COLUMNS_AT_ONCE = 16
TURNED_COLUMNS_AT_ONCE = 12
STRIPS_AT_ONCE = 8
HELD_NUMBERS = 3 << 17
"""Numbers that are float at one time: 1.5 MB, about what a core has of the cache."""


def resample(pixels: Uint8, rows: Axis, columns: Axis) -> Uint8:
    """Pixels (H, W, C) resampled to (rows.stop - rows.start, columns.stop - columns.start, C), rounded to 0-255.

    The height first, then the width, in float32 without rounding between; channels of the result lie apart in memory.
    """
    down, across = bands(rows, ROWS_AT_ONCE), bands(columns, COLUMNS_AT_ONCE)
    if down.taken is not None:
        pixels = pixels[down.taken]
    if across.taken is not None:
        pixels = pixels[:, across.taken]
    (left, right), channels = _reach(across.bands), pixels.shape[2]
    tall, wide, width = rows.stop - rows.start, columns.stop - columns.start, right - left
    planes = np.empty((channels, tall, width), np.float32)
    for start, stop, strips in _rows(_flat(pixels, left, right), 0, down.bands):
        planes[:, start:stop] = strips.reshape(-1, width, channels).transpose(2, 0, 1)
    lines = planes.reshape(channels * tall, width)
    result = np.empty((channels * tall, wide), np.float32)
    for band in across.bands:
        step = max(PRODUCT_LIMIT // (COLUMNS_AT_ONCE * (band.high - band.low)), 1)
        weights = band.weights.T
        for at in range(0, len(lines), step):
            source = lines[at : at + step, band.low - left : band.high - left]
            np.matmul(source, weights, out=result[at : at + step, band.start : band.stop])
    levels: Uint8 = to_levels(result).reshape(channels, tall, wide).transpose(1, 2, 0)
    return levels


def resample_rounded(pixels: Uint8, rows: Axis, columns: Axis, *, width_first: bool) -> Uint8:
    """As `resample`, but rounded to 0-255 after each of the two passes, as Pillow does.

    The weights are Pillow's; only the sums are float32, and those within 1e-5 or so of a half may round the other way,
    which is 1 of 255 (measured: 2e-5 of a photograph's numbers under bicubic). Both axes have to average on reduction.
    """
    down = bands(rows, ROWS_AT_ONCE, fixed=True).bands
    across = bands(columns, TURNED_COLUMNS_AT_ONCE, fixed=True).bands
    (top, bottom), (left, right), channels = _reach(down), _reach(across), pixels.shape[2]
    if width_first:
        narrow = _columns_to_levels(pixels[top:bottom, left:right], left, across)
        levels = _rows_to_levels(narrow.reshape(bottom - top, -1), top, down)
        return levels.reshape(len(levels), channels, -1).transpose(0, 2, 1)
    low = _rows_to_levels(_flat(pixels, left, right), 0, down)
    return _columns_to_levels(low.reshape(-1, right - left, channels), left, across).transpose(0, 2, 1)


def _flat(pixels: Uint8, left: int, right: int) -> Uint8:
    """The columns [left, right) of (H, W, C) as (H, X), channels beside each other; a view where it can be."""
    height, _, channels = pixels.shape
    if pixels.flags.c_contiguous:
        return pixels.reshape(height, -1)[:, left * channels : right * channels]
    return pixels[:, left:right].reshape(height, -1)


def _reach(of: tuple[Band, ...]) -> tuple[int, int]:
    return min(band.low for band in of), max(band.high for band in of)


def _rows_to_levels(flat: Uint8, origin: int, of: tuple[Band, ...]) -> Uint8:
    """(H, X), whose first row is input `origin`, to (tall, X), rounded to 0-255."""
    levels = np.empty((of[-1].stop, flat.shape[1]), np.uint8)
    for start, stop, strips in _rows(flat, origin, of):
        levels[start:stop] = to_levels(strips)
    return levels


def _rows(flat: Uint8, origin: int, of: tuple[Band, ...]) -> Iterator[tuple[int, int, Float32]]:
    """(H, X), whose first row is input `origin`, to outputs [start, stop), (stop - start, X), overwritten by the next.

    A few strips are made from rows that become float once: neighbouring strips share half of their rows and more, and
    converting strip by strip converts each row twice.
    """
    width = flat.shape[1]
    groups = [of[i : i + STRIPS_AT_ONCE] for i in range(0, len(of), STRIPS_AT_ONCE)]
    tallest = max(band.high - band.low for band in of)
    most_rows = max(group[-1].high - group[0].low for group in groups)
    step = max(min(PRODUCT_LIMIT // (ROWS_AT_ONCE * tallest), HELD_NUMBERS // most_rows, width), 1)
    held = np.empty(most_rows * step, np.float32)
    strips = np.empty((STRIPS_AT_ONCE * ROWS_AT_ONCE, width), np.float32)
    for group in groups:
        top, bottom, first, last = group[0].low, group[-1].high, group[0].start, group[-1].stop
        for at in range(0, width, step):
            part = slice(at, min(at + step, width))
            floats = held[: (bottom - top) * (part.stop - at)].reshape(bottom - top, -1)
            np.copyto(floats, flat[top - origin : bottom - origin, part])
            for band in group:
                source = floats[band.low - top : band.high - top]
                np.matmul(band.weights, source, out=strips[band.start - first : band.stop - first, part])
        yield first, last, strips[: last - first]


def _columns_to_levels(pixels: Uint8, origin: int, of: tuple[Band, ...]) -> Uint8:
    """(H, W, C), whose first column is input `origin`, to (H, C, wide), rounded to 0-255.

    Rows are turned, multiplied and turned back: OpenBLAS takes bands that lie along memory twice as fast. Bytes are
    turned before they become float, which takes less time than both at once.
    """
    height, width, channels = pixels.shape
    wide, line = of[-1].stop, width * channels
    largest = TURNED_COLUMNS_AT_ONCE * max(band.high - band.low for band in of) * channels
    step = max(min(PRODUCT_LIMIT // largest, HELD_NUMBERS // line, height), 1)
    turned, floats = np.empty(step * line, np.uint8), np.empty(step * line, np.float32)
    made = np.empty(step * channels * wide, np.float32)
    levels = np.empty((height, channels, wide), np.uint8)
    for at in range(0, height, step):
        part = pixels[at : at + step]
        small, source = turned[: part.size], floats[: part.size]
        np.copyto(small.reshape(width, channels, -1), part.transpose(1, 2, 0))
        np.copyto(source, small)
        source = source.reshape(width, -1)
        result = made[: len(part) * channels * wide].reshape(wide, -1)
        for band in of:
            np.matmul(band.weights, source[band.low - origin : band.high - origin], out=result[band.start : band.stop])
        levels[at : at + step] = to_levels(result).reshape(wide, channels, -1).transpose(2, 1, 0)
    return levels


def to_levels(values: Float32) -> Uint8:
    """Real levels to whole ones in place of `values`: half up, cut to 0-255, as Pillow ends each pass."""
    np.add(values, np.float32(0.5), out=values)
    np.clip(values, np.float32(0.0), np.float32(255.0), out=values)
    return values.astype(np.uint8)
