"""A report as a trace that Perfetto and chrome://tracing open: runs, stages, operators, sensors over time.

Format: the Trace Event Format; `X` a slice with ts and dur in microseconds, `C` a counter, `M` names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from edgekit.profiling.operators import OperatorTable
from edgekit.profiling.report import Cell, Report
from edgekit.records import Json

PROCESS = 1
SENSORS, OPERATORS = 2, 3
RUNS_SHOWN = 5000
"""Perfetto draws more, but a file of a hundred megabytes helps nobody; what is left out is said in the trace."""


def dump_trace(report: Report) -> bytes:
    """The trace as JSON."""
    document = {
        "traceEvents": list(_events(report)),
        "displayTimeUnit": "ms",
        "otherData": {
            "bundle": report.subject.bundle_digest,
            "environment": report.environment.id,
            "created": report.created_utc,
        },
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _events(report: Report) -> Iterator[dict[str, Json]]:
    yield _name(PROCESS, f"{report.subject.name} {report.subject.version}")
    origin_s = min(cell.samples.began_s for cell in report.cells)
    if report.sensors is not None:
        origin_s = min(origin_s, report.sensors.began_s)
    for thread, cell in enumerate(report.cells, start=1):
        yield _name(PROCESS, cell.name, thread)
        yield from _runs(cell, thread, origin_s)
    if report.sensors is not None:
        yield _name(SENSORS, "sensors")
        for channel in report.sensors.channels:
            for moment_s, value in zip(report.sensors.time_s, channel.values):
                if value is not None:
                    at_us = (report.sensors.began_s + moment_s - origin_s) * 1e6
                    counter = f"{channel.name} ({channel.unit})"
                    yield {"ph": "C", "pid": SENSORS, "ts": at_us, "name": counter, "args": {channel.unit: value}}
    for thread, table in enumerate(report.operators, start=1):
        if not table.absent:
            yield _name(OPERATORS, "operators: one run, mean times of a profiled run")
            yield _name(OPERATORS, table.graph, thread)
            yield from _operators(table, thread)


def _runs(cell: Cell, thread: int, origin_s: float) -> Iterator[dict[str, Json]]:
    samples = cell.samples
    shift_us = (samples.began_s - origin_s) * 1e6
    for i, (start_s, total_ms) in enumerate(zip(samples.start_s[:RUNS_SHOWN], samples.total_ms)):
        at_us = shift_us + start_s * 1e6
        yield _slice(thread, "run", at_us, total_ms * 1e3, {"run": i * samples.kept_every})
        for stage in cell.stages:
            value = samples.stages_ms[stage.name][i]
            if value is not None:
                yield _slice(thread, stage.name, at_us, value * 1e3, {})
                at_us += value * 1e3
    left_out = samples.runs - min(len(samples.total_ms), RUNS_SHOWN)
    if len(samples.total_ms) > RUNS_SHOWN:
        ts = shift_us + samples.start_s[RUNS_SHOWN] * 1e6
        yield {"ph": "i", "pid": PROCESS, "tid": thread, "ts": ts, "s": "t", "name": f"{left_out} more runs left out"}


def _operators(table: OperatorTable, thread: int) -> Iterator[dict[str, Json]]:
    at_us = 0.0
    for operator in table.operators:
        told = {"kind": operator.op, "shapes": operator.shapes, "types": operator.datatypes, "by": operator.provider}
        yield {**_slice(thread, operator.name, at_us, operator.us, told), "pid": OPERATORS}
        at_us += operator.us


def _slice(thread: int, name: str, at_us: float, duration_us: float, told: dict[str, Json]) -> dict[str, Json]:
    return {"ph": "X", "pid": PROCESS, "tid": thread, "ts": at_us, "dur": duration_us, "name": name, "args": told}


def _name(process: int, name: str, thread: int | None = None) -> dict[str, Json]:
    kind = "process_name" if thread is None else "thread_name"
    return {"ph": "M", "pid": process, "tid": thread or 0, "name": kind, "args": {"name": name}}
