"""A report as plain text: aligned, at most 80 columns, no colour needed to read it."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.profiling.coldstart import PARTS, ColdStart
from edgekit.profiling.operators import Operator, OperatorTable
from edgekit.profiling.readings import Fact, Reading, Throttle
from edgekit.profiling.report import Cell, Energy, Report, Subject
from edgekit.profiling.statistics import percentile

WIDTH = 80
OPERATORS_SHOWN = 10


def render(report: Report) -> str:
    """The whole report."""
    blocks = [_head(report), _overview(report), *(_cell(cell) for cell in report.cells)]
    blocks += [*_cold_starts(report), _memory(report), _energy(report), _sustained(report)]
    blocks += [_operators(table) for table in report.operators]
    blocks += [_sensors(report), _verdict(report)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart: the first to the left, the others to the right; too long a first one is cut."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    widths[0] = max(8, min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)))
    lines = []
    for row in (header, *rows):
        first = row[0] if len(row[0]) <= widths[0] else row[0][: widths[0] - 1] + "~"
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  ".join(cells).rstrip()[:WIDTH])
    return "\n".join(lines)


def ms(value: float | None) -> str:
    """Milliseconds with three digits that count; a dash for null."""
    if value is None:
        return "-"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def mib(value: float | None) -> str:
    """Bytes in MiB; a dash for null."""
    return "-" if value is None else f"{value / 2**20:.1f}"


def _lines(pairs: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in pairs)
    return "\n".join(_wrapped(f"{name.ljust(width)}  ", text) for name, text in pairs)


def _wrapped(prefix: str, text: str) -> str:
    import textwrap

    return "\n".join(
        textwrap.wrap(text, WIDTH, initial_indent=prefix, subsequent_indent=" " * len(prefix)) or [prefix.rstrip()]
    )


def reading(value: Reading, unit: str, digits: int = 1) -> str:
    """A value with its unit, or why there is none."""
    return f"unknown ({value.reason})" if value.value is None else f"{value.value:.{digits}f} {unit}"


def _fact(value: Fact) -> str:
    return value.text or f"unknown ({value.reason})"


def throttle(value: Throttle) -> str:
    """What the board said of itself, in words."""
    if value.now is None:
        return f"unknown ({value.reason})"
    now = ", ".join(value.now) or "none"
    return f"{now} now; since boot: {', '.join(value.since_boot or ()) or 'none'}"


def _before_after(before: Reading, after: Reading, unit: str) -> str:
    if before.value is None and after.value is None:
        return reading(before, unit)
    return f"{reading(before, unit)} before, {reading(after, unit)} after"


def _head(report: Report) -> str:
    subject, machine, conditions = report.subject, report.environment, report.conditions
    versions = ", ".join(f"{name} {version}" for name, version in report.runtime_versions.items())
    machine_line = f"{machine.board}; {machine.cpu}, {machine.cores} cores, {mib(machine.ram_bytes.value)} MiB"
    pairs = [
        ("profile", f"{subject.name} {subject.version} ({subject.task})"),
        *((f"bundle {s.variant or ''}".strip(), bundle_words(s)) for s in (subject, *report.others)),
        ("input", report.workload.described),
        ("machine", f"{machine_line} [{machine.id}]"),
        ("system", f"{machine.os}, kernel {machine.kernel}, Python {machine.python}"),
        ("versions", versions),
        ("governor", f"{_fact(machine.governor)}; power mode {_fact(machine.power_mode)}"),
        ("clock", _before_after(conditions.clock_before_mhz, conditions.clock_after_mhz, "MHz")),
        ("temperature", _before_after(conditions.temperature_before_c, conditions.temperature_after_c, "C")),
        ("throttling", throttle(conditions.throttle_after)),
        ("others' load", reading(conditions.load_by_others, "cores", 2)),
    ]
    return _lines(pairs)


def bundle_words(subject: Subject) -> str:
    """The digest, and what the graphs run on: `6fed37cf50a300cc; image: onnxruntime, float32`."""
    kinds: dict[str, list[str]] = {}
    for name, told in subject.graphs.items():
        kinds.setdefault(told.partition(", ")[2], []).append(name)
    return "; ".join([subject.bundle_digest[:16], *(f"{', '.join(names)}: {kind}" for kind, names in kinds.items())])


def _overview(report: Report) -> str:
    """Several cells beside one another, with energy where power is known."""
    if len(report.cells) < 2:
        return ""
    rows = []
    for cell in report.cells:
        latency, energy = cell.latency_ms, cell.energy.per_run_mj.value
        figures = (ms(latency.p50), ms(latency.p90), ms(latency.p99), f"{cell.throughput_per_s:.1f}")
        rows.append((cell.name, *figures, ms(cell.cpu_ms_per_call), ms(energy)))
    return table(("milliseconds", "p50", "p90", "p99", "items/s", "cpu", "mJ"), rows)


def _cell(cell: Cell) -> str:
    samples, latency = cell.samples, cell.latency_ms
    rules, warmup = samples.rules, samples.warmup
    title = (
        f"{cell.name}: {samples.runs} runs in {samples.duration_s:.1f} s after {warmup.runs} warm-up runs "
        f"({warmup.duration_s:.1f} s{'' if warmup.settled else ', not settled'}), {rules.scenario}"
    )
    header = ("milliseconds", "share", "p50", "p90", "p99", "mean", "std", "min", "max")
    rows = [("whole", "100 %", *_figures(latency))]
    rows += [(stage.name, f"{stage.share:.1%}".replace("%", " %"), *_figures(stage.ms)) for stage in cell.stages]
    notes = [f"p50 lies in {ms(latency.p50_low)} to {ms(latency.p50_high)} ms (95 %); percentiles: {latency.method}"]
    notes += [f"{name}: {reason}" for name, reason in latency.absent.items()]
    if rules.scenario == "single-stream":
        notes.append(f"MLPerf's figure for a single stream is p90: {ms(latency.p90)} ms")
    if samples.kept_every > 1:
        notes.append(f"every {samples.kept_every}th run was kept; the slowest of all took {ms(samples.slowest_ms)} ms")
    pace = "" if rules.pace_hz is None else f" at {rules.pace_hz:g} per second"
    notes.append(
        f"{cell.throughput_per_s:.1f} items per second{pace}, {ms(cell.cpu_ms_per_call)} ms of processor time per "
        f"call, threads per graph: {cell.settings.get('threads', 'unknown')}, batch {rules.batch}, "
        f"{samples.threads} caller(s)"
    )
    if cell.stage_sum_share is not None:
        notes.append(f"the stages add up to {cell.stage_sum_share:.1%} of the whole".replace("%", " %"))
    waited_s = sum(slice_.waited_s for slice_ in samples.slices)
    if waited_s:
        notes.append(f"waited {waited_s:.0f} s in all for the board to cool down")
    if cell.real_time_factor.value is not None:
        notes.append(f"real-time factor {cell.real_time_factor.value:.3f}")
    notes += [f"{detail.name}: p50 {ms(detail.figures.p50)}" for detail in cell.details]
    notes += [f"unstable: {reason}" for reason in cell.unstable_because]
    return "\n".join([_wrapped("", title), table(header, rows), *(_wrapped("  ", note) for note in notes)])


def _figures(summary: object) -> tuple[str, ...]:
    return tuple(ms(getattr(summary, name)) for name in ("p50", "p90", "p99", "mean", "std", "min", "max"))


def _cold_starts(report: Report) -> list[str]:
    if not report.cold_start:
        return [_wrapped("cold start: ", f"none ({report.absent['cold_start']})")]
    return [_cold_start(cold) for cold in report.cold_start]


def _cold_start(cold: ColdStart) -> str:
    def row(name: str, values: Sequence[float]) -> tuple[str, ...]:
        return (name, ms(percentile(values, 0.5, "linear")), ms(min(values)), ms(max(values)))

    rows = [row(name.replace("_", " "), cold.parts_ms[name]) for name in PARTS]
    rows.append(row("whole", cold.total_ms))
    name = "cold start" if cold.variant is None else f"cold start of {cold.variant}"
    text = table((f"{name}, {cold.processes} processes, milliseconds", "p50", "min", "max"), rows)
    peaks = [peak for peak in cold.peak_bytes if peak is not None]
    if peaks:
        text += f"\n  peak memory of a fresh process until its first answer: {mib(max(peaks))} MiB"
    return text


def _memory(report: Report) -> str:
    if not report.memory:
        return _wrapped("memory: ", f"none ({report.absent['memory']})")
    rows = [
        (phase.phase, mib(phase.rss_bytes), mib(phase.anonymous_bytes), mib(phase.peak_bytes), mib(phase.swap_bytes))
        for phase in report.memory
    ]
    text = table(("memory, MiB", "resident", "anonymous", "peak", "swap"), rows)
    reasons = sorted({phase.reason for phase in report.memory if phase.reason})
    return "\n".join([text, *(_wrapped("  ", f"-: {reason}") for reason in reasons)])


def _energy(report: Report) -> str:
    first = report.cells[0].energy
    if all(cell.energy.power_w.value is None for cell in report.cells):
        return _wrapped("energy: ", f"unknown ({first.power_w.reason})")
    return "\n".join(_wrapped(f"energy, {cell.name}: ", energy_words(cell.energy)) for cell in report.cells)


def energy_words(energy: Energy) -> str:
    """What one run costs, in words."""
    if energy.power_w.value is None:
        return f"unknown ({energy.power_w.reason})"
    return (
        f"{reading(energy.per_run_mj, 'mJ per run', 2)} at {reading(energy.power_w, 'W', 2)} ({energy.source}); "
        f"net of idle {reading(energy.net_per_run_mj, 'mJ', 2)}"
    )


def _sustained(report: Report) -> str:
    course = report.sustained
    if course is None:
        return ""
    knee = f"knee at {course.knee_s:.0f} s" if course.knee_s is not None else f"no knee ({course.reason})"
    rows = [
        (
            f"{window.from_s:.0f} to {window.to_s:.0f} s",
            str(window.runs),
            ms(window.p50_ms),
            "-" if window.temperature_c is None else f"{window.temperature_c:.1f}",
            "-" if window.clock_mhz is None else f"{window.clock_mhz:.0f}",
        )
        for window in course.windows
    ]
    title = (
        f"sustained: first {ms(course.first_p50_ms)} ms, last {ms(course.last_p50_ms)} ms "
        f"({course.slowdown:.2f} times), {knee}"
    )
    return "\n".join([_wrapped("", title), table(("window", "runs", "p50 ms", "C", "MHz"), rows)])


def _operators(found: OperatorTable) -> str:
    title = f"operators of {graph_name(found)} ({found.runtime})"
    if found.absent:
        return _wrapped(f"{title}: ", f"none ({found.absent})")
    shown = found.operators[:OPERATORS_SHOWN]
    rows = [
        (operator.name, operator.op, f"{operator.share:.1%}".replace("%", " %"), f"{operator.us:.1f}")
        for operator in shown
    ]
    placed = ", ".join(f"{provider} {count}" for provider, count in found.placement.items())
    notes = [f"{found.method}; {found.runs} runs; nodes: {placed}", *found.notes]
    notes += [f"may be slower than float: {reason}" for reason in found.slow_because]
    head, *lines = table((title, "kind", "share", "us"), rows).split("\n")
    told = [_wrapped("    ", text) for text in map(operator_words, shown)]
    listed = [line for row, words in zip(lines, told) for line in (row, words)]
    left = len(found.operators) - len(shown)
    notes += [f"the first {len(shown)} of {len(found.operators)} operators"] if left else []
    return "\n".join([head, *listed, *(_wrapped("  ", note) for note in notes)])


def graph_name(found: OperatorTable) -> str:
    """The graph, and whose it is where several bundles were measured."""
    return found.graph if found.variant is None else f"{found.graph} of {found.variant}"


def operator_words(operator: Operator) -> str:
    """Types, shapes and who ran it: `float, 1x32x7x7 -> 1x64x7x7, CPU`."""
    by = operator.provider.removesuffix("ExecutionProvider")
    return ", ".join(word for word in (operator.datatypes, operator.shapes or "shapes not told", by) if word)


def _sensors(report: Report) -> str:
    trace = report.sensors
    if trace is None:
        return _wrapped("sensors: ", f"none ({report.absent['sensors']})")
    rows, notes = [], []
    for channel in trace.channels:
        present = [value for value in channel.values if value is not None]
        figures = [f"{f(present):.1f}" if present else "-" for f in (min, _mean, max)]
        rows.append((channel.name, *figures, channel.unit))
        notes += [f"{channel.name}: {reason}" for reason in (channel.reason, channel.doubt) if reason]
    took = "" if trace.reading_ms is None else f" of {ms(trace.reading_ms)} ms"
    title = f"sensors at {trace.rate_hz:g} Hz, {len(trace.time_s)} readings{took}"
    return "\n".join([table((title, "min", "mean", "max", ""), rows), *(_wrapped("  ", note) for note in notes)])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _verdict(report: Report) -> str:
    lines = ["stable" if report.stable else "NOT STABLE"]
    lines += [_wrapped("  ", reason) for reason in report.unstable_because]
    if not report.complete:
        lines.append("INCOMPLETE: measuring was cut short, what follows is what was measured until then")
    lines += [_wrapped("  ", note) for note in report.notes]
    return "\n".join(lines)
