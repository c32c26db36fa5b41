"""Interleaved measurement: every round runs every variant once in shuffled order, and rounds are compared in pairs.

The ratio of two variants is the median over the rounds of the ratios within each round; its interval (95 %) comes from
the order statistics of those ratios and assumes nothing about their distribution. A round's time is the mean over as
many calls as fill `FILL_S`.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

FILL_S = 0.004
LEAST_ROUNDS = 9
MOST_ROUNDS = 201

Call = Callable[[], Any]


class Claim(NamedTuple):
    """One row of the table: `ours` over `peer`.

    goal: the ratio aimed at. gate: what the interval's upper end is held to; None where nothing is promised.
    excess: compare the difference ours - peer in the group's own unit instead of the ratio.
    limit: the variant that shows how far down it could go, if any.
    """

    row: str
    ours: str
    peer: str
    goal: float | None
    gate: float | None
    limit: str | None = None
    excess: bool = False
    note: str = ""


class Group(NamedTuple):
    """Variants measured against one another; `difference` says how far the numbers of a claim's two sides lie apart."""

    name: str
    variants: Mapping[str, Call]
    claims: Sequence[Claim]
    difference: Callable[[str, str], str] | None = None
    unit: str = "ms"


class Interval(NamedTuple):
    """A median and its 95 % interval."""

    middle: float
    low: float
    high: float


class Finding(NamedTuple):
    """A claim and what was measured; times in the group's unit (ms, µs, MiB)."""

    claim: Claim
    unit: str
    ours: float
    peer: float
    limit: float | None
    ratio: Interval
    spread: float
    rounds: int
    difference: str
    samples: dict[str, list[float]]

    @property
    def verdict(self) -> str:
        """`ahead`: goal met at the middle; `gate`: the upper end is within the gate; `short`: neither."""
        if self.claim.goal is not None and self.ratio.middle <= self.claim.goal:
            return "goal" if self.claim.gate is None or self.ratio.high <= self.claim.gate else "goal, interval wide"
        if self.claim.gate is not None and self.ratio.high <= self.claim.gate:
            return "gate"
        return "short" if self.claim.goal is not None or self.claim.gate is not None else "shown"


def median_interval(values: Sequence[float]) -> Interval:
    """The median and the pair of order statistics that holds it with at least 95 % (binomial), or the extremes."""
    ordered = sorted(values)
    n = len(ordered)
    covered, rank = 0.0, 0
    for k in range(n // 2):
        covered += math.comb(n, k) / 2**n
        if 2 * covered > 0.05:
            break
        rank = k + 1
    rank = max(rank - 1, 0)
    return Interval(statistics.median(ordered), ordered[rank], ordered[n - 1 - rank])


def quartile_spread(values: Sequence[float]) -> float:
    """The middle half's width over the median."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / statistics.median(values)


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""`cpu` counts the processor time of all threads of this process: for a machine that others keep busy."""


def time_rounds(
    variants: Mapping[str, Call], budget_s: float, clock: str = "wall", seed: int = 0
) -> dict[str, list[float]]:
    """Seconds per call by variant and round; as many rounds as the budget allows, 9 to 201."""
    now = CLOCKS[clock]
    counts = {name: _calibrated(call, now) for name, call in variants.items()}
    shuffle = random.Random(seed)
    names = list(variants)
    times: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + budget_s
    gc.collect()
    gc.disable()
    try:
        while len(times[names[0]]) < LEAST_ROUNDS or (time.perf_counter() < end and len(times[names[0]]) < MOST_ROUNDS):
            shuffle.shuffle(names)
            for name in names:
                times[name].append(_timed(variants[name], counts[name], now))
            gc.collect(0)
    finally:
        gc.enable()
    return times


def _calibrated(call: Call, now: Callable[[], float]) -> int:
    call()
    call()
    count = 1
    while True:
        took = _timed(call, count, now) * count
        if took >= FILL_S / 2 or count >= 1 << 16:
            return max(1, round(count * FILL_S / max(took, 1e-9)))
        count *= 4


def _timed(call: Call, count: int, now: Callable[[], float]) -> float:
    start = now()
    for _ in range(count):
        call()
    return (now() - start) / count


SCALES = {"ms": 1e3, "µs": 1e6, "s": 1.0, "MiB": 1.0}


def judge(group: Group, times: Mapping[str, list[float]]) -> list[Finding]:
    """The findings of a group whose variants were measured."""
    scale = SCALES[group.unit]
    scaled = {name: [t * scale for t in values] for name, values in times.items()}
    findings = []
    for claim in group.claims:
        ours, peers = scaled[claim.ours], scaled[claim.peer]
        pairs = [a - b if claim.excess else a / b for a, b in zip(ours, peers)]
        difference = group.difference(claim.ours, claim.peer) if group.difference else ""
        findings.append(
            Finding(
                claim=claim,
                unit=group.unit,
                ours=statistics.median(ours),
                peer=statistics.median(peers),
                limit=None if claim.limit is None else statistics.median(scaled[claim.limit]),
                ratio=median_interval(pairs),
                spread=quartile_spread(pairs) if not claim.excess else quartile_spread(ours),
                rounds=len(pairs),
                difference=difference,
                samples={name: scaled[name] for name in (claim.ours, claim.peer)},
            )
        )
    return findings


def measure(group: Group, budget_s: float, clock: str = "wall") -> list[Finding]:
    """Run a group in this process."""
    return judge(group, time_rounds(group.variants, budget_s, clock))
