"""ONNX Runtime's own profile: from its list of events to operators per run.

Format: the Chrome trace events that `enable_profiling` writes; one `model_run` per run, one `*_kernel_time` per
node with its operator, provider, types and shapes (onnxruntime/core/common/profiler.cc, sequential_executor.cc).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgekit.profiling.operators import Node
from edgekit.records import Json

EVENT_CAP = 1_000_000
CAP_MESSAGE = "Maximum number of events reached"
"""kMaxEvents and the message of profiler.cc; what comes after is lost (microsoft/onnxruntime#17013)."""

KERNEL = "_kernel_time"


class OnnxRuns(NamedTuple):
    """Whole runs only, each with its operators and its own milliseconds; problem: what was lost, or null."""

    runs: list[list[Node]]
    model_ms: list[float]
    problem: str | None


def onnx_runs(events: Sequence[Mapping[str, Json]], expected: int, log: str) -> OnnxRuns:
    """The operators of each run of a profile; `expected` runs were made, `log` is what the runtime printed.

    A run whose nodes are fewer than most runs' is left out and said, as is the runtime's event cap.
    """
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("name") == "model_run")
    kernels = sorted(
        (e for e in events if e.get("cat") == "Node" and str(e.get("name", "")).endswith(KERNEL)),
        key=lambda e: (e["ts"], -e["dur"]),
    )
    runs = []
    for begin, end in spans:
        inside = [e for e in kernels if begin <= e["ts"] and e["ts"] + e["dur"] <= end + 1]
        runs.append((_nodes(inside), (end - begin) / 1e3))
    usual = statistics.mode([len(nodes) for nodes, _ in runs]) if runs else 0
    whole = [(nodes, ms) for nodes, ms in runs if len(nodes) == usual]
    return OnnxRuns(
        runs=[nodes for nodes, _ in whole],
        model_ms=[ms for _, ms in whole],
        problem=_problem(len(events), len(whole), expected, log),
    )


def _problem(events: int, whole: int, expected: int, log: str) -> str | None:
    if CAP_MESSAGE in log or events >= EVENT_CAP:
        return f"the runtime's cap of {EVENT_CAP:,} events was reached: {whole} of {expected} runs are whole"
    if whole != expected:
        return f"{whole} of {expected} runs are whole in the runtime's profile"
    return None


def _nodes(kernels: Sequence[Mapping[str, Json]]) -> list[Node]:
    """Each kernel's own time: what kernels inside it took (the body of an If or a Loop) is taken off."""
    own = [float(e["dur"]) for e in kernels]
    open_kernels: list[int] = []
    for i, event in enumerate(kernels):
        while open_kernels and not _contains(kernels[open_kernels[-1]], event):
            open_kernels.pop()
        if open_kernels:
            own[open_kernels[-1]] -= float(event["dur"])
        open_kernels.append(i)
    return [_node(event, max(0.0, us)) for event, us in zip(kernels, own)]


def _contains(outer: Mapping[str, Json], inner: Mapping[str, Json]) -> bool:
    same_thread = outer.get("tid") == inner.get("tid")
    return bool(
        same_thread and outer["dur"] > inner["dur"] and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]
    )


def _node(event: Mapping[str, Json], us: float) -> Node:
    told = event.get("args", {})
    op = str(told.get("op_name", "?"))
    name = str(event["name"]).removesuffix(KERNEL) or f"{op} {told.get('node_index', '')}".strip()
    inputs, outputs = told.get("input_type_shape", []), told.get("output_type_shape", [])
    shapes = f"{_shapes(inputs)} -> {_shapes(outputs)}" if inputs or outputs else None
    kinds = dict.fromkeys(kind for tensor in (*inputs, *outputs) for kind in tensor)
    return Node(name, op, us, shapes, "+".join(kinds) or None, str(told.get("provider") or "unknown"))


def _shapes(tensors: Sequence[Mapping[str, Sequence[int]]]) -> str:
    return ", ".join("x".join(map(str, shape)) or "scalar" for tensor in tensors for shape in tensor.values())
