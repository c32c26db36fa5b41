"""TensorFlow Lite's own `benchmark_model`: the flags it takes, and what its log says, read strictly.

Source of flags and of every line: google-ai-edge/LiteRT, tflite/tools/benchmark (benchmark_model.cc,
benchmark_tflite_model.cc), tflite/tools/delegates, tflite/tools/logging.h and minimal_logging_android.cc, and
xla/tsl/util/stats_calculator.h. A flag that the binary does not know is a warning there and nothing more, so it is
looked for here: figures of a run that left out what was asked for are not the figures of that run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgekit.errors import BackendError
from edgekit.records import Record

NAME = "benchmark_model"

_NUMBER = r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_STAT = re.compile(
    rf"count=(\d+)(?: first=(\d+) curr=(\d+) min=(\d+) max=(\d+) avg={_NUMBER} std=(\d+)| curr=(\d+)(?:\(all same\))?|)"
    r"(?: p5=(-?\d+) median=(-?\d+) p95=(-?\d+))?"
)
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, Warmup \(avg\): {_NUMBER}, "
    rf"Inference \(avg\): {_NUMBER}"
)
_PEAK = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_NUMBER}")
_RESIDENT = re.compile(r"- VmRSS +: (\d+) MB")
_UNKNOWN = re.compile(r"Unconsumed cmdline flags: (.*)")
_REPLACED = re.compile(
    r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\S+)\) node, yielding (\d+) partitions"
)
_APPLIED = re.compile(
    r"Explicitly applied (\S+) delegate, and the model graph will be "
    r"(?:(completely) executed by the delegate|partially executed by the delegate w/ (\d+) delegate kernels)"
)
_DECLINED = re.compile(r"Though (\S+) delegate is explicitly applied, the model graph will not be executed")
_ABSENT = re.compile(r"((?:GPU|NNAPI) acceleration is unsupported on this platform)")
_SEVERITY = re.compile(r"(VERBOSE|INFO|WARN|WARNING|ERROR|FATAL): ")
_MIB = 1 << 20


class Timings(Record):
    """Microseconds of one phase; what the binary of its age does not tell is null. std: of the population."""

    runs: int
    first: float | None
    min: float | None
    max: float | None
    mean: float | None
    std: float | None
    p5: float | None
    median: float | None
    p95: float | None


class Delegated(Record):
    """A delegate that the runtime gave nodes to: how many of how many, in how many parts."""

    delegate: str
    nodes: int
    of: int
    partitions: int


class BenchmarkLog(Record):
    """What one process told. init_us: from the file to allocated tensors. declined: delegates that run nothing."""

    warmup: Timings
    measured: Timings
    init_us: float
    first_us: float
    peak_bytes: int | None
    resident_bytes: int | None
    delegated: tuple[Delegated, ...]
    applied: tuple[str, ...]
    declined: tuple[str, ...]
    unknown_flags: tuple[str, ...]


def arguments(flags: Mapping[str, object]) -> list[str]:
    """The words of a call, `--name=value` each; a bool as the binary reads it."""
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in flags.items()]


def parse_log(stdout: str, stderr: str) -> BenchmarkLog:
    """What a run that ended well told. Raises BackendError naming what is missing or cannot be read."""
    lines = [_SEVERITY.sub("", line, count=1) for line in (*stdout.splitlines(), *stderr.splitlines())]
    stats = [parse_timings(line) for line in lines if line.startswith("count=")]
    summary = _only(_TIMINGS, lines, "Inference timings in us")
    if len(stats) < 2:
        raise BackendError(f"{NAME} told {len(stats)} statistics, expected those of the warm-up and of the runs")
    init_us, first_us, _, mean_us = (float(text) for text in summary.groups())
    measured = stats[1]
    if measured.runs and measured.mean is not None and abs(measured.mean - mean_us) > 1e-3 * max(mean_us, 1.0):
        raise BackendError(f"{NAME} told two means of its runs: {measured.mean:g} us and {mean_us:g} us")
    peak, resident = _first(_PEAK, lines), _first(_RESIDENT, lines)
    return BenchmarkLog(
        warmup=stats[0],
        measured=measured,
        init_us=init_us,
        first_us=first_us,
        peak_bytes=round(float(peak[1]) * _MIB) if peak else None,
        resident_bytes=int(resident[1]) * _MIB if resident else None,
        delegated=tuple(
            Delegated(delegate=m[3], nodes=int(m[1]), of=int(m[2]), partitions=int(m[4]))
            for m in map(_REPLACED.match, lines)
            if m
        ),
        applied=tuple(m[1] for m in map(_APPLIED.match, lines) if m),
        declined=tuple(dict.fromkeys(m[1] for p in (_DECLINED, _ABSENT) for m in map(p.match, lines) if m)),
        unknown_flags=unknown_flags(stdout),
    )


def parse_timings(line: str) -> Timings:
    """One line of statistics: of several values, of one or of equal ones, of none. Raises BackendError."""
    match = _STAT.fullmatch(line.strip())
    if match is None:
        raise BackendError(f"{NAME} told statistics that cannot be read: {line[:200]!r}")
    runs, first, _, low, high, mean, std, same = match.groups()[:8]
    p5, median, p95 = (None if text is None or not int(runs) else float(text) for text in match.groups()[8:])
    if same is not None:
        first = low = high = mean = same
        std = "0"
    told = [None if text is None else float(text) for text in (first, low, high, mean, std)]
    return Timings(
        runs=int(runs),
        first=told[0],
        min=told[1],
        max=told[2],
        mean=told[3],
        std=told[4],
        p5=p5,
        median=median,
        p95=p95,
    )


def unknown_flags(stdout: str) -> tuple[str, ...]:
    """The flags that this binary left aside."""
    found = _first(_UNKNOWN, [_SEVERITY.sub("", line, count=1) for line in stdout.splitlines()])
    return tuple(found[1].split()) if found else ()


def complaints(stdout: str, stderr: str) -> str:
    """What a run that failed said: its errors, else its last line."""
    lines = [*stdout.splitlines(), *stderr.splitlines()]
    errors = [_SEVERITY.sub("", line, count=1).strip() for line in lines if line.startswith(("ERROR: ", "FATAL: "))]
    errors = [error for error in errors if error != "Benchmarking failed."]
    last = [line.strip() for line in lines if line.strip()][-1:]
    return "; ".join(dict.fromkeys(errors or last))[-600:] or "it said nothing"


def placement(log: BenchmarkLog, wanted: str | None) -> tuple[str, bool]:
    """Who runs the graph, in words, and whether the wanted delegate (`XNNPACK`, `GPU`, `NNAPI`) runs any of it."""
    told = [
        f"{d.delegate}: {d.nodes} of {d.of} nodes in {d.partitions} part{'s' if d.partitions != 1 else ''}"
        for d in log.delegated
    ]
    if wanted is None:
        return "; ".join(told) or "the runtime's own CPU kernels", True
    runs = wanted in log.applied or any(
        wanted.lower() in d.delegate.lower().replace("tflite", "") and d.nodes for d in log.delegated
    )
    if any(word.split()[0] == wanted for word in log.declined):
        runs = False
    if not runs:
        return "; ".join([f"{wanted} runs nothing", *told, *log.declined]), False
    return "; ".join(told) or f"{wanted}, how many nodes is not told", True


def _first(pattern: re.Pattern[str], lines: Sequence[str]) -> re.Match[str] | None:
    return next((m for m in map(pattern.match, lines) if m), None)


def _only(pattern: re.Pattern[str], lines: Sequence[str], what: str) -> re.Match[str]:
    found = [m for m in map(pattern.match, lines) if m]
    if len(found) != 1:
        raise BackendError(f"{NAME} said '{what}' {len(found)} times, expected once")
    return found[0]
