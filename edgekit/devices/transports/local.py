"""This machine as a device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.devices.transports import APPEND, READ, WRITE, Completed, OnBytes
from edgekit.devices.transports.process import demand, receive_file, run_process, send_file


class LocalTransport:
    """Commands run here; the same scripts as on a device, in the shell of this machine."""

    def run(self, argv: Sequence[str], *, stdin: bytes | None = None, timeout_s: float) -> Completed:
        """Run a command and wait; raises TransportError on the deadline."""
        return run_process(argv, stdin=stdin, timeout_s=timeout_s, what="a command on this machine")

    def put(
        self,
        source: Path,
        target: str,
        *,
        start: int,
        size: int,
        append: bool,
        timeout_s: float,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Write or append a part of a file."""
        argv = ["sh", "-c", APPEND if append else WRITE, "put", target]
        what = f"writing {target}"
        demand(send_file(argv, source, start=start, size=size, timeout_s=timeout_s, what=what, on_bytes=on_bytes), what)

    def get(self, source: str, target: Path, *, timeout_s: float) -> None:
        """Copy a file."""
        what = f"reading {source}"
        demand(receive_file(["sh", "-c", READ, "get", source], target, timeout_s=timeout_s, what=what), what)
