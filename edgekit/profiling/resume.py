"""A report from a journal: whole when the profile ended, else of what was measured until it was cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from edgekit.errors import InputError, ManifestError
from edgekit.profiling.assemble import Facts, Gathered, assemble
from edgekit.profiling.coldstart import ColdStart
from edgekit.profiling.journal import read_journal
from edgekit.profiling.measure import Rules, Samples, Slice, Warmup, columns
from edgekit.profiling.memory import MemoryPhase
from edgekit.profiling.operators import OperatorTable
from edgekit.profiling.report import Report
from edgekit.profiling.sampler import Measured, Trace, trace_of
from edgekit.profiling.sensors import Snapshot
from edgekit.records import Json, Record, parse

RecordKind = TypeVar("RecordKind", bound=Record)

CUT = "the profile was cut short"


def resume(path: Path) -> Report:
    """The report of the journal at `path`. Raises InputError where nothing was measured yet."""
    try:
        return assemble(gathered_from(read_journal(path)))
    except ManifestError as error:
        raise InputError(f"{path}: key '{error.key}': {error.problem}") from None
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a journal of this edgekit ({error})") from None


def is_finished(entries: Sequence[Mapping[str, Json]]) -> bool:
    """Whether the profile that wrote these entries came to its end."""
    return any(entry["kind"] == "end" for entry in entries)


def gathered_from(entries: Sequence[Mapping[str, Json]]) -> Gathered:
    """The pieces that the entries hold. Raises InputError."""
    last: dict[str, Mapping[str, Json]] = {entry["kind"]: entry for entry in entries}
    if "begin" not in last:
        raise InputError("the journal ends before the profile began")
    complete = is_finished(entries)
    before = parse(Snapshot, last["begin"]["before"])
    absent = {**last.get("cold_start", {}).get("absent", {}), **last.get("operators", {}).get("absent", {})}
    notes = list(last["end"]["notes"]) if complete else [CUT + ": this is what was on the disk"]
    trace = _trace(entries)
    return Gathered(
        facts=parse(Facts, last["begin"]["facts"]),
        complete=complete,
        before=before,
        after=parse(Snapshot, last["after"]["after"]) if "after" in last else before,
        cells=_cells(entries, last),
        cold_start=_all(ColdStart, last, "cold_start"),
        memory=_all(MemoryPhase, last, "memory"),
        operators=_all(OperatorTable, last, "operators"),
        trace=trace,
        notes=tuple(notes),
        absent=absent,
    )


def _all(kind: type[RecordKind], last: Mapping[str, Mapping[str, Json]], name: str) -> tuple[RecordKind, ...]:
    return tuple(parse(kind, document) for document in last.get(name, {}).get("records", []))


def _trace(entries: Sequence[Mapping[str, Json]]) -> Trace | None:
    readings = [
        (float(entry["at_s"]), [Measured(*item) for item in entry["measured"]])
        for entry in entries
        if entry["kind"] == "sensors"
    ]
    begun = next((entry for entry in entries if entry["kind"] == "sampler"), None)
    if not readings or begun is None:
        return None
    return trace_of(readings, rate_hz=float(begun["rate_hz"]), began_s=float(begun["began_s"]), missed=0)


def _cells(
    entries: Sequence[Mapping[str, Json]], last: Mapping[str, Mapping[str, Json]]
) -> list[tuple[str, dict[str, str], Samples]]:
    """Every cell that has runs: with its own summary where it ended, else with what its runs tell."""
    told = {entry["name"]: entry for entry in entries if entry["kind"] == "cell"}
    chunks: dict[str, list[Mapping[str, Json]]] = {}
    for entry in entries:
        if entry["kind"] == "runs":
            chunks.setdefault(entry["cell"], []).append(entry)
    cells = []
    for name in dict.fromkeys((*chunks, *told)):
        if name in told:
            samples = parse(Samples, told[name]["samples"])
            settings = dict(told[name]["settings"])
        else:
            settings = dict(last["cells"]["settings"][name])
            warmed = next(entry for entry in entries if entry["kind"] == "warmup" and entry["cell"] == name)
            began_s = float(chunks[name][0]["at_s"][0])
            samples = _cut_short(parse(Rules, last["cells"]["rules"]), parse(Warmup, warmed["record"]), began_s)
        if name in chunks:
            samples = with_runs(samples, chunks[name])
        cells.append((name, settings, samples))
    return cells


def with_runs(samples: Samples, chunks: Sequence[Mapping[str, Json]]) -> Samples:
    """The sample with the runs of its chunks; those that were thinned out while it went on are left out here too."""
    every = max([samples.kept_every, *(int(chunk["every"]) for chunk in chunks)])
    rows = [
        (float(at_s) - samples.began_s, float(total_ms), parts)
        for chunk in chunks
        for index, at_s, total_ms, parts in zip(chunk["index"], chunk["at_s"], chunk["total_ms"], chunk["parts"])
        if index % every == 0
    ]
    stages, details = columns([parts for _, _, parts in rows])
    total_ms = tuple(total for _, total, _ in rows)
    ended_s = rows[-1][0] + total_ms[-1] / 1e3
    return samples.replace(
        runs=samples.runs or len(rows) * every,
        kept_every=every,
        slowest_ms=max(samples.slowest_ms, *total_ms),
        start_s=tuple(start for start, _, _ in rows),
        total_ms=total_ms,
        stages_ms=stages,
        details=details,
        duration_s=samples.duration_s or ended_s,
        slices=samples.slices or (Slice(from_s=0.0, to_s=ended_s, waited_s=0.0, cool=None),),
    )


def _cut_short(rules: Rules, warmup: Warmup, began_s: float) -> Samples:
    """A cell that did not end: its processor time was not written yet."""
    return Samples(
        rules=rules,
        threads=1,
        warmup=warmup,
        runs=0,
        kept_every=1,
        slowest_ms=0.0,
        began_s=began_s,
        slices=(),
        start_s=(),
        total_ms=(),
        stages_ms={},
        details={},
        duration_s=0.0,
        cpu_ms_per_call=None,
        late_runs=0,
        stopped=f"{CUT} while this was measured",
    )
