"""What the numbers of one weight say: zeros, dead channels, 2:4, distinct values, saturation. One pass, in blocks."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from edgekit.arrays import Array
from edgekit.records import Record

DISTINCT_LIMIT = 1 << 16
DEFLATE_LEVEL = 6
DEFLATE_LIMIT_BYTES = 64 << 20
"""Of a model; beyond it evenly spread pieces are deflated and the figure says so."""


class Measures(Record):
    """One weight in figures.

    zeros: elements whose real value is 0 (an integer equal to its zero point). dead_channels: output channels that
    are 0 throughout. two_of_four: share of groups of 4 along the reduced axis with at least 2 zeros, null where
    no group is whole. distinct, entropy_bits: different values and their entropy per weight (bits), null above
    65,536 values. at_limits: integer elements at the end of their range. used_low, used_high: smallest and largest
    integer, null for floats. not_finite: NaN and infinities. on_grid: floats that are whole multiples of one step.
    """

    elements: int
    zeros: int
    channels: int
    dead_channels: int
    two_of_four: float | None
    distinct: int | None
    entropy_bits: float | None
    at_limits: int
    used_low: int | None
    used_high: int | None
    not_finite: int
    on_grid: bool

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return self.zeros / self.elements if self.elements else 0.0


def measure(
    blocks: Iterable[Array], *, channel_axis: int, reduced_axis: int, zero_points: Array | None, limits: tuple[int, int]
) -> Measures:
    """The figures of a weight given in blocks of its first axis.

    channel_axis: of the output channels. reduced_axis: summed over in the layer; -1 for none. zero_points: one, or one
    per entry of the channel axis; null for floats. limits: lowest and highest integer that the quantiser may use.
    """
    elements = zeros = at_limits = not_finite = groups = good_groups = 0
    low: int | None = None
    high: int | None = None
    alive: list[Array] = []
    counter = _Counter()
    row = 0
    for block in blocks:
        points = _points(zero_points, block, channel_axis, row)
        zero = block == points
        elements += block.size
        zeros += int(zero.sum())
        axes = tuple(i for i in range(block.ndim) if i != channel_axis)
        lives = ~zero.all(axis=axes) if axes else ~zero
        alive.append(lives)
        if 0 <= reduced_axis < block.ndim and block.shape[reduced_axis] % 4 == 0:
            # Groups of 4 along axis 0 stay whole: blocks hold a multiple of 4 rows.
            moved = np.moveaxis(zero, reduced_axis, -1)
            counts = moved.reshape(*moved.shape[:-1], -1, 4).sum(axis=-1)
            groups += counts.size
            good_groups += int((counts >= 2).sum())
        if block.dtype.kind == "f":
            finite = int(np.isfinite(block).sum())
            not_finite += block.size - finite
        else:
            low = int(block.min()) if low is None else min(low, int(block.min()))
            high = int(block.max()) if high is None else max(high, int(block.max()))
            at_limits += int(((block <= limits[0]) | (block >= limits[1])).sum())
        counter.add(block)
        row += block.shape[0]
    if not alive:
        living = np.zeros(0, bool)
    elif channel_axis == 0:
        living = np.concatenate(alive)
    else:
        living = np.logical_or.reduce(alive)
    distinct, entropy, on_grid = counter.figures()
    return Measures(
        elements=elements,
        zeros=zeros,
        channels=int(living.size),
        dead_channels=int(living.size - living.sum()),
        two_of_four=good_groups / groups if groups else None,
        distinct=distinct,
        entropy_bits=entropy,
        at_limits=at_limits,
        used_low=low,
        used_high=high,
        not_finite=not_finite,
        on_grid=on_grid,
    )


def _points(zero_points: Array | None, block: Array, channel_axis: int, row: int) -> Any:
    if zero_points is None or zero_points.size == 0:
        return 0
    if zero_points.size == 1:
        return int(zero_points.reshape(-1)[0])
    count = block.shape[channel_axis] if 0 <= channel_axis < block.ndim else 0
    begin = row if channel_axis == 0 else 0
    part = zero_points.reshape(-1)[begin : begin + count]
    if part.size != count:
        return 0
    shape = [1] * block.ndim
    shape[channel_axis] = count
    return part.reshape(shape)


class _Counter:
    """Counts values by their bits until there are too many to matter."""

    def __init__(self) -> None:
        self._values: Array | None = None
        self._counts: Array | None = None
        self._gave_up = False

    def add(self, block: Array) -> None:
        if self._gave_up:
            return
        values, counts = np.unique(block.reshape(-1), return_counts=True)
        if self._values is not None and self._counts is not None:
            both = np.concatenate((self._values, values))
            merged, inverse = np.unique(both, return_inverse=True)
            total = np.zeros(len(merged), np.int64)
            np.add.at(total, inverse.reshape(-1), np.concatenate((self._counts, counts)))
            values, counts = merged, total
        if len(values) > DISTINCT_LIMIT:
            self._gave_up, self._values, self._counts = True, None, None
        else:
            self._values, self._counts = values, counts

    def figures(self) -> tuple[int | None, float | None, bool]:
        if self._values is None or self._counts is None:
            return None, None, False
        share = self._counts / self._counts.sum()
        entropy = float(-(share * np.log2(share)).sum())
        return len(self._values), abs(entropy), _is_grid(self._values)


def _is_grid(values: Array) -> bool:
    """Whether at least 4 float values are whole multiples of their smallest gap (a quantiser's levels)."""
    if values.dtype.kind != "f" or not 4 <= len(values) <= 256 or not np.isfinite(values).all():
        return False
    real = values.astype(np.float64)
    step = float(np.diff(real).min())
    if not step > 0:
        return False
    steps = (real - real[0]) / step
    return bool(steps[-1] < 1024 and np.abs(steps - np.round(steps)).max() < 0.02)


class Deflated(Record):
    """Bytes before and after deflate (level 6); sampled: they are of evenly spread pieces, not of everything."""

    before_bytes: int
    after_bytes: int
    sampled: bool

    @property
    def ratio(self) -> float:
        """How many times smaller."""
        return self.before_bytes / self.after_bytes if self.after_bytes else 1.0


def deflate(pieces: Iterator[bytes], total_bytes: int) -> Deflated:
    """What deflate makes of these pieces of up to 1 MiB, of every n-th where they are more than 64 MiB."""
    every = max(1, -(-total_bytes // DEFLATE_LIMIT_BYTES))
    squeezer = zlib.compressobj(DEFLATE_LEVEL)
    before = after = 0
    for index, piece in enumerate(pieces):
        if index % every == 0:
            before += len(piece)
            after += len(squeezer.compress(piece))
    after += len(squeezer.flush())
    return Deflated(before_bytes=before, after_bytes=after, sampled=every > 1)
