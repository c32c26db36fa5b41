"""A thread that reads sensors at a stated rate beside the run, and the trace it leaves."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple

from edgekit.errors import InputError
from edgekit.records import Record

CONSTANT_MIN_READINGS = 20


class Measured(NamedTuple):
    """One sensor at one moment: a value in `unit`, or null and the reason."""

    name: str
    unit: str
    value: float | None
    reason: str | None
    source: str


Sensors = Callable[[], Sequence[Measured]]


class Channel(Record):
    """One sensor over time. reason: why values are null. doubt: what speaks against believing them."""

    name: str
    unit: str
    source: str
    values: tuple[float | None, ...]
    reason: str | None
    doubt: str | None


class Trace(Record):
    """All sensors over time; time_s in seconds after `began_s` on the machine's monotonic clock.

    rate_hz: asked for. missed: readings that came more than half a period late (a slow sensor, a busy machine).
    reading_ms: what one reading of all sensors took, the median, null where it was not timed.
    """

    rate_hz: float
    began_s: float
    time_s: tuple[float, ...]
    channels: tuple[Channel, ...]
    missed: int
    reading_ms: float | None


class Sampler:
    """Reads `sensors` in a thread between `with` and its end, then `trace()` gives what was read."""

    def __init__(
        self,
        sensors: Sensors,
        *,
        rate_hz: float,
        on_reading: Callable[[float, Sequence[Measured]], None] | None = None,
    ) -> None:
        if not 0 < rate_hz <= 100:
            raise InputError(f"sensors are read 0 to 100 times per second, got {rate_hz:g}")
        self._sensors, self._rate_hz, self._on_reading = sensors, rate_hz, on_reading
        self._stop = threading.Event()
        self._began_s = time.perf_counter()
        self._readings: list[tuple[float, Sequence[Measured]]] = []
        self._took_ms: list[float] = []
        self._processor_s = 0.0
        self._missed = 0
        self._thread = threading.Thread(target=self._work, name="edgekit-sensors", daemon=True)

    def __enter__(self) -> Sampler:
        self._began_s = time.perf_counter()
        self._read()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._read()

    def _read(self) -> None:
        moment_s, processor_from_s = time.perf_counter() - self._began_s, time.thread_time()
        measured = self._sensors()
        self._took_ms.append((time.perf_counter() - self._began_s - moment_s) * 1e3)
        self._readings.append((moment_s, measured))
        if self._on_reading is not None:
            self._on_reading(moment_s, measured)
        self._processor_s += time.thread_time() - processor_from_s

    def _work(self) -> None:
        period_s, turn = 1.0 / self._rate_hz, 1
        while not self._stop.wait(max(0.0, self._began_s + turn * period_s - time.perf_counter())):
            late_s = time.perf_counter() - self._began_s - turn * period_s
            self._missed += late_s > period_s / 2
            turn += 1 + max(0, int(late_s / period_s))
            self._read()

    @property
    def began_s(self) -> float:
        """The machine's monotonic clock when sampling began."""
        return self._began_s

    @property
    def processor_s(self) -> float:
        """Processor time of this process that the readings took until now."""
        return self._processor_s

    def readings(self) -> list[tuple[float, Sequence[Measured]]]:
        """What was read until now, with its moment in seconds."""
        return list(self._readings)

    def trace(self) -> Trace:
        """The trace of everything that was read."""
        return trace_of(self.readings(), rate_hz=self._rate_hz, began_s=self._began_s, missed=self._missed).replace(
            reading_ms=statistics.median(self._took_ms) if self._took_ms else None
        )


def trace_of(
    readings: Sequence[tuple[float, Sequence[Measured]]], *, rate_hz: float, began_s: float, missed: int
) -> Trace:
    """One channel per sensor that was ever named; a sensor that was not named in a reading is null there."""
    first: dict[str, Measured] = {}
    for _, measured in readings:
        for item in measured:
            first.setdefault(item.name, item)
    columns = {name: _column(name, readings) for name in first}
    return Trace(
        rate_hz=float(rate_hz),
        began_s=began_s,
        time_s=tuple(moment for moment, _ in readings),
        channels=tuple(_channel(first[name], columns[name]) for name in first),
        missed=missed,
        reading_ms=None,
    )


def _column(name: str, readings: Sequence[tuple[float, Sequence[Measured]]]) -> list[Measured | None]:
    return [next((item for item in measured if item.name == name), None) for _, measured in readings]


def _channel(first: Measured, column: Sequence[Measured | None]) -> Channel:
    values = tuple(None if item is None or item.value is None else float(item.value) for item in column)
    reasons = [item.reason for item in column if item is not None and item.reason]
    gone = "was not reported any more" if any(item is None for item in column) else None
    reason = (reasons[0] if reasons else gone) if None in values else None
    return Channel(
        name=first.name,
        unit=first.unit,
        source=first.source,
        values=values,
        reason=reason,
        doubt=doubt_about(first.unit, values),
    )


def doubt_about(unit: str, values: Sequence[float | None]) -> str | None:
    """What a column of values says against its sensor: constant where a real one moves, or lost on the way."""
    present = [value for value in values if value is not None]
    if present and len(present) < len(values):
        return f"{len(values) - len(present)} of {len(values)} readings are missing"
    if unit in ("C", "W") and len(present) >= CONSTANT_MIN_READINGS and len(set(present)) == 1:
        return f"constant at {present[0]:g} {unit} in {len(present)} readings"
    return None


def channel(trace: Trace | None, name: str) -> Channel | None:
    """The channel of this name, or None."""
    return next((c for c in trace.channels if c.name == name), None) if trace is not None else None
