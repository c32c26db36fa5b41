"""What was measured, written down while it is: JSON lines on the disk, so that a cut link or power loses little.

A line is {"kind": ..., ...}. Runs come in chunks of about a second; a chunk that is on the disk is never lost,
and a last line that was torn by a power cut is left out when reading.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from edgekit.errors import InputError
from edgekit.profiling.measure import Run
from edgekit.profiling.sampler import Measured
from edgekit.records import Json

CHUNK_S = 1.0


class Journal:
    """Appends lines to a file (null: to nothing) and makes them durable; close it or use it in `with`.

    A disk that is full or gone ends the writing, not the measuring: `problem` then says what happened.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None
        if path is not None:
            try:
                self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (it is closed by close)
            except OSError as error:
                raise InputError(f"cannot write the journal {path}: {error.strerror}") from None
        self.problem: str | None = None
        self._runs: dict[str, list[Run]] = {}
        self._lock = threading.Lock()
        self._flushed_s = time.perf_counter()

    def note(self, kind: str, **facts: Json) -> None:
        """Write one line, durable when this returns; from any thread."""
        with self._lock:
            if self._file is None or self.problem is not None:
                return
            data = json.dumps({"kind": kind, **facts}, separators=(",", ":"), allow_nan=False).encode() + b"\n"
            try:
                if self._file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file.fileno())
            except OSError as error:
                self.problem = f"the journal ends before the measuring did: {error.strerror}"

    def run(self, cell: str, run: Run) -> None:
        """Remember a run; about once a second they are written."""
        if self._file is None:
            return
        self._runs.setdefault(cell, []).append(run)
        if time.perf_counter() - self._flushed_s >= CHUNK_S:
            self.flush()

    def flush(self) -> None:
        """Write the runs that were remembered."""
        for cell, runs in self._runs.items():
            self.note(
                "runs",
                cell=cell,
                every=runs[-1].every,
                index=[run.index for run in runs],
                at_s=[run.at_s for run in runs],
                total_ms=[run.total_ms for run in runs],
                parts=[run.parts for run in runs],
            )
        self._runs.clear()
        self._flushed_s = time.perf_counter()

    def sensors(self, moment_s: float, measured: Sequence[Measured]) -> None:
        """Write one reading of the sensors."""
        self.note("sensors", at_s=moment_s, measured=[list(item) for item in measured])

    def close(self) -> None:
        """Write what is left and close; a second call does nothing."""
        if self._file is not None:
            try:
                self.flush()
            finally:
                self._file.close()
                self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: Path) -> list[dict[str, Json]]:
    """The whole lines of a journal, in order; what a cut tore off the end is left out. Raises InputError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"there is no journal at {path}: {error.strerror}") from None
    return list(_lines(data, str(path)))


def _lines(data: bytes, name: str) -> Iterator[dict[str, Json]]:
    lines = data.split(b"\n")
    for i, line in enumerate(lines):
        if not line:
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            # Only the last line can be half written; a power cut may leave zeros there.
            if i >= len(lines) - 2:
                return
            raise InputError(f"{name}: line {i + 1} is not JSON") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
            raise InputError(f"{name}: line {i + 1} is not a line of a journal")
        yield entry
