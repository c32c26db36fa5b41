"""F2: percentiles by a named method, and only from as many runs as carry them; nothing clipped, unstable marked."""

from __future__ import annotations

import random

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.profiling.statistics import (
    bootstrap_medians,
    median_interval,
    percentile,
    summarize,
    trimmed_mean,
)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 64, 101, 662])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99, 1.0])
def test_percentiles_equal_numpys_of_the_same_name(n: int, share: float) -> None:
    values = [random.Random(n).uniform(0, 100) for _ in range(n)]
    assert percentile(values, share, "linear") == pytest.approx(np.quantile(values, share, method="linear"), rel=1e-12)
    expected = np.quantile(values, share, method="inverted_cdf")
    assert percentile(values, share, "nearest-rank") == pytest.approx(expected, rel=1e-12)


def test_nearest_rank_is_the_published_example() -> None:
    """https://en.wikipedia.org/wiki/Percentile: 15, 20, 35, 40, 50 at 5, 30, 40, 50, 100 percent."""
    ages = [15.0, 20.0, 35.0, 40.0, 50.0]
    assert [percentile(ages, p, "nearest-rank") for p in (0.05, 0.3, 0.4, 0.5, 1.0)] == [15, 20, 20, 35, 50]


@pytest.mark.parametrize(
    ("n", "has_p90", "has_p99"), [(1, False, False), (63, False, False), (64, True, False), (661, True, False)]
)
def test_p90_needs_64_runs_and_p99_needs_662(n: int, has_p90: bool, has_p99: bool) -> None:
    summary = summarize([float(i) for i in range(n)])
    assert (summary.p90 is not None, summary.p99 is not None) == (has_p90, has_p99)
    assert ("p90" in summary.absent, "p99" in summary.absent) == (not has_p90, not has_p99)


def test_p99_is_there_from_662_runs() -> None:
    summary = summarize([float(i) for i in range(662)])
    assert summary.p99 == pytest.approx(np.quantile(range(662), 0.99))
    assert summary.absent == {}
    assert "662" in summarize([1.0] * 661).absent["p99"]


def test_nothing_is_clipped() -> None:
    values = [1.0] * 999 + [1000.0]
    summary = summarize(values)
    assert summary.max == 1000.0
    assert summary.mean == pytest.approx(1.999)
    assert summary.std == pytest.approx(np.std(values, ddof=1))
    assert summary.trimmed_mean == 1.0  # beside the mean, not in its place
    assert summary.unstable


def test_trimmed_mean_leaves_a_tenth_out_at_each_end() -> None:
    assert trimmed_mean([100.0, *[2.0] * 8, -100.0]) == 2.0
    assert trimmed_mean([1.0, 2.0, 6.0]) == 3.0


def test_unstable_is_a_deviation_above_a_tenth_of_the_mean() -> None:
    """pyperf's rule; 9.0 and 11.0 have a standard deviation of 1.414 on 10, 9.4 and 10.6 of 0.849."""
    assert summarize([9.0, 11.0]).unstable
    assert not summarize([9.4, 10.6]).unstable


def test_one_run_has_no_deviation() -> None:
    summary = summarize([3.0])
    assert summary.std is None
    assert "std" in summary.absent
    assert not summary.unstable


def test_the_bootstrap_interval_holds_the_median_of_the_source() -> None:
    """Of 200 samples of 100 from a known distribution, the 95 % interval holds its median about 95 % of times."""
    draw = random.Random(7)
    held = 0
    for trial in range(200):
        values = [draw.lognormvariate(0.0, 0.3) for _ in range(100)]
        low, high = median_interval(values, method="linear", seed=trial)
        held += low <= 1.0 <= high
    assert 175 <= held <= 199


@pytest.mark.parametrize("n", [1, 2, 3, 31, 64, 65, 200])
def test_the_bootstrap_is_that_of_drawing_blocks_by_hand(n: int) -> None:
    """Efron's procedure spelled out: draw blocks of consecutive values with repetition, put them together, median."""
    draw = random.Random(n)
    values = [round(draw.gauss(10, 1), 1) for _ in range(n)]
    count = 32 if n >= 64 else n
    blocks = [[v for i, v in enumerate(values) if i * count // n == b] for b in range(count)]
    drawn = np.random.default_rng(5).integers(0, count, (50, count))
    expected = [float(np.median([v for b in row for v in blocks[b]])) for row in drawn]
    assert bootstrap_medians(values, seed=5, resamples=50) == pytest.approx(expected)


def test_the_bootstrap_is_the_same_for_the_same_seed() -> None:
    draw = random.Random(1)
    values = [draw.gauss(10, 1) for _ in range(500)]
    assert bootstrap_medians(values, seed=3) == bootstrap_medians(values, seed=3)
    assert bootstrap_medians(values, seed=3) != bootstrap_medians(values, seed=4)


def test_blocks_make_the_interval_wider_where_neighbours_are_alike() -> None:
    draw = random.Random(5)
    level = [draw.gauss(10, 1) for _ in range(20)]
    slow = [level[i // 50] + draw.gauss(0, 0.01) for i in range(1000)]
    shuffled = draw.sample(slow, len(slow))
    low, high = median_interval(slow, method="linear", seed=0)
    low_alone, high_alone = median_interval(shuffled, method="linear", seed=0)
    assert high - low > 1.5 * (high_alone - low_alone)


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf"), 1.0]])
def test_what_is_no_sample_is_refused(values: list[float]) -> None:
    with pytest.raises(InputError):
        summarize(values)
