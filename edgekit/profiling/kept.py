"""Runs as they are measured, in bounded memory: a board with 512 MB follows a call of 20 us for ten minutes too."""

from __future__ import annotations

from collections.abc import Mapping

KEPT_RUNS = 65_536
"""Some 40 MB of Python objects with five stages each, and 7 MB of JSON; a p99 needs 662."""


class Kept:
    """Keeps every run until there are `limit`, from then on every second one, then every fourth, and so on.

    A run is kept by its number alone, never by its time: what is left out is no tail. runs: all of them.
    every: the step now. slowest_ms: of all runs, kept or not.
    """

    def __init__(self, limit: int = KEPT_RUNS) -> None:
        self._limit = limit
        self.runs = 0
        self.every = 1
        self.slowest_ms = 0.0
        self.starts_s: list[float] = []
        self.totals_ms: list[float] = []
        self.parts: list[Mapping[str, float]] = []

    def add(self, start_s: float, total_ms: float, parts: Mapping[str, float]) -> bool:
        """Take one run; whether it was kept."""
        index = self.runs
        self.runs += 1
        self.slowest_ms = max(self.slowest_ms, total_ms)
        if index % self.every:
            return False
        self.starts_s.append(start_s)
        self.totals_ms.append(total_ms)
        self.parts.append(parts)
        if len(self.totals_ms) >= 2 * self._limit:
            self.every *= 2
            del self.starts_s[1::2], self.totals_ms[1::2], self.parts[1::2]
        return True
