"""From what was gathered to the report: the same for a profile that ended and for one that was cut short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edgekit.errors import InputError
from edgekit.profiling.coldstart import ColdStart
from edgekit.profiling.linux_sensors import load_by_others
from edgekit.profiling.measure import Samples
from edgekit.profiling.memory import MemoryPhase
from edgekit.profiling.operators import OperatorTable
from edgekit.profiling.readings import Fact, Reading, known, unknown
from edgekit.profiling.report import Cell, Conditions, Energy, Environment, Report, Subject, build_report, cell_of
from edgekit.profiling.sampler import Measured, Trace, channel
from edgekit.profiling.sensors import Snapshot, primary_clock, primary_temperature, total_power
from edgekit.profiling.sustained import RISING_C, still_rising, sustained
from edgekit.profiling.workload import Workload
from edgekit.records import Record


class Facts(Record):
    """What is known before anything is measured. audio_s: length of the sound in one call."""

    created_utc: str
    subject: Subject
    others: tuple[Subject, ...]
    workload: Workload
    environment: Environment
    runtime_versions: dict[str, str]
    battery: Fact
    audio_s: Reading
    is_sustained: bool


class Gathered(NamedTuple):
    """Everything that goes into a report. cells: name, settings, samples. absent: why a part is null or empty."""

    facts: Facts
    complete: bool
    before: Snapshot
    after: Snapshot
    cells: Sequence[tuple[str, dict[str, str], Samples]]
    cold_start: tuple[ColdStart, ...]
    memory: tuple[MemoryPhase, ...]
    operators: tuple[OperatorTable, ...]
    trace: Trace | None
    notes: tuple[str, ...]
    absent: dict[str, str]


def assemble(found: Gathered) -> Report:
    """The report. Raises InputError where nothing was measured."""
    if not found.cells:
        raise InputError("nothing was measured before the profile was cut short")
    facts = found.facts
    idle_until_s = min(samples.warmup.began_s for _, _, samples in found.cells)
    cells = tuple(
        cell_of(name, s, settings=how, audio_s=facts.audio_s, energy=energy_of(found.trace, s, idle_until_s))
        for name, how, s in found.cells
    )
    hot, fast = telling_channels(found.trace)
    course = sustained(found.cells[0][2], found.trace, temperature=hot, clock=fast) if facts.is_sustained else None
    doubts = _doubts(found, cells, hot)
    absent = dict(found.absent)
    for name, value in (("sensors", found.trace), ("cold_start", found.cold_start), ("memory", found.memory)):
        if not value:
            absent.setdefault(name, "the profile was cut short before it")
    if not found.operators:
        absent.setdefault("operators", "the profile was cut short before them")
    if course is None:
        absent.setdefault("sustained", "not asked for")
    return build_report(
        created_utc=facts.created_utc,
        complete=found.complete,
        subject=facts.subject,
        others=facts.others,
        workload=facts.workload,
        environment=facts.environment,
        runtime_versions=facts.runtime_versions,
        conditions=_conditions(found),
        cells=cells,
        cold_start=found.cold_start,
        memory=found.memory,
        operators=found.operators,
        sensors=found.trace,
        sustained=course,
        stable=not doubts,
        unstable_because=tuple(doubts),
        notes=found.notes,
        absent=absent,
    )


def _conditions(found: Gathered) -> Conditions:
    before, after = found.before, found.after
    others = load_by_others(
        before.busy_s, after.busy_s, own_s=after.own_s - before.own_s, wall_s=after.at_s - before.at_s
    )
    return Conditions(
        temperature_before_c=before.temperature_c,
        temperature_after_c=after.temperature_c,
        clock_before_mhz=before.clock_mhz,
        clock_after_mhz=after.clock_mhz,
        throttle_before=before.throttle,
        throttle_after=after.throttle,
        load_by_others=others,
        battery=found.facts.battery,
    )


def _doubts(found: Gathered, cells: Sequence[Cell], hot: str | None) -> list[str]:
    """Why the figures should not be trusted blindly; empty for a stable profile."""
    doubts = [f"{cell.name}: {reason}" for cell in cells for reason in cell.unstable_because]
    throttled = channel(found.trace, "throttled")
    share = [value for value in throttled.values if value is not None] if throttled else []
    if any(share):
        doubts.append(f"the board said that it held back in {sum(share):.0f} of {len(share)} readings")
    elif found.after.throttle.now:
        doubts.append(f"the board holds back: {', '.join(found.after.throttle.now)}")
    new = set(found.after.throttle.since_boot or ()) - set(found.before.throttle.since_boot or ())
    if new and not any(share):
        doubts.append(f"it happened while measuring: {', '.join(sorted(new))}")
    temperature = channel(found.trace, hot) if hot else None
    rise = still_rising(temperature.values) if temperature else None
    if rise is not None and rise > RISING_C:
        doubts.append(f"the temperature was still rising: {rise:.1f} C in the last third")
    if temperature is not None and temperature.doubt:
        doubts.append(f"{temperature.name} cannot be trusted: {temperature.doubt}")
    if not found.complete:
        doubts.append("the profile was cut short")
    return doubts


def telling_channels(trace: Trace | None) -> tuple[str | None, str | None]:
    """The names of the channels that speak for the processor's temperature and clock."""
    if trace is None:
        return None, None
    means = [_mean_measured(trace, i) for i in range(len(trace.channels))]
    hot, fast = primary_temperature(means), primary_clock(means)
    return hot.name if hot else None, fast.name if fast else None


def _mean_measured(trace: Trace, index: int) -> Measured:
    found = trace.channels[index]
    present = [value for value in found.values if value is not None]
    mean = sum(present) / len(present) if present else None
    return Measured(found.name, found.unit, mean, found.reason, found.source)


def energy_of(trace: Trace | None, samples: Samples, idle_until_s: float) -> Energy:
    """Mean power in the sample's slices, times its time by its runs.

    idle_until_s: when the first call of all was made, on the machine's monotonic clock; the idle power is what was
    read before it.
    """
    if trace is None:
        return _no_energy("no sensor was read")
    shift_s = samples.began_s - trace.began_s
    slices = [(slice_.from_s + shift_s, slice_.to_s + shift_s) for slice_ in samples.slices]
    busy, idle, source, reason = [], [], "", "no reading fell into the measuring"
    for i, moment in enumerate(trace.time_s):
        watts, told = total_power([Measured(c.name, c.unit, c.values[i], c.reason, c.source) for c in trace.channels])
        if watts is None:
            reason = told
        elif any(from_s <= moment <= to_s for from_s, to_s in slices):
            busy.append(watts)
            source = told
        elif moment < idle_until_s - trace.began_s:
            idle.append(watts)
    if not busy:
        return _no_energy(reason)
    power_w = sum(busy) / len(busy)
    idle_w = sum(idle) / len(idle) if idle else None
    per_run_s = samples.duration_s / samples.runs
    no_idle = unknown("no power was read before the measuring")
    return Energy(
        source=source,
        power_w=known(power_w),
        idle_w=no_idle if idle_w is None else known(idle_w),
        per_run_mj=known(power_w * per_run_s * 1e3),
        net_per_run_mj=no_idle if idle_w is None else known((power_w - idle_w) * per_run_s * 1e3),
    )


def _no_energy(reason: str) -> Energy:
    none = unknown(reason)
    return Energy(source=None, power_w=none, idle_w=none, per_run_mj=none, net_per_run_mj=none)
