"""Change of sampling rate by a polyphase windowed sinc, as small matrix products.

Output n is the sum over m of x[m] h(n / up * down - m) with h(t) = c sinc(c t) kaiser(t / reach), in input samples,
where the rates are as up : down in lowest terms and c = rolloff * min(1, up / down). Outputs are computed in groups:
those of one group need one stretch of input, so a group is a matrix, and the stretches of successive periods are the
columns that it multiplies. Groups whose stretches lie evenly apart are multiplied by one call.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from edgekit.arrays import Float32, Float64, Int64
from edgekit.errors import InputError
from edgekit.specs.audio import Resample

GROUP_OUTPUTS = 16
"""OpenBLAS's products get faster up to here; more outputs multiply more zeros."""
UNEVEN_INPUTS = 4
"""Inputs that a stretch may be longer than its group needs, so that it lies evenly with others."""
LARGEST_PRODUCT = 1 << 18
"""Multiply-adds per matrix product: above it OpenBLAS wakes its threads, which costs more than it brings."""
LARGEST_PLAN = 1 << 22
"""Coefficients of a plan; only ratios of large coprime rates, and rates of some 50 Hz and less, would need more."""


class Batch(NamedTuple):
    """Groups of outputs. Group g reads the `width` inputs from `first + g * step` on (of the sound with `reach` zeros
    before it); taps (groups, outputs, width)."""

    first: int
    step: int
    taps: Float32


class Plan(NamedTuple):
    """A period: `consumed` inputs give `produced` outputs, batch by batch; `reach` inputs are needed on each side, and
    `depth` is what one period reads."""

    up: int
    down: int
    consumed: int
    produced: int
    reach: int
    depth: int
    batches: tuple[Batch, ...]


def resample(samples: Float32, from_hz: int, to_hz: int, spec: Resample) -> Float32:
    """`samples` (n,) at the new rate, (ceil(n to / from),) float32; sample 0 stays at time 0.

    Outside the sound counts as zero. Raises InputError for a pair of rates without a small common ratio.
    """
    if from_hz == to_hz:
        return samples
    made = plan(from_hz, to_hz, spec)
    count = -(-len(samples) * made.up // made.down)
    if count == 0:
        return np.zeros(0, np.float32)
    periods = -(-count // made.produced)
    return _whole_periods(made, samples, -made.reach, periods)[:count]


class StreamingResampler:
    """The same outputs as `resample`, given as soon as the inputs they need have come."""

    def __init__(self, from_hz: int, to_hz: int, spec: Resample) -> None:
        self._plan = plan(from_hz, to_hz, spec)
        self._groups = [(b.first + g * b.step, taps) for b in self._plan.batches for g, taps in enumerate(b.taps)]
        self._restart()

    def _restart(self) -> None:
        self._held = np.zeros(self._plan.reach, np.float32)
        self._group = 0
        self._received = 0
        self._given = 0

    def push(self, samples: Float32) -> Float32:
        """(n,) samples -> the outputs that became certain, (m,)."""
        self._received += len(samples)
        self._held = np.concatenate([self._held, samples])
        made = self._plan
        outputs = []
        while True:
            if self._group == 0:
                periods = 0
                while len(self._held) >= _covered(made, periods + 1):
                    periods += 1
                if periods:
                    outputs.append(_whole_periods(made, self._held, 0, periods))
                    self._held = self._held[periods * made.consumed :]
            first, taps = self._groups[self._group]
            if len(self._held) < first + taps.shape[1]:
                break
            outputs.append(np.matmul(taps, self._held[first : first + taps.shape[1]]))
            self._group += 1
            if self._group == len(self._groups):
                self._group = 0
                self._held = self._held[made.consumed :]
        ready = np.concatenate(outputs) if outputs else np.zeros(0, np.float32)
        self._given += len(ready)
        return ready

    def flush(self) -> Float32:
        """The outputs that were waiting for more, as if silence followed; then a new sound may begin."""
        made = self._plan
        missing = -(-self._received * made.up // made.down) - self._given
        rest = self.push(np.zeros(_covered(made, 1), np.float32))[:missing]
        self._restart()
        return rest


def _covered(made: Plan, periods: int) -> int:
    """Inputs, `reach` zeros before the first included, that so many periods read."""
    return (periods - 1) * made.consumed + made.depth


def _whole_periods(made: Plan, samples: Float32, origin: int, periods: int) -> Float32:
    """The outputs of so many periods, of which the first reads from samples[origin] on; outside counts as zero.

    A few periods at a time lie side by side, input by input: OpenBLAS multiplies that twice as fast as row by row.
    """
    most = max(LARGEST_PRODUCT // max(batch.taps[0].size for batch in made.batches), 1)
    at_once = min(most // 16 * 16 or most, periods)  # whole tiles of OpenBLAS's kernels
    inputs = np.empty(made.depth * at_once, np.float32)
    outputs = np.empty(made.produced * at_once, np.float32)
    out = np.empty((periods, made.produced), np.float32)
    for start in range(0, periods, at_once):
        count = min(at_once, periods - start)
        stretch = _stretch(samples, origin + start * made.consumed, _covered(made, count))
        step = stretch.strides[0]
        source = inputs[: made.depth * count].reshape(made.depth, count)
        source[:] = np.ndarray(source.shape, np.float32, stretch, 0, (step, made.consumed * step))
        down, across = source.strides
        row = 0
        for first, apart, taps in made.batches:
            groups, rows, width = taps.shape
            bands = np.ndarray((groups, width, count), np.float32, inputs, first * down, (apart * down, down, across))
            result = outputs[row * count : (row + groups * rows) * count].reshape(groups, rows, count)
            np.matmul(taps, bands, out=result)
            row += groups * rows
        out[start : start + count] = outputs[: made.produced * count].reshape(made.produced, count).T
    return out.reshape(-1)


def _stretch(samples: Float32, start: int, length: int) -> Float32:
    """samples[start : start + length], with zeros where there are none; one after the other in memory."""
    if start >= 0 and start + length <= len(samples):
        return np.ascontiguousarray(samples[start : start + length], np.float32)
    padded = np.zeros(length, np.float32)
    low, high = max(start, 0), min(start + length, len(samples))
    if low < high:
        padded[low - start : high - start] = samples[low:high]
    return padded


@lru_cache(maxsize=8)
def plan(from_hz: int, to_hz: int, spec: Resample) -> Plan:
    """The matrices for one pair of rates. Raises InputError when they would be too large."""
    common = math.gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    cutoff = spec.rolloff * min(1.0, up / down)
    reach = math.ceil(spec.zeros / cutoff)
    width = 2 * reach + 1
    # Periods overlap by `width` inputs, which are copied for each: they are as long as that and longer.
    periods = max(-(-GROUP_OUTPUTS // up), -(-(width + GROUP_OUTPUTS * down // up + 2) // down))
    produced = periods * up
    if produced * width > LARGEST_PLAN:
        raise InputError(
            f"cannot resample {from_hz} Hz to {to_hz} Hz: the ratio {up}/{down} needs {produced * width} coefficients, "
            f"expected at most {LARGEST_PLAN}",
            hint=f"record at a usual rate (8000, 16000, 22050, 44100, 48000 Hz), or pass samples at {to_hz} Hz",
        )
    parts = -(-produced // GROUP_OUTPUTS)
    groups = [np.arange(produced * i // parts, produced * (i + 1) // parts) * down for i in range(parts)]
    batches = []
    while groups:
        evenly = _evenly(groups, up)
        first = int(groups[0][0]) // up
        step = int(groups[1][0]) // up - first if evenly > 1 else 0
        widest = max(-(-int(c[-1]) // up) - first - g * step for g, c in enumerate(groups[:evenly])) + 2 * reach + 1
        inputs = np.arange(first - reach, first - reach + widest)
        taps = [_kernel(inputs + g * step, centers, up, cutoff, spec) for g, centers in enumerate(groups[:evenly])]
        batches.append(Batch(first, step, np.stack(taps)))
        batches[-1].taps.flags.writeable = False
        del groups[:evenly]
    depth = max(b.first + (len(b.taps) - 1) * b.step + b.taps.shape[2] for b in batches)
    return Plan(up, down, periods * down, produced, reach, depth, tuple(batches))


def _evenly(groups: list[Int64], up: int) -> int:
    """How many of the first groups have as many outputs and stretches that lie evenly apart, or nearly."""
    firsts = [int(centers[0]) // up for centers in groups]
    count = 1
    while count < len(groups) and len(groups[count]) == len(groups[0]):
        uneven = firsts[count] - firsts[0] - count * (firsts[1] - firsts[0])
        if not 0 <= uneven <= UNEVEN_INPUTS:
            break
        count += 1
    return count


def _kernel(inputs: Int64, centers: Int64, up: int, cutoff: float, spec: Resample) -> Float32:
    """h at the distance of every input (columns) from every output (rows)."""
    distance = cutoff * ((centers[:, None] - inputs[None, :] * up) / up)
    window = _kaiser(spec.beta)
    place = np.minimum(np.abs(distance) / spec.zeros, 1.0) * _KAISER_STEPS
    before = place.astype(np.int64)
    place -= before
    height = window[before] * (1.0 - place) + window[before + 1] * place
    taps: Float32 = (cutoff * np.sinc(distance) * height).astype(np.float32)
    return taps


_KAISER_STEPS = 1 << 14
"""Steps of the window's table, between which a straight line errs by less than float32 does."""


@lru_cache(maxsize=4)
def _kaiser(beta: float) -> Float64:
    """Right half of the Kaiser window, I0(beta sqrt(1 - u^2)) / I0(beta) for u = 0 to 1, then two zeros."""
    u = np.arange(_KAISER_STEPS) / _KAISER_STEPS
    return np.concatenate([np.i0(beta * np.sqrt(1.0 - np.square(u))) / np.i0(beta), [0.0, 0.0]])
