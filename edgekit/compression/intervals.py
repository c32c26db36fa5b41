"""Proportions and means with the interval that the samples allow, and how much one of two got worse.

Wilson (1927) for a proportion; Newcombe (1998), method 10, for the difference of two proportions over the same samples;
Efron's percentile bootstrap for means of other scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgekit.errors import InputError
from edgekit.records import Record

Z = 1.959963984540054
"""The normal quantile of 97.5 %: intervals are of 95 %."""

RESAMPLES = 2000
MIN_SAMPLES = 20
"""Below it nothing is decided, whatever the interval says."""


class Interval(Record):
    """An estimate with its 95 % interval. method: `wilson`, `newcombe` or `bootstrap`."""

    value: float
    low: float
    high: float
    samples: int
    method: str


def wilson(successes: int, samples: int) -> Interval:
    """The interval of a proportion: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n). Raises InputError."""
    if samples < 1 or not 0 <= successes <= samples:
        raise InputError(f"a proportion needs 0 to n successes of n samples, got {successes} of {samples}")
    p, n = successes / samples, samples
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == samples else min(1.0, middle + half)
    return Interval(value=p, low=low, high=high, samples=n, method="wilson")


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> Interval:
    """How many more the first got right than the second, as a share of the samples that both were given.

    d = p1 - p2, with sqrt((p1-l1)^2 - 2 phi (p1-l1)(u2-p2) + (u2-p2)^2) below it and the mirror image above, phi the
    correlation of the two with Newcombe's correction. Raises InputError.
    """
    n = len(first)
    if n != len(second) or not n:
        raise InputError(f"paired answers are as many on both sides, got {n} and {len(second)}")
    both = sum(a and b for a, b in zip(first, second))
    only_first = sum(a and not b for a, b in zip(first, second))
    only_second = sum(b and not a for a, b in zip(first, second))
    neither = n - both - only_first - only_second
    one, two = wilson(both + only_first, n), wilson(both + only_second, n)
    phi = _correlation(both, only_first, only_second, neither)
    down = _joined(one.value - one.low, two.high - two.value, phi)
    up = _joined(one.high - one.value, two.value - two.low, phi)
    d = (only_first - only_second) / n
    return Interval(value=d, low=max(-1.0, d - down), high=min(1.0, d + up), samples=n, method="newcombe")


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    n = both + only_first + only_second + neither
    sides = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if not sides:
        return 0.0
    cross = both * neither - only_first * only_second
    if cross > 0:
        return max(cross - n / 2, 0.0) / math.sqrt(sides)
    return cross / math.sqrt(sides)


def _joined(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))


def mean_interval(values: Sequence[float], *, seed: int = 0) -> Interval:
    """The mean with its percentile bootstrap interval; `seed` fixes the draws. Raises InputError."""
    if not values:
        raise InputError("a mean needs at least one value, got none")
    data = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [data[rng.integers(0, len(data), (100, len(data)))].mean(axis=1) for _ in range(RESAMPLES // 100)]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(value=float(data.mean()), low=float(low), high=float(high), samples=len(data), method="bootstrap")


def score_interval(scores: Sequence[float], *, seed: int = 0) -> Interval:
    """Wilson where every score is 0 or 1, else the bootstrap of the mean."""
    if all(score in (0.0, 1.0) for score in scores):
        return wilson(int(sum(scores)), len(scores))
    return mean_interval(scores, seed=seed)


def drop_interval(reference: Sequence[float], candidate: Sequence[float], *, seed: int = 0) -> Interval:
    """How much lower the candidate's score is than the reference's, over the same samples."""
    if all(score in (0.0, 1.0) for score in (*reference, *candidate)):
        return paired_difference([s == 1.0 for s in reference], [s == 1.0 for s in candidate])
    if len(reference) != len(candidate):
        raise InputError(f"paired scores are as many on both sides, got {len(reference)} and {len(candidate)}")
    return mean_interval([a - b for a, b in zip(reference, candidate)], seed=seed)
