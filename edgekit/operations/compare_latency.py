"""Latency of several models measured in turn, and the memory of each in a process of its own: here or on a device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.operations.compare_records import Latency
from edgekit.operations.package import Note
from edgekit.profiling.coldstart import cold_starts
from edgekit.profiling.compare import ratio_interval
from edgekit.profiling.options import options_for
from edgekit.profiling.profile import profile
from edgekit.profiling.report import Cell, Report
from edgekit.profiling.statistics import percentile
from edgekit.profiling.workload import Workload
from edgekit.records import dump


def measure_latency(
    bundles: Mapping[str, str], workload: Workload, runs: int, seconds: float, note: Note
) -> dict[str, Latency]:
    """Median and ratio to the first for each bundle by name, all in one process and in turn."""
    (first, path), *others = bundles.items()
    options = options_for(
        path,
        variant=first,
        variants=dict(others),
        workload=workload,
        min_runs=runs,
        min_s=seconds,
        cold_starts=0,
        operators=False,
    )
    return latencies(profile(options, progress=note), bundles)


def latencies(report: Report, names: Iterable[str]) -> dict[str, Latency]:
    """Each name's latency; the first one is the reference, and alone has the report's only cell."""
    first, *others = names
    cells = {cell.name: cell for cell in report.cells}
    reference = cells.get(first) or report.cells[0]
    return {name: _latency(reference, cells.get(name, reference)) for name in (first, *others)}


def _latency(reference: Cell, cell: Cell) -> Latency:
    low, high = (1.0, 1.0)
    if cell is not reference:
        low, high = ratio_interval(reference.samples.total_ms, cell.samples.total_ms)
    own = cell.latency_ms
    return Latency(
        p50_ms=own.p50,
        low_ms=own.p50_low,
        high_ms=own.p50_high,
        runs=own.n,
        ratio=own.p50 / reference.latency_ms.p50,
        ratio_low=low,
        ratio_high=high,
        stages_ms={
            name: percentile([v for v in column if v is not None], 0.5, "linear")
            for name, column in cell.samples.stages_ms.items()
            if any(v is not None for v in column)
        },
    )


def peak_of(bundle: str, item: Mapping[str, Any]) -> int | None:
    """Peak bytes of a fresh process that loads a bundle and predicts once; None where that is not readable."""
    document = {"bundle": bundle, "threads": None, "item": dump(dict(item))}
    try:
        return cold_starts(document, processes=1).peak_bytes[0]
    except EdgekitError:
        return None
