"""The report of a profile: every figure with the conditions it was measured under.

The records are the schema (`json_schema` in schema.py prints it). A report without one of its fields cannot be
built, a value that could not be read is null with a reason, and `load_report(dump_report(r)) == r`.
"""

from __future__ import annotations

import hashlib
from typing import Any

from edgekit.errors import InputError, ManifestError
from edgekit.profiling.coldstart import ColdStart
from edgekit.profiling.measure import STAGE_SUM_TOLERANCE, Samples, adds_up, stage_sum_share, throughput_per_s
from edgekit.profiling.memory import MemoryPhase
from edgekit.profiling.operators import OperatorTable
from edgekit.profiling.readings import Fact, Reading, Throttle
from edgekit.profiling.sampler import Trace
from edgekit.profiling.statistics import UNSTABLE_SHARE, Summary, summarize
from edgekit.profiling.sustained import Sustained
from edgekit.profiling.workload import Workload
from edgekit.records import Record, dump, dump_canonical, load_json, parse

SCHEMA = 1
"""Any change of the keys below is a new number."""


class Subject(Record):
    """What was measured; the digest names its bytes.

    variant: its name beside other bundles that were measured in turn, else null. release: the deployed release's
    id, or null. graphs: name -> its file, runtime and class of precision.
    """

    variant: str | None
    name: str
    version: str
    task: str
    bundle_digest: str
    release: str | None
    graphs: dict[str, str]


class Environment(Record):
    """The machine and its state that figures depend on; `id` is the same only where these all are."""

    id: str
    board: str
    cpu: str
    architecture: str
    cores: int
    ram_bytes: Reading
    os: str
    kernel: str
    python: str
    governor: Fact
    power_mode: Fact
    clock_limit_mhz: Reading


class Conditions(Record):
    """What may change while measuring, before and after it."""

    temperature_before_c: Reading
    temperature_after_c: Reading
    clock_before_mhz: Reading
    clock_after_mhz: Reading
    throttle_before: Throttle
    throttle_after: Throttle
    load_by_others: Reading
    battery: Fact


class Stage(Record):
    """One stage of predict; `ran` counts the runs in which it took part, `share` is of all runs' whole time."""

    name: str
    ran: int
    share: float
    ms: Summary


class Detail(Record):
    """A figure below a stage, in the unit its name ends with: `generate.first_token_ms`, `generate.tokens_per_s`."""

    name: str
    ran: int
    figures: Summary


class Energy(Record):
    """Energy of one run where power is known. idle_w: before the measuring. net: with the idle power taken off."""

    source: str | None
    power_w: Reading
    idle_w: Reading
    per_run_mj: Reading
    net_per_run_mj: Reading


class Cell(Record):
    """One way of running the workload, measured: its figures and every sample behind them.

    settings: what differs between cells, as words: variant, threads (of the runtime, per graph), callers, batch.
    stage_sum_share: what the stages add up to, the median run; adds_up: within 2 % or 0.02 ms (null: no stages).
    real_time_factor: median time by the length of the sound, below 1 keeps up (null where there is no sound).
    """

    name: str
    settings: dict[str, str]
    samples: Samples
    latency_ms: Summary
    stages: tuple[Stage, ...]
    details: tuple[Detail, ...]
    stage_sum_share: float | None
    adds_up: bool | None
    throughput_per_s: float
    cpu_ms_per_call: float | None
    real_time_factor: Reading
    energy: Energy
    unstable_because: tuple[str, ...]


class Report(Record):
    """A whole profile. absent: why a section is null or empty. complete: false when it was cut short.

    subject: the first of `others`, the further bundles that were measured in turn with it. memory: of the process
    that measured, while it loaded the subject; a bundle's own is in its cold start.
    """

    schema: int
    created_utc: str
    complete: bool
    subject: Subject
    others: tuple[Subject, ...]
    workload: Workload
    environment: Environment
    runtime_versions: dict[str, str]
    conditions: Conditions
    cells: tuple[Cell, ...]
    cold_start: tuple[ColdStart, ...]
    memory: tuple[MemoryPhase, ...]
    operators: tuple[OperatorTable, ...]
    sensors: Trace | None
    sustained: Sustained | None
    stable: bool
    unstable_because: tuple[str, ...]
    notes: tuple[str, ...]
    absent: dict[str, str]

    def check(self) -> None:
        if self.schema != SCHEMA:
            raise InputError(f"this edgekit reads report schema {SCHEMA}, got {self.schema}")
        digests = all(subject.bundle_digest for subject in (self.subject, *self.others))
        if not digests or not self.environment.id or not self.runtime_versions:
            raise InputError("a report names its bundle's digest, its environment's id and the runtimes' versions")
        if not self.cells:
            raise InputError("a report has at least one measured cell")
        for name in ("cold_start", "memory", "operators", "sensors", "sustained"):
            if not getattr(self, name) and not self.absent.get(name):
                raise InputError(f"a report without '{name}' says why under absent.{name}")
        if self.stable == bool(self.unstable_because):
            raise InputError("a report is stable, or says why it is not")


def build_report(**fields: Any) -> Report:
    """The report of these fields, checked as strictly as one that is read. Raises InputError."""
    try:
        return parse(Report, dump(Report(schema=SCHEMA, **fields)))
    except TypeError as error:
        raise InputError(f"a report cannot be built: {error}") from None
    except ManifestError as error:
        raise InputError(f"a report cannot be built: key '{error.key}': {error.problem}") from None


def dump_report(report: Report) -> bytes:
    """The report as canonical JSON."""
    return dump_canonical(report) + b"\n"


def load_report(data: bytes, name: str) -> Report:
    """The report that a file holds; `name` is for messages. Raises InputError."""
    try:
        document = load_json(data)
        found = document.get("schema") if isinstance(document, dict) else None
        if found != SCHEMA:
            raise InputError(f"{name}: expected a profile of schema {SCHEMA}, got {found!r}")
        return parse(Report, document)
    except ManifestError as error:
        where = f"key '{error.key}': " if error.key else ""
        raise InputError(f"{name}: not a profile ({where}{error.problem})") from None


def environment_id(facts: dict[str, str]) -> str:
    """Sixteen hexadecimal digits that are the same only where all these facts are."""
    return hashlib.sha256(dump_canonical(facts)).hexdigest()[:16]


def cell_of(name: str, samples: Samples, *, settings: dict[str, str], audio_s: Reading, energy: Energy) -> Cell:
    """The figures of measured samples; audio_s is the length of the sound in one call."""
    latency = summarize(samples.total_ms)
    whole_ms = sum(samples.total_ms)
    share = stage_sum_share(samples)
    rtf = (
        Reading(value=latency.p50 / 1e3 / audio_s.value, reason=None)
        if audio_s.value
        else Reading(value=None, reason=audio_s.reason or "the sound has no length")
    )
    return Cell(
        name=name,
        settings=settings,
        samples=samples,
        latency_ms=latency,
        stages=tuple(_stage(n, column, whole_ms) for n, column in samples.stages_ms.items()),
        details=tuple(_detail(n, column) for n, column in samples.details.items()),
        stage_sum_share=share,
        adds_up=adds_up(samples),
        throughput_per_s=throughput_per_s(samples),
        cpu_ms_per_call=samples.cpu_ms_per_call,
        real_time_factor=rtf,
        energy=energy,
        unstable_because=_doubts(samples, latency, share, adds_up(samples)),
    )


def _stage(name: str, column: tuple[float | None, ...], whole_ms: float) -> Stage:
    values = _present(column)
    share = sum(values) / whole_ms if whole_ms > 0 else 0.0
    return Stage(name=name, ran=len(values), share=share, ms=summarize(values))


def _detail(name: str, column: tuple[float | None, ...]) -> Detail:
    values = _present(column)
    return Detail(name=name, ran=len(values), figures=summarize(values))


def _present(column: tuple[float | None, ...]) -> list[float]:
    return [value for value in column if value is not None]


def _doubts(samples: Samples, latency: Summary, share: float | None, whole: bool | None) -> tuple[str, ...]:
    doubts = []
    if latency.unstable and latency.std is not None:
        spread = latency.std / abs(latency.mean)
        doubts.append(f"the standard deviation is {spread:.0%} of the mean (more than {UNSTABLE_SHARE:.0%})")
    if whole is False and share is not None:
        doubts.append(f"the stages add up to {share:.1%} of the whole, more than {STAGE_SUM_TOLERANCE:.0%} off")
    if not samples.warmup.settled and samples.rules.warmup_min_runs:
        doubts.append(f"the running median had not settled after {samples.warmup.runs} warm-up runs")
    if samples.stopped:
        doubts.append(samples.stopped)
    warm = [slice_ for slice_ in samples.slices if slice_.cool is False]
    if warm:
        waited_s = max(slice_.waited_s for slice_ in warm)
        doubts.append(
            f"{len(warm)} of {len(samples.slices)} slices began on a board that {waited_s:.0f} s had not cooled down"
        )
    if samples.late_runs:
        doubts.append(f"{samples.late_runs} of {samples.runs} runs began later than the pace asked for")
    return tuple(doubts)
