"""How a command and a file reach a device: three methods, the same for this machine, ssh and adb."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from edgekit.errors import InputError, TransportError
from edgekit.records import Record

OnBytes = Callable[[int], None]
"""Called with the number of bytes that just left the host."""

WRITE = 'cat > "$1"'
APPEND = 'cat >> "$1"'
READ = 'cat < "$1"'


class Completed(Record):
    """How a command on a device ended; a negative returncode is the signal that killed it."""

    returncode: int
    stdout: bytes
    stderr: bytes


class CommandFailed(TransportError):
    """A command on the device ended with an error; `returncode` and `stderr` are its own."""

    def __init__(self, message: str, *, returncode: int, stderr: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.returncode = returncode
        self.stderr = stderr


class Transport(Protocol):
    """A way to one device. Every call ends within its deadline or raises TransportError."""

    def run(self, argv: Sequence[str], *, stdin: bytes | None = None, timeout_s: float) -> Completed:
        """Run a command there, in the login folder, and wait for it."""

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
        """Write bytes [start, start + size) of a local file to `target` there, or append them to it."""

    def get(self, source: str, target: Path, *, timeout_s: float) -> None:
        """Copy a file from there to a local one, which appears only when it is complete."""


def quote(word: str) -> str:
    """The one spelling of a word in a command line for a POSIX shell; it stands for itself only.

    Raises InputError for NUL, which no command line can carry.
    """
    if "\0" in word:
        raise InputError(f"{word[:80]!r} has a NUL, which a command line cannot carry")
    return shlex.quote(word)


def command_line(argv: Sequence[str]) -> str:
    """A command as one string for a remote shell."""
    return " ".join(map(quote, argv))
