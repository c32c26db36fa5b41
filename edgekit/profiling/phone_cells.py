"""How a graph may run on a phone, and cells of the report from what `benchmark_model` told of each way.

The program tells no single runs, only figures over a process's runs. So a sample here is one process: its median
run (its mean where an older binary tells no median), with everything else that it told beside it as details. The
processes of all ways take turns, so that heat and neighbours meet them alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgekit.errors import BackendError
from edgekit.profiling.benchmark_model import BenchmarkLog, placement
from edgekit.profiling.measure import Rules, Samples, Slice, Warmup, columns
from edgekit.profiling.memory import MemoryPhase
from edgekit.profiling.options import Options

PROCESSES = 20
"""Samples of a cell: what `compare` needs to decide anything."""
WARMUP_S = 0.5
"""The program's own rule: at least one run and so long, in each process."""
LIMIT_S = 150.0
"""Where the program ends a phase although runs are missing, its own default."""
MIN_RUNS = 100
MIN_S = 10.0
TOLD_MEMORY = "of the program itself, looked at every 50 ms; it tells no anonymous memory and no swap"


class Way(NamedTuple):
    """One way to run the graphs. delegate: `XNNPACK`, `GPU`, `NNAPI`, or null for the runtime's own CPU kernels."""

    name: str
    flags: dict[str, object]
    delegate: str | None

    def settings(self) -> dict[str, str]:
        """As words for the report."""
        return {"threads": str(self.flags["num_threads"]), "delegate": self.delegate or "none"}


class Block(NamedTuple):
    """One process per graph, one after another. graphs: name -> (what it told, its runs in one predict)."""

    at_s: float
    graphs: dict[str, tuple[BenchmarkLog, int]]


def ways(threads: Sequence[int], usual: int) -> list[Way]:
    """Every way that is compared; first what an app gets: XNNPACK with the target's threads."""
    most = max(threads, default=usual)
    counts = sorted(dict.fromkeys(threads or (1, usual)), key=lambda n: (n != most, n))
    found = [Way(f"xnnpack threads={n}", {"num_threads": n, "use_xnnpack": True}, "XNNPACK") for n in counts]
    found += [Way(f"cpu threads={n}", {"num_threads": n, "use_xnnpack": False}, None) for n in counts]
    found.append(Way("gpu", {"num_threads": most, "use_gpu": True}, "GPU"))
    found.append(Way("nnapi", {"num_threads": most, "use_nnapi": True}, "NNAPI"))
    return found


def process_rules(options: Options) -> tuple[int, dict[str, object]]:
    """How many processes a cell has, and the flags that make them add up to the runs and seconds asked for."""
    min_runs = MIN_RUNS if options.min_runs is None else options.min_runs
    min_s = MIN_S if options.min_s is None else options.min_s
    processes = min(PROCESSES, min_runs)
    flags: dict[str, object] = {
        "num_runs": -(-min_runs // processes),
        "min_secs": round(min_s / processes, 3),
        "warmup_runs": 1,
        "warmup_min_secs": WARMUP_S,
        "max_secs": LIMIT_S,
    }
    return processes, flags


def samples_of(blocks: Sequence[Block]) -> Samples:
    """The samples of one way, a process each. duration_s: of the samples themselves, for the throughput."""
    parts = [_parts(block) for block in blocks]
    total_ms = tuple(sum(value for name, value in part.items() if "." not in name) for part in parts)
    stages, details = columns(parts)
    logs = [log for block in blocks for log, _ in block.graphs.values()]
    warmups = [log.warmup for log in logs]
    origin_s = blocks[0].at_s
    return Samples(
        rules=Rules(
            scenario="default",
            warmup_min_runs=1,
            warmup_min_s=WARMUP_S,
            warmup_limit_s=LIMIT_S,
            min_runs=len(blocks),
            min_s=0.0,
            limit_s=None,
            pace_hz=None,
            batch=1,
        ),
        threads=1,
        warmup=Warmup(
            began_s=origin_s,
            runs=sum(w.runs for w in warmups),
            duration_s=sum((w.mean or 0.0) * w.runs for w in warmups) / 1e6,
            first_ms=logs[0].first_us / 1e3,
            settled=True,
        ),
        runs=len(blocks),
        kept_every=1,
        slowest_ms=max(total_ms),
        began_s=origin_s,
        slices=tuple(_slice(block.at_s - origin_s, ms) for block, ms in zip(blocks, total_ms)),
        start_s=tuple(block.at_s - origin_s for block in blocks),
        total_ms=total_ms,
        stages_ms=stages,
        details=details,
        duration_s=sum(total_ms) / 1e3,
        cpu_ms_per_call=None,
        late_runs=0,
        stopped=None,
    )


def _slice(from_s: float, total_ms: float) -> Slice:
    return Slice(from_s=from_s, to_s=from_s + total_ms / 1e3, waited_s=0.0, cool=None)


def _parts(block: Block) -> dict[str, float]:
    found: dict[str, float] = {}
    for graph, (log, runs) in block.graphs.items():
        told = log.measured
        middle = told.mean if told.median is None else told.median
        if middle is None or not told.runs:
            raise BackendError(f"benchmark_model measured no run of {graph}")
        stage = f"graph:{graph}"
        found[stage] = middle * runs / 1e3
        found |= {f"{stage}.runs": float(told.runs), f"{stage}.runs_per_predict": float(runs)}
        found |= {f"{stage}.init_ms": log.init_us / 1e3, f"{stage}.first_ms": log.first_us / 1e3}
        figures = {"mean": told.mean, "min": told.min, "max": told.max, "std": told.std}
        figures |= {"p5": told.p5, "p95": told.p95}
        found |= {f"{stage}.{name}_ms": value / 1e3 for name, value in figures.items() if value is not None}
    return found


def placed(way: Way, logs: Mapping[str, BenchmarkLog]) -> tuple[str, tuple[str, ...]]:
    """Who runs each graph, in words; and what has to be said loudly: a delegate that runs nothing, or not all."""
    words, loud = [], []
    for graph, log in logs.items():
        told, runs = placement(log, way.delegate)
        words.append(f"{graph}: {told}")
        if not runs:
            loud.append(f"FALLBACK: {way.name}: {graph} runs on the CPU, not on {way.delegate} ({told})")
        loud += [
            f"{way.name}: {graph}: {d.nodes} of {d.of} nodes on {d.delegate}, the other {d.of - d.nodes} on the CPU"
            for d in log.delegated
            if 0 < d.nodes < d.of and len(log.delegated) == 1
        ]
    return "; ".join(words), tuple(loud)


def memory_of(way: Way, logs: Sequence[BenchmarkLog]) -> MemoryPhase:
    """The largest process of a way."""
    peaks = [log.peak_bytes for log in logs if log.peak_bytes is not None]
    resident = [log.resident_bytes for log in logs if log.resident_bytes is not None]
    return MemoryPhase(
        phase=way.name,
        rss_bytes=max(resident, default=None),
        anonymous_bytes=None,
        swap_bytes=None,
        peak_bytes=max(peaks, default=None),
        reason=TOLD_MEMORY if peaks else "this benchmark_model tells no memory",
    )


def nodes_by(log: BenchmarkLog, cpu: str) -> dict[str, int]:
    """Who runs how many nodes of the model, as the runtime told; empty where it told nothing."""
    if not log.delegated:
        return {}
    found = {d.delegate: d.nodes for d in log.delegated}
    rest = max(d.of for d in log.delegated) - sum(found.values())
    return {**found, cpu: rest} if rest > 0 else found
