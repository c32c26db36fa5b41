"""Where a graph's time goes, operator by operator, from the runtime's own profiler in a run of its own.

Shares, never latencies: profiling slows a graph down (1.1 to 4 times, by the number of its nodes), so the times
only say what part of their own run each operator takes, and the inflation is stated beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from edgekit.profiling.statistics import percentile, trimmed_mean
from edgekit.records import Record

SUM_TOLERANCE = 0.10
EDGES = 2
"""One conversion where the input comes in and one where the output goes out are nobody's mistake."""
CONVERTERS = frozenset({"QuantizeLinear", "DequantizeLinear", "QUANTIZE", "DEQUANTIZE"})
DYNAMIC = frozenset(
    {
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "ConvInteger",
    }
)
HEAVY = frozenset({"Conv", "FusedConv", "MatMul", "Gemm", "FusedMatMul", "ConvTranspose"})
DOT_PRODUCTS = frozenset({"asimddp", "i8mm", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"})
"""Words of /proc/cpuinfo: arch/arm64/kernel/cpuinfo.c and arch/x86/include/asm/cpufeatures.h in Linux."""


class Operator(Record):
    """One node of a graph: mean microseconds of the middle 80 % of its runs, and its share of all operators' time.

    shapes, datatypes: of inputs and outputs as the profiler tells them, null where it does not.
    provider: who ran it (an execution provider or a delegate).
    """

    name: str
    op: str
    us: float
    share: float
    calls: int
    shapes: str | None
    datatypes: str | None
    provider: str


class OperatorTable(Record):
    """The operators of one graph, the slowest first.

    variant: whose graph it is where several bundles were measured in turn, else null. inflation: profiled run by
    plain run, null with a note where it was not measured. sum_share: operators' sum by their own run's time, the
    median run. placement: provider -> number of nodes. slow_because: why a quantised graph may be slower than
    float. absent: why there are no operators, else null.
    """

    variant: str | None
    graph: str
    runtime: str
    method: str
    runs: int
    plain_ms: float | None
    profiled_ms: float | None
    inflation: float | None
    sum_share: float | None
    operators: tuple[Operator, ...]
    by_op: dict[str, float]
    placement: dict[str, int]
    notes: tuple[str, ...]
    slow_because: tuple[str, ...]
    absent: str | None


def no_operators(graph: str, runtime: str, reason: str) -> OperatorTable:
    """The table of a graph whose operators cannot be told apart here."""
    return OperatorTable(
        variant=None,
        graph=graph,
        runtime=runtime,
        method="none",
        runs=0,
        plain_ms=None,
        profiled_ms=None,
        inflation=None,
        sum_share=None,
        operators=(),
        by_op={},
        placement={},
        notes=(),
        slow_because=(),
        absent=reason,
    )


def shares_by_op(operators: Sequence[Operator]) -> dict[str, float]:
    """Each kind of operator's share, the largest first."""
    shares: dict[str, float] = {}
    for operator in operators:
        shares[operator.op] = shares.get(operator.op, 0.0) + operator.share
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


class Node(NamedTuple):
    """One operator in one run, as a profiler told it; `key` names it in every run."""

    key: str
    op: str
    us: float
    shapes: str | None
    datatypes: str | None
    provider: str


def table(
    graph: str,
    runtime: str,
    method: str,
    runs: Sequence[Sequence[Node]],
    *,
    run_ms: Sequence[float],
    plain_ms: Sequence[float],
    profiled_ms: Sequence[float],
    notes: Sequence[str] = (),
) -> OperatorTable:
    """The table of several profiled runs; a node's time is the mean of the middle 80 % of its runs.

    run_ms: each of these runs as the profiler saw it, which its operators should add up to: run by run, since a
    neighbour's interruption falls on one operator and on the whole alike. plain_ms and profiled_ms were measured
    in turn, so that their paired ratio is the inflation.
    """
    if not runs or not runs[0]:
        return no_operators(graph, runtime, "the profiler told no operator")
    times: dict[str, list[float]] = {}
    first: dict[str, Node] = {}
    for run in runs:
        for node in run:
            times.setdefault(node.key, []).append(node.us)
            first.setdefault(node.key, node)
    means = {key: trimmed_mean(values) for key, values in times.items()}
    total_us = sum(means.values())
    operators = tuple(
        Operator(
            name=key,
            op=first[key].op,
            us=means[key],
            share=means[key] / total_us if total_us > 0 else 0.0,
            calls=len(times[key]),
            shapes=first[key].shapes,
            datatypes=first[key].datatypes,
            provider=first[key].provider,
        )
        for key in sorted(means, key=lambda k: -means[k])
    )
    ratios = [profiled / plain for plain, profiled in zip(plain_ms, profiled_ms) if plain > 0]
    inflation = percentile(ratios, 0.5, "linear") if ratios else None
    profiled = percentile(profiled_ms, 0.5, "linear") if profiled_ms else None
    sums = [sum(node.us for node in run) / 1e3 / whole for run, whole in zip(runs, run_ms) if whole > 0]
    sum_share = percentile(sums, 0.5, "linear") if sums else None
    return OperatorTable(
        variant=None,
        graph=graph,
        runtime=runtime,
        method=method,
        runs=len(runs),
        plain_ms=percentile(plain_ms, 0.5, "linear") if plain_ms else None,
        profiled_ms=profiled,
        inflation=inflation,
        sum_share=sum_share,
        operators=operators,
        by_op=shares_by_op(operators),
        placement=dict(Counter(operator.provider for operator in operators)),
        notes=(*notes, *_table_notes(inflation, sum_share, profiled, total_us / len(operators))),
        slow_because=(),
        absent=None,
    )


def _table_notes(
    inflation: float | None, sum_share: float | None, profiled_ms: float | None, mean_us: float
) -> list[str]:
    notes = []
    if inflation is not None and profiled_ms is not None:
        notes.append(f"alone, over and over, the graph takes {profiled_ms / inflation:.3g} ms without profiling")
        notes.append(f"profiling made the graph take {inflation:.2f} times as long: read the shares, not the times")
    if sum_share is not None and abs(sum_share - 1.0) > SUM_TOLERANCE:
        notes.append(f"the operators add up to {sum_share:.0%} of the profiled run, the rest is the runtime's own")
    if mean_us < 20.0:
        notes.append("operators take about as long as the profiler's clock resolves (1 us): shares are rough")
    return notes


def explain_slow(operators: Sequence[Operator], precision: str, processor_features: frozenset[str]) -> tuple[str, ...]:
    """What in this table and on this processor can make a quantised graph slower than the float one.

    precision: the graph's class in the manifest. processor_features: the words of /proc/cpuinfo's flags or
    Features, empty where they are not known.
    """
    if precision not in ("int8", "int4"):
        return ()
    reasons = []
    converters = [o for o in operators if o.op in CONVERTERS or o.op.startswith("Convert (")]
    if converters:
        share = sum(o.share for o in converters)
        around = sorted({o.op for o in operators if o.op in HEAVY and "float" in (o.datatypes or "")})
        beside = f", beside {', '.join(around)} that still run in float" if around else ""
        where = "at the graph's edges" if len(converters) <= EDGES and not around else "pairs that were not fused"
        reasons.append(
            f"{len(converters)} conversions between float and integer run as nodes of their own "
            f"({share:.0%} of the time){beside}: {where}"
        )
    dynamic = [o for o in operators if o.op in DYNAMIC or "QD8" in o.op]
    if dynamic:
        reasons.append(
            f"dynamic quantisation: {', '.join(sorted({o.op for o in dynamic}))} find their ranges anew in each run "
            f"({sum(o.share for o in dynamic):.0%} of the time)"
        )
    if processor_features and not processor_features & DOT_PRODUCTS:
        reasons.append("this processor has no integer dot product (Arm asimddp, x86 VNNI)")
    return tuple(reasons)


def slower_than_float(
    quantised: str, quantised_ms: float, precise: str, precise_ms: float, reasons: Sequence[str]
) -> str:
    """The sentence for a report in which a quantised cell was slower than a float one."""
    why = "; ".join(reasons) or "its operators show no reason"
    return f"{quantised} is slower than {precise} here: {quantised_ms:.3g} ms against {precise_ms:.3g} ms ({why})"
