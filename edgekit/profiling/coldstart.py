"""What the first answer costs: fresh processes, split into interpreter, imports, open, session, first predict."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from edgekit.errors import BackendError, InputError
from edgekit.profiling.children import child_environment
from edgekit.records import Json, Record

PARTS = ("interpreter", "imports", "open", "session", "first_predict")
CHILD = (
    "import time; begun = time.perf_counter(); "
    "from edgekit.profiling.coldstart_child import main; raise SystemExit(main(begun))"
)
"""The first statement stamps the interpreter's end; `python -m` would count its own search as imports."""


class ColdStart(Record):
    """Milliseconds per part and process, in order of the processes; the first may find colder disk caches.

    variant: whose bundle was loaded where several were measured in turn, else null. interpreter: from spawn to the
    first statement. imports: edgekit, numpy, the runtime. open: verify and map the bundle. session: load the
    graphs. first_predict: the first call. peak_bytes: of each process.
    """

    variant: str | None
    processes: int
    parts_ms: dict[str, tuple[float, ...]]
    total_ms: tuple[float, ...]
    peak_bytes: tuple[int | None, ...]


def cold_starts(
    document: Mapping[str, Json], *, processes: int, timeout_s: float = 600.0, python: str = sys.executable
) -> ColdStart:
    """Start `processes` fresh interpreters one after another, each loads the bundle and predicts once.

    document: what the child is told, see coldstart_child.main. Raises BackendError when a child fails.
    """
    if processes < 1:
        raise InputError(f"a cold start needs at least 1 process, got {processes}")
    return combine([one_start((python, "-c", CHILD, json.dumps(document)), timeout_s) for _ in range(processes)])


def one_start(command: Sequence[str], timeout_s: float) -> dict[str, Json]:
    """Run one child and give back its clock marks, with the moment of its spawning as `spawned`.

    The marks are perf_counter, which is one clock for all processes of a machine on Linux and macOS.
    """
    environment = child_environment()
    spawned = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout_s, check=False, env=environment, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise BackendError(f"a cold start did not answer within {timeout_s:g} s") from None
    except OSError as error:
        raise BackendError(f"a cold start could not begin: {error}") from None
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.returncode or not lines:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
        raise BackendError(f"a cold start ended with status {done.returncode}: {last[0]}")
    try:
        marks: dict[str, Json] = json.loads(lines[-1])
    except ValueError:
        raise BackendError(f"a cold start printed no clock marks but {lines[-1][:80]!r}") from None
    return {**marks, "spawned": spawned}


def combine(children: Sequence[Mapping[str, Json]]) -> ColdStart:
    """The record of several children's marks."""
    parts: dict[str, list[float]] = {name: [] for name in PARTS}
    totals = []
    for marks in children:
        parts["interpreter"].append((marks["begun"] - marks["spawned"]) * 1e3)
        for name in PARTS[1:]:
            parts[name].append(marks["parts_s"][name] * 1e3)
        totals.append((marks["done"] - marks["spawned"]) * 1e3)
    return ColdStart(
        variant=None,
        processes=len(children),
        parts_ms={name: tuple(values) for name, values in parts.items()},
        total_ms=tuple(totals),
        peak_bytes=tuple(marks["peak_bytes"] for marks in children),
    )
