"""A report as one HTML file that needs nothing else: no script, no network, light and dark, readable on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edgekit.profiling import svg
from edgekit.profiling.assemble import telling_channels
from edgekit.profiling.coldstart import PARTS, ColdStart
from edgekit.profiling.operators import OperatorTable
from edgekit.profiling.report import Cell, Report
from edgekit.profiling.sampler import channel
from edgekit.profiling.statistics import percentile
from edgekit.profiling.text import bundle_words, energy_words, graph_name, mib, ms, operator_words, reading, throttle

OPERATORS_SHOWN = 20

STYLE = """
:root{--page:#fbfbfa;--ink:#1c1d1f;--soft:#5d6168;--rule:#d9dbde;--card:#fff;--line:#1f5fa8;--band:#1f5fa833;
--warm:#b3471d;--good:#1e6b3a;--bad:#a32020;--c0:#1f5fa8;--c1:#d98613;--c2:#2a8a66;--c3:#a8457f;--c4:#5b6ecb;
--c5:#8a6d3b;--c6:#4793af;--c7:#7a7f87;--inside:#fff}
@media(prefers-color-scheme:dark){:root{--page:#15171a;--ink:#e7e8ea;--soft:#a2a8b1;--rule:#34383e;--card:#1d2024;
--line:#6aa9ee;--band:#6aa9ee3d;--warm:#ef8f63;--good:#6cc78d;--bad:#f08a8a;--c0:#5b9be0;--c1:#e3a047;--c2:#54b892;
--c3:#cf7bae;--c4:#8f9def;--c5:#b99c68;--c6:#74b9d2;--c7:#9aa0a9;--inside:#15171a}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.45 system-ui,sans-serif}
main{max-width:720px;margin:0 auto;padding:16px}
h1{font-size:1.35rem;margin:.2em 0}h2{font-size:1.08rem;margin:1.6em 0 .5em}
p{margin:.4em 0}.soft{color:var(--soft);font-size:.9rem}
.verdict{border-left:4px solid var(--good);padding:.3em .8em;background:var(--card)}
.verdict.bad{border-color:var(--bad)}.verdict ul{margin:.3em 0;padding-left:1.1em}
.card{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:8px;margin:10px 0;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:3px 6px;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top}
th:first-child,td:first-child{text-align:left}.names td:first-child{overflow-wrap:anywhere;min-width:5em}
.facts td{overflow-wrap:anywhere}
tr:last-child td{border-bottom:0}thead th{color:var(--soft);font-weight:600}
.facts td{text-align:left}.facts td:first-child{color:var(--soft);width:25%}
svg{display:block;width:100%;max-width:520px;height:auto;margin:0 auto 6px;font:12px system-ui,sans-serif}
.title{fill:var(--ink);font-weight:600;font-size:13px}.tick{fill:var(--soft)}
.over{paint-order:stroke;stroke:var(--card);stroke-width:3px}.grid{stroke:var(--rule);stroke-width:.7}
.dots circle{fill:var(--line);fill-opacity:.55}.line{fill:none;stroke:var(--line);stroke-width:1.4}
.second{stroke:var(--warm)}.band{fill:var(--band)}.bar{fill:var(--line)}.mark{stroke:var(--warm);stroke-width:1.4}
.rest{fill:var(--rule)}.inside{fill:var(--inside);font-weight:600}
.c0{fill:var(--c0)}.c1{fill:var(--c1)}.c2{fill:var(--c2)}.c3{fill:var(--c3)}.c4{fill:var(--c4)}.c5{fill:var(--c5)}
.c6{fill:var(--c6)}.c7{fill:var(--c7)}.key{display:inline-block;width:.75em;height:.75em;border-radius:2px}
.key svg{display:inline;margin:0}.keyed{white-space:nowrap}
""".strip()


def render_html(report: Report) -> str:
    """The page."""
    subject = report.subject
    title = f"Profile of {subject.name} {subject.version}"
    first = report.cells[0]
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(subject.task)}, bundle <code>{escape(subject.bundle_digest[:16])}</code>, '
        f"{escape(report.created_utc)}</p>",
        _verdict(report),
        _cells_table(report),
        *(_over_time(report, first)),
        _histogram(first),
        *(_stages(cell) for cell in report.cells if cell.stages),
        *_cold_starts(report),
        _memory(report),
        *(_operators(table) for table in report.operators),
        _sensors(report),
        _facts(report),
        _notes(report),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n'
        + "\n".join(section for section in sections if section)
        + "\n</main></body></html>\n"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are HTML already."""
    head = f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in header)}</tr></thead>" if header else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="card"><table class="{kind}">{head}<tbody>{body}</tbody></table></div>'


def _verdict(report: Report) -> str:
    if report.stable:
        return '<div class="verdict"><b>Stable.</b></div>'
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in report.unstable_because)
    word = "Not stable" if report.complete else "Not stable, cut short"
    return f'<div class="verdict bad"><b>{word}.</b><ul>{reasons}</ul></div>'


def _cells_table(report: Report) -> str:
    rows = []
    for cell in report.cells:
        latency = cell.latency_ms
        figures = (
            ms(latency.p50),
            ms(latency.p90),
            ms(latency.p99),
            f"{cell.throughput_per_s:.1f}",
            str(cell.samples.runs),
        )
        rows.append((escape(cell.name), *figures))
    chart = ""
    if len(report.cells) > 1:
        bars = [(cell.name, cell.latency_ms.p50, cell.latency_ms.p90) for cell in report.cells]
        chart = f'<div class="card">{svg.bars("Side by side: p50, and p90 as a mark", "ms", bars, "p90")}</div>'
    method = report.cells[0].latency_ms.method
    absent = {reason for cell in report.cells for reason in cell.latency_ms.absent.values()}
    note = f"milliseconds, percentiles by the {method} method" + (f"; -: {'; '.join(sorted(absent))}" if absent else "")
    table = _table(("", "p50", "p90", "p99", "per s", "runs"), rows)
    return f'{table}<p class="soft">{escape(note)}</p>{chart}'


def _over_time(report: Report, cell: Cell) -> list[str]:
    samples, trace = cell.samples, report.sensors
    x_range = (0.0, samples.start_s[-1] + samples.total_ms[-1] / 1e3)
    name = "Latency over time" + (f", {cell.name}" if len(report.cells) > 1 else "")
    plots = [svg.scatter(name, "ms", samples.start_s, samples.total_ms, x_range)]
    for told, title in zip(telling_channels(trace), ("Temperature", "Clock")):
        found = channel(trace, told) if told else None
        if trace is not None and found is not None:
            shift_s = trace.began_s - samples.began_s
            inside = [
                (moment + shift_s, value)
                for moment, value in zip(trace.time_s, found.values)
                if x_range[0] <= moment + shift_s <= x_range[1]
            ]
            if any(value is not None for _, value in inside):
                xs, ys = [at for at, _ in inside], [value for _, value in inside]
                plots.append(svg.curve(f"{title} ({found.name})", found.unit, xs, ys, x_range))
    return ["<h2>Over time</h2>", f'<div class="card">{"".join(plots)}</div>', _course(report)]


def _course(report: Report) -> str:
    course = report.sustained
    if course is None:
        return ""
    knee = f"knee at {course.knee_s:.0f} s" if course.knee_s is not None else f"no knee: {course.reason}"
    said = f"first {ms(course.first_p50_ms)} ms, last {ms(course.last_p50_ms)} ms, {course.slowdown:.2f} times; {knee}"
    return f"<p>{escape(said)}</p>"


def _histogram(cell: Cell) -> str:
    values, latency = cell.samples.total_ms, cell.latency_ms
    upper = percentile(values, 0.99, "linear")
    marks = [("p50", latency.p50), *([("p90", latency.p90)] if latency.p90 is not None else [])]
    return f'<div class="card">{svg.histogram("How long the runs took", values, upper, marks)}</div>'


def _keyed(index: int, name: str) -> str:
    """A name with its colour in the bar above."""
    square = f'<rect class="c{index % 8}" width="10" height="10" rx="2"/>'
    key = f'<span class="key"><svg viewBox="0 0 10 10" aria-hidden="true">{square}</svg></span>'
    return f'<span class="keyed">{key} {escape(name)}</span>'


def _stages(cell: Cell) -> str:
    parts = [(stage.name, stage.share) for stage in cell.stages]
    bar = svg.stacked(f"Where the time goes, {cell.name}", parts, max(1.0, sum(share for _, share in parts)))
    rows = [
        (_keyed(i, stage.name), f"{stage.share:.1%}", ms(stage.ms.p50), ms(stage.ms.p90), str(stage.ran))
        for i, stage in enumerate(cell.stages)
    ]
    rows += [
        (escape(detail.name), "", ms(detail.figures.p50), ms(detail.figures.p90), str(detail.ran))
        for detail in cell.details
    ]
    return f'<h2>Stages, {escape(cell.name)}</h2><div class="card">{bar}</div>' + _table(
        ("milliseconds", "share", "p50", "p90", "runs"), rows, "names"
    )


def _cold_starts(report: Report) -> list[str]:
    if not report.cold_start:
        return [f"<h2>Cold start</h2><p>none: {escape(report.absent['cold_start'])}</p>"]
    return [_cold_start(cold) for cold in report.cold_start]


def _cold_start(cold: ColdStart) -> str:
    medians = {name: percentile(cold.parts_ms[name], 0.5, "linear") for name in PARTS}
    bar = svg.stacked("A fresh process to its first answer", list(medians.items()), sum(medians.values()))
    rows = [(_keyed(i, name.replace("_", " ")), ms(value)) for i, (name, value) in enumerate(medians.items())]
    rows.append(("<b>whole</b>", ms(percentile(cold.total_ms, 0.5, "linear"))))
    head = ("part", f"ms, median of {cold.processes}")
    peaks = [peak for peak in cold.peak_bytes if peak is not None]
    peak = f'<p class="soft">peak memory until the first answer: {mib(max(peaks))} MiB</p>' if peaks else ""
    name = "Cold start" if cold.variant is None else f"Cold start of {cold.variant}"
    return f'<h2>{escape(name)}</h2><div class="card">{bar}</div>{_table(head, rows)}{peak}'


def _memory(report: Report) -> str:
    rows = [
        (phase.phase, phase.rss_bytes / 2**20, None if phase.peak_bytes is None else phase.peak_bytes / 2**20)
        for phase in report.memory
        if phase.rss_bytes is not None
    ]
    if not rows:
        return f"<h2>Memory</h2><p>none: {escape(report.absent.get('memory', 'not readable here'))}</p>"
    return (
        f'<h2>Memory</h2><div class="card">{svg.bars("Resident at the end of each phase", "MiB", rows, "peak")}</div>'
    )


def _operators(table: OperatorTable) -> str:
    head = f"<h2>Operators of {escape(graph_name(table))}</h2>"
    if table.absent:
        return f"{head}<p>none: {escape(table.absent)}</p>"
    rows = []
    for operator in table.operators[:OPERATORS_SHOWN]:
        told = f"{operator.op}, {operator_words(operator)}"
        name = f'{escape(operator.name)}<br><span class="soft">{escape(told)}</span>'
        rows.append((name, f"{operator.share:.1%}", f"{operator.us:.1f}"))
    placed = ", ".join(f"{provider} {count}" for provider, count in table.placement.items())
    slow = [f"may be slower than float: {reason}" for reason in table.slow_because]
    notes = [f"{table.method}; {table.runs} runs; nodes: {placed}", *table.notes, *slow]
    if len(table.operators) > OPERATORS_SHOWN:
        notes.append(f"the first {OPERATORS_SHOWN} of {len(table.operators)}")
    listed = "".join(f'<p class="soft">{escape(note)}</p>' for note in notes)
    return head + _table(("operator", "share", "us"), rows, "names") + listed


def _sensors(report: Report) -> str:
    trace = report.sensors
    if trace is None:
        return f"<h2>Sensors</h2><p>none: {escape(report.absent['sensors'])}</p>"
    rows = []
    for found in trace.channels:
        present = [value for value in found.values if value is not None]
        why = "; ".join(text for text in (found.reason, found.doubt) if text)
        name = escape(found.name) + (f'<br><span class="soft">{escape(why)}</span>' if why else "")
        figures = [f"{f(present):.1f}" if present else "-" for f in (min, max)]
        rows.append((name, *figures, escape(found.unit)))
    head = f'<h2>Sensors</h2><p class="soft">{len(trace.time_s)} readings at {trace.rate_hz:g} Hz</p>'
    return head + _table(("", "min", "max", ""), rows, "names")


def _facts(report: Report) -> str:
    machine, conditions = report.environment, report.conditions
    first = report.cells[0].samples
    several = len(report.cells) > 1
    rows = [
        *((f"bundle {s.variant or ''}".strip(), bundle_words(s)) for s in (report.subject, *report.others)),
        ("machine", f"{machine.board}; {machine.cpu}, {machine.cores} cores, {machine.architecture}"),
        ("environment", machine.id),
        ("system", f"{machine.os}, kernel {machine.kernel}, Python {machine.python}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in report.runtime_versions.items())),
        ("input", report.workload.described),
        ("warm-up", f"{first.warmup.runs} runs, {first.warmup.duration_s:.1f} s"),
        ("governor", machine.governor.text or f"unknown ({machine.governor.reason})"),
        ("power mode", machine.power_mode.text or f"unknown ({machine.power_mode.reason})"),
        ("temperature", f"{reading(conditions.temperature_before_c, 'C')} before"),
        ("", f"{reading(conditions.temperature_after_c, 'C')} after"),
        ("clock", f"{reading(conditions.clock_before_mhz, 'MHz')} before"),
        ("", f"{reading(conditions.clock_after_mhz, 'MHz')} after"),
        ("throttling", throttle(conditions.throttle_after)),
        ("others' load", reading(conditions.load_by_others, "cores", 2)),
        *((f"energy, {c.name}" if several else "energy", energy_words(c.energy)) for c in report.cells),
    ]
    return "<h2>Conditions</h2>" + _table((), [(escape(name), escape(text)) for name, text in rows], "facts")


def _notes(report: Report) -> str:
    return "".join(f'<p class="soft">{escape(note)}</p>' for note in report.notes)
