"""The operator tables of `benchmark_model`: as CSV (`--op_profiling_output_mode=csv`) and as text between tabs.

Source: xla/tsl/util/stats_calculator.cc (columns), tflite/profiling/profile_summarizer.cc (names of nodes),
profile_summary_formatter.h (headings). Older binaries have one column more, `start`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgekit.errors import BackendError
from edgekit.profiling.benchmark_model import NAME, Timings, parse_timings
from edgekit.profiling.operators import Operator, OperatorTable, shares_by_op
from edgekit.records import Record

RUNS_HEADING = "Operator-wise Profiling Info for Regular Benchmark Runs:"
INIT_HEADING = "Profiling Info for Benchmark Initialization:"
RUN_ORDER = "Run Order"
CPU = "CPU"

_TITLE = re.compile(r"=+ (.+?) =+")
_COLUMNS = {"node type", "start", "first", "avg ms", "%", "cdf%", "mem kb", "times called", "name"}
_DELEGATE_NODE = re.compile(r"TfLite\w*Delegate\w*|\w+Delegate(?:V\d)?")


class Row(Record):
    """One node: its kind, mean milliseconds, calls in a run, and its name."""

    kind: str
    mean_ms: float
    calls: int
    name: str


class OperatorProfile(Record):
    """The nodes of all profiled runs in the order they ran; whole: microseconds of the sum of a run's nodes."""

    rows: tuple[Row, ...]
    whole: Timings


def parse_operators(text: str) -> OperatorProfile:
    """The table of the regular runs in what was printed or written. Raises BackendError."""
    if RUNS_HEADING not in text:
        raise BackendError(f"{NAME} wrote no operator profile: expected '{RUNS_HEADING}'")
    lines = text.partition(RUNS_HEADING)[2].splitlines()
    at = next((i for i, line in enumerate(lines) if (m := _TITLE.fullmatch(line.strip())) and m[1] == RUN_ORDER), None)
    if at is None or at + 1 >= len(lines):
        raise BackendError(f"{NAME}'s operator profile has no part '{RUN_ORDER}'")
    columns = _header(lines[at + 1])
    rows = []
    for line in lines[at + 2 :]:
        if not line.strip():
            break
        rows.append(_row(line, columns))
    whole = next((line for line in lines if line.startswith("Timings (microseconds): ")), None)
    if not rows or whole is None:
        raise BackendError(f"{NAME}'s operator profile is cut: {len(rows)} nodes, {'no ' if whole is None else ''}sum")
    return OperatorProfile(rows=tuple(rows), whole=parse_timings(whole.partition(": ")[2]))


def _header(line: str) -> list[str]:
    columns = [_plain(word) for word in _cells(line, None)]
    if not {"node type", "avg ms", "times called", "name"} <= set(columns) <= _COLUMNS or columns[-1] != "name":
        raise BackendError(f"{NAME}'s operator profile has columns that cannot be read: {line.strip()[:200]!r}")
    return columns


def _plain(word: str) -> str:
    return word.strip().strip("[]").replace("_", " ").lower()


def _cells(line: str, count: int | None) -> list[str]:
    """The cells of a line, `count` of them: the last one, a name, may hold the separator too."""
    if line.startswith("\t"):
        return line[1:].split("\t") if count is None else line[1:].split("\t", count - 1)
    return line.split(", ") if count is None else line.split(", ", count - 1)


def _row(line: str, columns: Sequence[str]) -> Row:
    cells = _cells(line, len(columns))
    found: Mapping[str, str] = dict(zip(columns, cells))
    try:
        if len(cells) != len(columns):
            raise ValueError
        return Row(
            kind=found["node type"].strip(),
            mean_ms=float(found["avg ms"]),
            calls=int(found["times called"]),
            name=found["name"].strip().replace("\t", ","),
        )
    except ValueError:
        raise BackendError(f"{NAME}'s operator profile has a line that cannot be read: {line[:200]!r}") from None


def operators_of(
    graph: str, profile: OperatorProfile, *, plain_ms: float | None, placed: Mapping[str, int], notes: Sequence[str]
) -> OperatorTable:
    """The report's table. placed: who runs how many nodes, as the runtime told; else it is counted here.

    Operators inside a delegate's node come beside it in newer binaries; the node is left out then, its parts are it.
    """
    inner = [row for row in profile.rows if row.name.startswith("Delegate/")]
    rows = [row for row in profile.rows if not (inner and row not in inner and _DELEGATE_NODE.fullmatch(row.kind))]
    total_ms = sum(row.mean_ms for row in rows)
    if not total_ms > 0:
        raise BackendError(f"{NAME}'s operator profile of {graph} has no time in it")
    operators = tuple(
        Operator(
            name=row.name,
            op=row.kind,
            us=row.mean_ms * 1e3,
            share=row.mean_ms / total_ms,
            calls=max(row.calls, 1),
            shapes=None,
            datatypes=None,
            provider=_provider(row, placed),
        )
        for row in sorted(rows, key=lambda row: -row.mean_ms)
    )
    whole_ms = None if profile.whole.mean is None else profile.whole.mean / 1e3
    counted: dict[str, int] = {}
    for operator in operators:
        counted[operator.provider] = counted.get(operator.provider, 0) + 1
    return OperatorTable(
        variant=None,
        graph=graph,
        runtime="litert",
        method=f"{NAME} --enable_op_profiling, a process of its own",
        runs=profile.whole.runs,
        plain_ms=plain_ms,
        profiled_ms=whole_ms,
        inflation=whole_ms / plain_ms if plain_ms and whole_ms else None,
        sum_share=total_ms / whole_ms if whole_ms else None,
        operators=operators,
        by_op=shares_by_op(operators),
        placement=dict(placed) or counted,
        notes=tuple(notes),
        slow_because=(),
        absent=None,
    )


def _provider(row: Row, placed: Mapping[str, int]) -> str:
    if _DELEGATE_NODE.fullmatch(row.kind):
        return row.kind
    if row.name.startswith("Delegate/"):
        return next((name for name in placed if name != CPU), "delegate")
    return CPU
