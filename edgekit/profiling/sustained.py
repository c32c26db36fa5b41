"""What heat does to latency over minutes: the first minute against the last, and the knee between them."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.errors import InputError
from edgekit.profiling.measure import Samples
from edgekit.profiling.sampler import Trace
from edgekit.profiling.statistics import percentile
from edgekit.records import Record

KNEE_MIN_WINDOWS = 6
KNEE_MIN_CHANGE = 0.05
RISING_C = 1.0


class Window(Record):
    """One stretch of the run, in seconds after its start; null where no run began or no sensor was read."""

    from_s: float
    to_s: float
    runs: int
    p50_ms: float | None
    temperature_c: float | None
    clock_mhz: float | None


class Sustained(Record):
    """The course of a long run.

    slowdown: p50 of the last window by p50 of the first. knee_s: where the latency's level changed, null and
    `reason` where it did not by at least 5 %. Windows are a minute, or a tenth of a run shorter than ten minutes.
    """

    window_s: float
    windows: tuple[Window, ...]
    first_p50_ms: float
    last_p50_ms: float
    slowdown: float
    knee_s: float | None
    reason: str | None


def sustained(samples: Samples, trace: Trace | None, *, temperature: str | None, clock: str | None) -> Sustained:
    """The course of these samples; temperature and clock name channels of the trace. Raises InputError."""
    window_s = min(60.0, samples.duration_s / 10.0)
    count = max(1, int(samples.duration_s / window_s + 1e-9))
    windows = []
    for i in range(count):
        low, high = i * window_s, (i + 1) * window_s if i + 1 < count else samples.duration_s
        inside = [ms for start, ms in zip(samples.start_s, samples.total_ms) if low <= start < high]
        windows.append(
            Window(
                from_s=low,
                to_s=high,
                runs=len(inside),
                p50_ms=percentile(inside, 0.5, "linear") if inside else None,
                temperature_c=_mean_between(samples, trace, temperature, low, high),
                clock_mhz=_mean_between(samples, trace, clock, low, high),
            )
        )
    filled = [window for window in windows if window.p50_ms is not None]
    if not filled:
        raise InputError("a sustained run needs at least one run")
    medians = [window.p50_ms for window in filled if window.p50_ms is not None]
    at, reason = knee(medians)
    return Sustained(
        window_s=window_s,
        windows=tuple(windows),
        first_p50_ms=medians[0],
        last_p50_ms=medians[-1],
        slowdown=medians[-1] / medians[0],
        knee_s=None if at is None else filled[at].from_s,
        reason=reason,
    )


def knee(medians: Sequence[float]) -> tuple[int | None, str | None]:
    """The first index of the new level: the split into two levels with the least squared error.

    None with the reason where there are fewer than 6 values or the two levels differ by less than 5 %.
    """
    if len(medians) < KNEE_MIN_WINDOWS:
        return None, f"a knee needs {KNEE_MIN_WINDOWS} windows, got {len(medians)}"
    splits = range(1, len(medians))
    best = min(splits, key=lambda i: _squared_error(medians[:i]) + _squared_error(medians[i:]))
    before, after = _mean(medians[:best]), _mean(medians[best:])
    if abs(after - before) < KNEE_MIN_CHANGE * before:
        return None, f"the latency's level changed by less than {KNEE_MIN_CHANGE:.0%}"
    return best, None


def still_rising(values: Sequence[float | None]) -> float | None:
    """How much warmer the last third was than the third before it, in degrees; null below 9 readings."""
    present = [value for value in values if value is not None]
    third = len(present) // 3
    if third < 3:
        return None
    return _mean(present[-third:]) - _mean(present[-2 * third : -third])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _squared_error(values: Sequence[float]) -> float:
    mean = _mean(values)
    return sum((value - mean) ** 2 for value in values)


def _mean_between(samples: Samples, trace: Trace | None, name: str | None, low: float, high: float) -> float | None:
    if trace is None or name is None:
        return None
    shift_s = trace.began_s - samples.began_s
    values = [
        value
        for channel in trace.channels
        if channel.name == name
        for moment, value in zip(trace.time_s, channel.values)
        if value is not None and low <= moment + shift_s < high
    ]
    return _mean(values) if values else None
