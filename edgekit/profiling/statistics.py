"""What may be said about a list of measured times, and what may not.

Nothing is clipped. A percentile is given only where the sample carries it (the floors below, from MLPerf's
early-stopping rule), and is absent with a reason otherwise; it is never estimated from a fitted curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from edgekit.errors import InputError
from edgekit.records import Record

PercentileMethod = Literal["linear", "nearest-rank"]

P90_MIN_RUNS = 64
P99_MIN_RUNS = 662
"""MLPerf LoadGen, mlperf.conf: queries that early stopping needs for p90 and p99 at 99 % confidence."""

UNSTABLE_SHARE = 0.10
"""pyperf: a benchmark is called unstable when its standard deviation exceeds 10 % of its mean."""

TRIMMED_SHARE = 0.10
"""ExecuTorch's minibench reports the mean of the middle 80 %: a tenth is left out at each end."""

CONFIDENCE = 0.95
RESAMPLES = 1000
BLOCKS = 32


class Summary(Record):
    """A sample in numbers, all in the sample's own unit.

    method: how percentiles are read. std: of the sample (n - 1), null for one value. trimmed_mean: of the middle
    80 %, beside the mean and never instead of it. p50_low, p50_high: 95 % bootstrap interval of the median over
    blocks of consecutive runs. absent: why a field is null. unstable: std exceeds 10 % of the mean.
    """

    n: int
    method: PercentileMethod
    mean: float
    std: float | None
    min: float
    max: float
    p50: float
    p50_low: float
    p50_high: float
    p90: float | None
    p99: float | None
    trimmed_mean: float
    unstable: bool
    absent: dict[str, str]


def percentile(values: Sequence[float], share: float, method: PercentileMethod) -> float:
    """The value below which `share` (0 to 1) of the values lie. Raises InputError for an empty list.

    linear: Hyndman and Fan's type 7, numpy's default, x[h] with h = (n - 1) share, interpolated.
    nearest-rank: the smallest value with at least `share` of the sample at or below it, x[ceil(n share)].
    """
    if not values:
        raise InputError("a percentile needs at least one value, got none")
    if not 0.0 <= share <= 1.0:
        raise InputError(f"a percentile's share lies between 0 and 1, got {share}")
    ordered = sorted(values)
    if method == "nearest-rank":
        # 0.9 * 10 must be rank 9 although it is 9.000000000000002 in floating point on some shares.
        return ordered[max(0, math.ceil(round(share * len(ordered), 9)) - 1)]
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def summarize(values: Sequence[float], *, method: PercentileMethod = "linear", seed: int = 0) -> Summary:
    """The summary of at least one value; `seed` fixes the bootstrap. Raises InputError."""
    if not values:
        raise InputError("a summary needs at least one value, got none")
    if not all(map(math.isfinite, values)):
        raise InputError("a summary needs finite values")
    n, mean = len(values), math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else None
    low, high = median_interval(values, method=method, seed=seed)
    absent = {} if std is not None else {"std": "needs 2 runs, got 1"}
    tails: dict[str, float | None] = {}
    for name, share, floor in (("p90", 0.90, P90_MIN_RUNS), ("p99", 0.99, P99_MIN_RUNS)):
        tails[name] = percentile(values, share, method) if n >= floor else None
        if n < floor:
            absent[name] = f"needs {floor} runs, got {n}"
    return Summary(
        n=n,
        method=method,
        mean=mean,
        std=std,
        min=float(min(values)),
        max=float(max(values)),
        p50=percentile(values, 0.50, method),
        p50_low=low,
        p50_high=high,
        p90=tails["p90"],
        p99=tails["p99"],
        trimmed_mean=trimmed_mean(values),
        unstable=std is not None and std > UNSTABLE_SHARE * abs(mean),
        absent=absent,
    )


def trimmed_mean(values: Sequence[float]) -> float:
    """The mean of what is left when a tenth is put aside at each end."""
    ordered = sorted(values)
    aside = int(len(ordered) * TRIMMED_SHARE)
    middle = ordered[aside : len(ordered) - aside]
    return math.fsum(middle) / len(middle)


def median_interval(values: Sequence[float], *, method: PercentileMethod, seed: int) -> tuple[float, float]:
    """A 95 % bootstrap interval of the median (Efron's percentile interval, 1,000 resamples).

    From 64 values on, 32 blocks of consecutive values are drawn instead of single ones: neighbouring runs share
    clock, temperature and neighbours, and single draws would make the interval too narrow.
    """
    medians = bootstrap_medians(values, seed=seed)
    tail = (1.0 - CONFIDENCE) / 2.0
    return percentile(medians, tail, method), percentile(medians, 1.0 - tail, method)


def bootstrap_medians(values: Sequence[float], *, seed: int, resamples: int = RESAMPLES) -> list[float]:
    """The medians of `resamples` block-bootstrap samples of the values."""
    import numpy as np

    data = np.asarray(values, dtype=np.float64)
    n = len(data)
    count = BLOCKS if n >= 2 * BLOCKS else n
    block_of = np.minimum(np.arange(n) * count // n, count - 1)
    order = np.argsort(data, kind="stable")
    ordered, ordered_block = data[order], block_of[order]
    drawn = np.random.default_rng(seed).integers(0, count, (resamples, count))
    times_drawn = np.zeros((resamples, count), np.int32)
    np.add.at(times_drawn, (np.arange(resamples)[:, None], drawn), 1)
    # of_block[i, b]: how many of the i smallest values lie in block b; a resample weighs blocks, not values.
    of_block = np.zeros((n + 1, count), np.int32)
    of_block[np.arange(1, n + 1), ordered_block] = 1
    np.cumsum(of_block, axis=0, out=of_block)
    size = times_drawn @ of_block[n]

    def value_at(rank: Any) -> Any:
        """The value with `rank` values of its resample below it, by bisection in all resamples at once."""
        low, high = np.zeros(resamples, np.int64), np.full(resamples, n - 1)
        while (low < high).any():
            middle = (low + high) // 2
            enough = (of_block[middle + 1] * times_drawn).sum(axis=1) > rank
            high = np.where(enough, middle, high)
            low = np.where(enough, low, middle + 1)
        return ordered[low]

    medians: list[float] = ((value_at((size - 1) // 2) + value_at(size // 2)) / 2.0).tolist()
    return medians
