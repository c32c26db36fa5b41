"""Change of sampling rate by a polyphase windowed sinc, as small matrix products.

Output n is the sum over m of x[m] h(n / up * down - m) with h(t) = c sinc(c t) kaiser(t / reach), in input samples,
where the rates are as up : down in lowest terms and c = rolloff * min(1, up / down). Outputs are computed in groups of
`group`: those of one group need one stretch of input, so a group is a matrix, and the groups at the same place of
successive periods are the rows of one product.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from edgekit.arrays import Float32, Float64, Int64
from edgekit.errors import InputError
from edgekit.specs.audio import Resample

GROUP_OUTPUTS = 48
LARGEST_PRODUCT = 1 << 18
"""Multiply-adds per matrix product: above it OpenBLAS wakes its threads, which costs more than it brings."""
LARGEST_PLAN = 1 << 22
"""Coefficients of a plan; only ratios of large coprime rates, and rates of some 50 Hz and less, would need more."""


class Group(NamedTuple):
    """`outputs` outputs from the input stretch that starts at `first` (of the padded sound); taps (width, outputs)."""

    first: int
    outputs: int
    taps: Float32


class Plan(NamedTuple):
    """A period: `consumed` inputs give `produced` outputs, group by group; `reach` inputs are needed on each side."""

    up: int
    down: int
    consumed: int
    produced: int
    reach: int
    groups: tuple[Group, ...]


def resample(samples: Float32, from_hz: int, to_hz: int, spec: Resample) -> Float32:
    """`samples` (n,) at the new rate, (ceil(n to / from),) float32; sample 0 stays at time 0.

    Outside the sound counts as zero. Raises InputError for a pair of rates without a small common ratio.
    """
    if from_hz == to_hz:
        return samples
    made = plan(from_hz, to_hz, spec)
    count = -(-len(samples) * made.up // made.down)
    periods = -(-count // made.produced)
    padded = np.zeros(max(_covered(made, periods), made.reach + len(samples)), np.float32)
    padded[made.reach : made.reach + len(samples)] = samples
    return _whole_periods(made, padded, periods)[:count]


class StreamingResampler:
    """The same outputs as `resample`, given as soon as the inputs they need have come."""

    def __init__(self, from_hz: int, to_hz: int, spec: Resample) -> None:
        self._plan = plan(from_hz, to_hz, spec)
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
                    outputs.append(_whole_periods(made, self._held, periods))
                    self._held = self._held[periods * made.consumed :]
            first, _, taps = made.groups[self._group]
            if len(self._held) < first + len(taps):
                break
            outputs.append(np.matmul(self._held[first : first + len(taps)], taps))
            self._group += 1
            if self._group == len(made.groups):
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
    return (periods - 1) * made.consumed + max(first + len(taps) for first, _, taps in made.groups)


def _whole_periods(made: Plan, padded: Float32, periods: int) -> Float32:
    out = np.empty((periods, made.produced), np.float32)
    step = padded.strides[0]
    column = 0
    for first, outputs, taps in made.groups:
        rows = as_strided(padded[first:], (periods, len(taps)), (made.consumed * step, step), writeable=False)
        stride = max(1, LARGEST_PRODUCT // taps.size)
        for start in range(0, periods, stride):
            np.matmul(rows[start : start + stride], taps, out=out[start : start + stride, column : column + outputs])
        column += outputs
    return out.reshape(-1)


@lru_cache(maxsize=8)
def plan(from_hz: int, to_hz: int, spec: Resample) -> Plan:
    """The matrices for one pair of rates. Raises InputError when they would be too large."""
    common = math.gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    cutoff = spec.rolloff * min(1.0, up / down)
    reach = math.ceil(spec.zeros / cutoff)
    width = 2 * reach + 1
    # A row of the product must not be longer than the step to the next one, or numpy copies instead of calling BLAS.
    periods = max(-(-GROUP_OUTPUTS // up), -(-(width + GROUP_OUTPUTS * down // up + 2) // down))
    produced = periods * up
    if produced * width > LARGEST_PLAN:
        raise InputError(
            f"cannot resample {from_hz} Hz to {to_hz} Hz: the ratio {up}/{down} needs {produced * width} coefficients, "
            f"expected at most {LARGEST_PLAN}",
            hint=f"record at a usual rate (8000, 16000, 22050, 44100, 48000 Hz), or pass samples at {to_hz} Hz",
        )
    parts = -(-produced // GROUP_OUTPUTS)
    groups = []
    for part in range(parts):
        start, end = produced * part // parts, produced * (part + 1) // parts
        centers = np.arange(start, end) * down
        first = int(centers[0]) // up
        last = -(-int(centers[-1]) // up)
        inputs = np.arange(first - reach, last + reach + 1)
        groups.append(Group(first, end - start, _kernel(inputs, centers, up, cutoff, spec)))
    return Plan(up, down, periods * down, produced, reach, tuple(groups))


def _kernel(inputs: Int64, centers: Int64, up: int, cutoff: float, spec: Resample) -> Float32:
    """h at the distance of every input (rows) from every output (columns)."""
    distance = cutoff * ((centers[None, :] - inputs[:, None] * up) / up)
    window = _kaiser(spec.beta)
    place = np.minimum(np.abs(distance) / spec.zeros, 1.0) * _KAISER_STEPS
    before = place.astype(np.int64)
    place -= before
    height = window[before] * (1.0 - place) + window[before + 1] * place
    taps: Float32 = (cutoff * np.sinc(distance) * height).astype(np.float32)
    taps.flags.writeable = False
    return taps


_KAISER_STEPS = 1 << 14
"""Steps of the window's table, between which a straight line errs by less than float32 does."""


@lru_cache(maxsize=4)
def _kaiser(beta: float) -> Float64:
    """Right half of the Kaiser window, I0(beta sqrt(1 - u^2)) / I0(beta) for u = 0 to 1, then two zeros."""
    u = np.arange(_KAISER_STEPS) / _KAISER_STEPS
    return np.concatenate([np.i0(beta * np.sqrt(1.0 - np.square(u))) / np.i0(beta), [0.0, 0.0]])
