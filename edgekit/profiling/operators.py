"""Where a graph's time goes, operator by operator, from the runtime's own profiler in a run of its own.

Shares, never latencies: profiling slows a graph down (1.1 to 4 times, by the number of its nodes), so the times
only say what part of their own run each operator takes, and the inflation is stated beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.records import Record

TOP = 15


class Operator(Record):
    """One node of a graph: median microseconds over the profiled runs and its share of all operators' time.

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

    inflation: profiled run by plain run, null with a note where it was not measured. sum_share: operators' sum by
    the profiled run's own time. placement: provider -> number of nodes. slow_because: why a quantised graph may
    be slower than float. absent: why there are no operators, else null.
    """

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
