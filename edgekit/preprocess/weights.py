"""How one side of a picture is resampled: each output as a weighted sum of neighbouring inputs, by Pillow's filters."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from edgekit.arrays import Float32, Float64, Int64
from edgekit.specs.image import Filter

SUPPORT: dict[str, float] = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""Half the width of each filter in pixels of the coarser side, as in Pillow's Resample.c."""

FIXED_BITS = 22
"""PRECISION_BITS of Pillow's Resample.c."""


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
def bands(axis: Axis, at_once: int, *, fixed: bool = False) -> Bands:
    """The weights of an axis, `at_once` outputs to a band; kept for the sizes seen last.

    fixed: the whole multiples of 2 ** -22 that Pillow multiplies by; float32 holds them exactly.
    """
    first, weights = _weights(axis)
    if fixed:
        weights = np.trunc(np.ldexp(weights, FIXED_BITS) + np.copysign(0.5, weights))
        weights = np.ldexp(weights, -FIXED_BITS)
    widest = weights.shape[1]
    taken = None
    if not axis.antialias:  # samples lie apart: number the inputs that are used, so that bands stay short
        used = np.minimum(first[:, None] + np.arange(widest), axis.length - 1)
        taken, place = np.unique(used, return_inverse=True)
        first = place.reshape(used.shape)[:, 0]
    made = []
    for start in range(0, len(first), at_once):
        block = slice(start, min(start + at_once, len(first)))
        low, high = int(first[block].min()), int(first[block].max()) + widest
        dense = np.zeros((block.stop - start, high - low), np.float32)
        for row, (at, values) in enumerate(zip(first[block] - low, weights[block])):
            dense[row, at : at + widest] = values
        high = min(high, len(taken) if taken is not None else axis.length)
        dense = np.ascontiguousarray(dense[:, : high - low])
        dense.setflags(write=False)
        made.append(Band(start, block.stop, low, high, dense))
    return Bands(taken, tuple(made))
