"""Is this profile slower than that one? Decided only between equal environments, and said when it cannot be.

A regression needs three things at once: the median rose by more than a share, by more than an absolute floor, and
the bootstrap interval of the ratio lies above that share. Where the interval holds the bound, the answer is
"inconclusive", not a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgekit.errors import GateFailed, GateInconclusive
from edgekit.profiling.operators import OperatorTable
from edgekit.profiling.report import Cell, Report
from edgekit.profiling.statistics import CONFIDENCE, bootstrap_medians, percentile
from edgekit.records import Record

Verdict = Literal["faster", "same", "slower", "inconclusive"]

LATENCY_FLOOR_MS = 0.5
MEMORY_FLOOR_BYTES = 16 * 2**20
POWER_FLOOR_W = 0.25
"""edgegate's floors: below them a change is not worth anybody's time, whatever its percentage."""

MIN_RUNS = 20


class Change(Record):
    """One figure before and after. ratio: new by old; low, high: its 95 % bootstrap interval, null for one value.

    gates: whether the gate looks at it; a stage is shown, the whole that it is a part of decides.
    """

    name: str
    unit: str
    old: float
    new: float
    ratio: float
    low: float | None
    high: float | None
    verdict: Verdict
    because: str
    gates: bool


class Comparison(Record):
    """All changes of the cells that both profiles have. notes: what else is different between them."""

    old_digest: str
    new_digest: str
    environment: str
    fail_above: float
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


class Bounds(Record):
    """What counts as a regression. fail_above: a share, 0.1 for 10 %. The floors are in the figures' own units."""

    fail_above: float
    latency_floor_ms: float
    memory_floor_bytes: int
    power_floor_w: float


def bounds(fail_above: float, *, latency_floor_ms: float = LATENCY_FLOOR_MS) -> Bounds:
    """The usual floors with a share of one's own."""
    return Bounds(
        fail_above=fail_above,
        latency_floor_ms=latency_floor_ms,
        memory_floor_bytes=MEMORY_FLOOR_BYTES,
        power_floor_w=POWER_FLOOR_W,
    )


def compare(old: Report, new: Report, limits: Bounds) -> Comparison:
    """Every figure that both profiles have.

    Raises GateInconclusive where they were not measured alike: another environment, another input, another pace,
    or a profile that was cut short.
    """
    refuse_unlike(old, new)
    changes: list[Change] = []
    old_cells = {cell.name: cell for cell in old.cells}
    for cell in new.cells:
        if cell.name in old_cells:
            before = old_cells[cell.name]
            _refuse_other_rules(before, cell)
            changes.append(_latency(before, cell, limits))
            changes += _stages(before, cell, limits)
            changes += _power(before, cell, limits)
    if not changes:
        names = ", ".join(old_cells)
        raise GateInconclusive(f"the profiles have no cell in common: expected one of {names}")
    changes += _memory(old, new, limits)
    return Comparison(
        old_digest=old.subject.bundle_digest,
        new_digest=new.subject.bundle_digest,
        environment=new.environment.id,
        fail_above=limits.fail_above,
        changes=tuple(changes),
        notes=tuple(_differences(old, new)),
    )


def refuse_unlike(old: Report, new: Report) -> None:
    """Raise GateInconclusive where a difference would say nothing about the model."""
    before, after = old.environment, new.environment
    if before.id != after.id:
        what = [name for name in after.fields_ if name != "id" and getattr(before, name) != getattr(after, name)]
        told = "; ".join(f"{name}: {_said(before, name)} against {_said(after, name)}" for name in what[:4])
        raise GateInconclusive(
            f"the baseline was measured in another environment ({before.id} against {after.id}): {told}",
            hint="measure the baseline on this machine, in this state",
        )
    if old.workload != new.workload:
        raise GateInconclusive(
            f"the profiles used other inputs: {old.workload.described} against {new.workload.described}"
        )
    for name, report in (("baseline", old), ("new profile", new)):
        if not report.complete:
            raise GateInconclusive(f"the {name} was cut short", hint="measure it again")


def _said(environment: object, name: str) -> str:
    value = getattr(environment, name)
    return str(getattr(value, "text", None) or getattr(value, "value", None) or value)


def _refuse_other_rules(old: Cell, new: Cell) -> None:
    before, after = old.samples.rules, new.samples.rules
    for name in ("scenario", "pace_hz", "batch"):
        if getattr(before, name) != getattr(after, name):
            raise GateInconclusive(
                f"{new.name}: {name} was {getattr(before, name)} in the baseline and is {getattr(after, name)}"
            )
    if old.settings != new.settings:
        raise GateInconclusive(f"{new.name}: settings were {old.settings} in the baseline and are {new.settings}")


def ratio_interval(old: Sequence[float], new: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval of the ratio of medians, both resampled by blocks on their own."""
    before = bootstrap_medians(old, seed=seed)
    after = bootstrap_medians(new, seed=seed + 1)
    ratios = [b / a for a, b in zip(before, after) if a > 0]
    tail = (1.0 - CONFIDENCE) / 2.0
    return percentile(ratios, tail, "linear"), percentile(ratios, 1.0 - tail, "linear")


def judge(
    old: float, new: float, interval: tuple[float, float], fail_above: float, floor: float
) -> tuple[Verdict, str]:
    """The verdict over two medians and the interval of their ratio, and why.

    slower: more than `fail_above`, more than `floor`, and the whole interval above the share. faster: the mirror
    image. inconclusive: the median is beyond both bounds but the interval is not. same: everything else, unless
    the interval reaches beyond the bounds on both.
    """
    ratio, (low, high) = new / old, interval
    up, down = 1.0 + fail_above, 1.0 / (1.0 + fail_above)
    if abs(new - old) <= floor and max(abs(old * low - old), abs(old * high - old)) <= floor:
        return "same", f"within {floor:g}"
    if ratio > up and new - old > floor:
        if low > up:
            return "slower", f"{ratio - 1:+.1%}, surely more than {fail_above:.0%}"
        return "inconclusive", f"{ratio - 1:+.1%}, but it may be {low - 1:+.1%}"
    if ratio < down and old - new > floor and high < 1.0:
        return "faster", f"{ratio - 1:+.1%}"
    if high > up and old * high - old > floor:
        return "inconclusive", f"{ratio - 1:+.1%}, but it may be {high - 1:+.1%}"
    return "same", f"{ratio - 1:+.1%}"


def _latency(old: Cell, new: Cell, limits: Bounds) -> Change:
    return _timed(new.name, old.samples.total_ms, new.samples.total_ms, limits, gates=True)


def _timed(name: str, old: Sequence[float], new: Sequence[float], limits: Bounds, *, gates: bool) -> Change:
    before, after = percentile(old, 0.5, "linear"), percentile(new, 0.5, "linear")
    interval = ratio_interval(old, new)
    fewest = min(len(old), len(new))
    if fewest < MIN_RUNS:
        judged: tuple[Verdict, str] = "inconclusive", f"needs {MIN_RUNS} runs, got {fewest}"
    else:
        judged = judge(before, after, interval, limits.fail_above, limits.latency_floor_ms)
    return Change(
        name=name,
        unit="ms",
        old=before,
        new=after,
        ratio=after / before,
        low=interval[0],
        high=interval[1],
        verdict=judged[0],
        because=judged[1],
        gates=gates,
    )


def _stages(old: Cell, new: Cell, limits: Bounds) -> list[Change]:
    changes = []
    for name, column in new.samples.stages_ms.items():
        before = [v for v in old.samples.stages_ms.get(name, ()) if v is not None]
        after = [v for v in column if v is not None]
        if before and after and min(percentile(before, 0.5, "linear"), percentile(after, 0.5, "linear")) > 0:
            changes.append(_timed(f"{new.name} {name}", before, after, limits, gates=False))
    return changes


def _memory(old: Report, new: Report, limits: Bounds) -> list[Change]:
    before, after = _peaks(old), _peaks(new)
    floor = float(limits.memory_floor_bytes)
    return [
        _single(f"peak memory, {name}", "bytes", before[name], after[name], limits.fail_above, floor)
        for name in after
        if name in before
    ]


def _peaks(report: Report) -> dict[str, float]:
    """Peak bytes of each phase, and of a fresh process until its first answer."""
    peaks = {phase.phase: float(phase.peak_bytes) for phase in report.memory if phase.peak_bytes}
    fresh = [float(peak) for cold in report.cold_start[:1] for peak in cold.peak_bytes if peak]
    return {**peaks, "fresh process": percentile(fresh, 0.5, "linear")} if fresh else peaks


def _power(old: Cell, new: Cell, limits: Bounds) -> list[Change]:
    before, after = old.energy.power_w.value, new.energy.power_w.value
    if not before or not after:
        return []
    return [_single(f"{new.name} power", "W", before, after, limits.fail_above, limits.power_floor_w)]


def _single(name: str, unit: str, old: float, new: float, fail_above: float, floor: float) -> Change:
    """A figure without samples: only the share and the floor decide."""
    ratio = new / old
    verdict: Verdict = "same"
    if new - old > floor and ratio > 1.0 + fail_above:
        verdict = "slower"
    elif old - new > floor and ratio < 1.0 / (1.0 + fail_above):
        verdict = "faster"
    return Change(
        name=name,
        unit=unit,
        old=old,
        new=new,
        ratio=ratio,
        low=None,
        high=None,
        verdict=verdict,
        because=f"{ratio - 1:+.1%}, floor {floor:g} {unit}",
        gates=True,
    )


def _differences(old: Report, new: Report) -> list[str]:
    notes = []
    for name in dict.fromkeys((*old.runtime_versions, *new.runtime_versions)):
        before, after = old.runtime_versions.get(name, "absent"), new.runtime_versions.get(name, "absent")
        if before != after:
            notes.append(f"{name} was {before} and is {after}")
    for what, report in (("the baseline", old), ("the new profile", new)):
        if not report.stable:
            notes.append(f"{what} was not stable: {report.unstable_because[0]}")
    notes += _operator_changes(old.operators, new.operators)
    return notes


def _operator_changes(old: Sequence[OperatorTable], new: Sequence[OperatorTable]) -> list[str]:
    """Operators that came or went: the usual reason for a jump."""
    before = {(table.variant, table.graph): set(table.by_op) for table in old if not table.absent}
    notes = []
    for table in new:
        was = before.get((table.variant, table.graph))
        if was is not None and not table.absent and set(table.by_op) != was:
            came, went = set(table.by_op) - was, was - set(table.by_op)
            notes.append(f"operators of {table.graph}: new {sorted(came) or 'none'}, gone {sorted(went) or 'none'}")
    return notes


def gate(found: Comparison) -> None:
    """Raise GateFailed where a whole got slower or larger, GateInconclusive where that cannot be decided."""
    slower = [change for change in found.changes if change.verdict == "slower" and change.gates]
    if slower:
        first = slower[0]
        raise GateFailed(
            f"{first.name}: {first.old:.4g} -> {first.new:.4g} {first.unit} ({first.because})"
            + (f", and {len(slower) - 1} more" if len(slower) > 1 else "")
        )
    unclear = [change for change in found.changes if change.verdict == "inconclusive" and change.gates]
    if unclear:
        first = unclear[0]
        raise GateInconclusive(
            f"{first.name}: {first.old:.4g} -> {first.new:.4g} {first.unit} ({first.because})",
            hint="measure longer, in turn with the baseline, on a quiet machine",
        )
