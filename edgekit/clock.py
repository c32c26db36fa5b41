"""The stage clock: where the time of one predict goes."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns

Lap = Callable[[str], None]
"""Books the time since the last lap under a stage's name; a stage may be booked several times."""


def start(timings: dict[str, float]) -> Lap:
    """A lap function that adds milliseconds to `timings`; the laps of one call add up to its whole."""
    last = perf_counter_ns()

    def lap(stage: str) -> None:
        nonlocal last
        now = perf_counter_ns()
        timings[stage] = timings.get(stage, 0.0) + (now - last) / 1e6
        last = now

    return lap
