"""Operator tables of a bundle's graphs, each from a child process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from edgekit.errors import ManifestError
from edgekit.profiling.children import child_environment
from edgekit.profiling.onnx_trace import CAP_MESSAGE
from edgekit.profiling.operators import OperatorTable, no_operators
from edgekit.records import Json, load_json, parse

RUNS = 30
"""At 10,000 nodes a graph stays below the runtime's cap of a million events."""


def operator_tables(
    bundle: str,
    graphs: Sequence[tuple[str, str]],
    item: Mapping[str, Json],
    *,
    threads: int | None,
    runs: int = RUNS,
    timeout_s: float = 600.0,
    python: str = sys.executable,
) -> tuple[OperatorTable, ...]:
    """One table per graph (name, runtime); a graph that cannot be profiled has one that says why."""
    tables = []
    for name, runtime in graphs:
        told = {"bundle": bundle, "graph": name, "item": item, "threads": threads, "runs": runs}
        command = (python, "-m", "edgekit.profiling.operators_child", json.dumps(told))
        tables.append(one_table(command, name, runtime, timeout_s))
    return tuple(tables)


def one_table(command: Sequence[str], graph: str, runtime: str, timeout_s: float) -> OperatorTable:
    """What the child printed; its death, its silence and the runtime's complaints become words in the table."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return no_operators(graph, runtime, f"the profiler did not end within {timeout_s:g} s")
    except OSError as error:
        return no_operators(graph, runtime, f"the profiler could not begin: {error}")
    errors = done.stderr.decode("utf-8", "replace")
    if done.returncode < 0:
        return no_operators(graph, runtime, f"the profiler was ended by {_signal_name(-done.returncode)}")
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.returncode or not lines:
        last = errors.strip().splitlines()[-1:] or ["no message"]
        return no_operators(graph, runtime, f"the profiler ended with status {done.returncode}: {last[0][:200]}")
    try:
        table = parse(OperatorTable, load_json(lines[-1].encode()))
    except ManifestError as error:
        return no_operators(graph, runtime, f"the profiler's answer is none: {error.problem}")
    if CAP_MESSAGE in errors and not any("cap of" in note for note in table.notes):
        return table.replace(notes=("the runtime's event cap was reached: events are missing", *table.notes))
    return table


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    illegal = " (an instruction that this processor lacks)" if name == "SIGILL" else ""
    return name + illegal
