"""Processes with a deadline: what every transport stands on."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from edgekit.devices.transports import CommandFailed, Completed, OnBytes
from edgekit.errors import InputError, TransportError

_CHUNK_BYTES = 256 << 10


def run_process(
    argv: Sequence[str], *, stdin: bytes | None = None, timeout_s: float, what: str, own_group: bool = True
) -> Completed:
    """Run a program of this machine and wait; `what` names it in errors.

    Raises TransportError when it is not installed or not done within `timeout_s`; then it and its children
    are killed.
    """
    process = _start(argv, what=what, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE, group=own_group)
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process, own_group)
        raise TransportError(f"{what}: no answer within {timeout_s:g} s") from None
    except BaseException:
        _kill(process, own_group)
        raise
    return Completed(returncode=process.returncode, stdout=stdout, stderr=stderr)


def send_file(
    argv: Sequence[str],
    source: Path,
    *,
    start: int,
    size: int,
    timeout_s: float,
    what: str,
    on_bytes: OnBytes | None = None,
) -> Completed:
    """Feed bytes [start, start + size) of a file to a program's standard input.

    Raises TransportError on the deadline and InputError when the file is shorter or cannot be read.
    """
    try:
        file = source.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}") from None
    with file, tempfile.TemporaryFile() as heard:
        file.seek(start)
        process = _start(argv, what=what, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=heard.fileno())
        try:
            deadline_s = time.monotonic() + timeout_s
            _feed(process, file.fileno(), size, source, deadline_s, what, on_bytes)
            process.wait(timeout=max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            _kill(process)
            raise TransportError(f"{what}: no answer within {timeout_s:g} s") from None
        except BaseException:
            _kill(process)
            raise
        heard.seek(0)
        return Completed(returncode=process.returncode, stdout=b"", stderr=heard.read(_CHUNK_BYTES))


def receive_file(argv: Sequence[str], target: Path, *, timeout_s: float, what: str) -> Completed:
    """Write a program's standard output to `target`, which is replaced only when the program ends well."""
    part = target.with_name(target.name + ".part")
    try:
        with part.open("wb") as file:
            process = _start(argv, what=what, stdin=subprocess.DEVNULL, stdout=file.fileno())
            try:
                _, stderr = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                _kill(process)
                raise TransportError(f"{what}: no answer within {timeout_s:g} s") from None
            except BaseException:
                _kill(process)
                raise
        if process.returncode == 0:
            part.replace(target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return Completed(returncode=process.returncode, stdout=b"", stderr=stderr)


def demand(done: Completed, what: str) -> Completed:
    """What a command gave, if it ended well; raises CommandFailed with the last words it said."""
    if done.returncode == 0:
        return done
    said = done.stderr.decode("utf-8", "replace").strip()
    ended = f"was killed by signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
    raise CommandFailed(
        f"{what} {ended}" + (f": {said[-600:]}" if said else ""), returncode=done.returncode, stderr=said
    )


def _start(
    argv: Sequence[str],
    *,
    what: str,
    stdin: int,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    group: bool = True,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(list(argv), stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=group)
    except FileNotFoundError:
        raise TransportError(f"{what}: {argv[0]} is not installed here") from None
    except (OSError, ValueError) as error:
        raise TransportError(f"{what}: {argv[0]} cannot be started ({error})") from None


def _kill(process: subprocess.Popen[bytes], group: bool = True) -> None:
    with contextlib.suppress(OSError):
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    process.wait()


def _feed(
    process: subprocess.Popen[bytes],
    descriptor: int,
    size: int,
    source: Path,
    deadline_s: float,
    what: str,
    on_bytes: OnBytes | None,
) -> None:
    """Write without ever blocking past the deadline; a reader that has gone ends the feeding."""
    pipe = process.stdin
    if pipe is None:
        return
    os.set_blocking(pipe.fileno(), False)
    left, chunk = size, memoryview(b"")
    try:
        while left or chunk:
            if not chunk:
                chunk = memoryview(os.read(descriptor, min(left, _CHUNK_BYTES)))
                if not chunk:
                    raise InputError(f"{source} is {left} bytes shorter than it was when the plan was made")
                left -= len(chunk)
            _, ready, _ = select.select([], [pipe], [], max(0.0, deadline_s - time.monotonic()))
            if not ready:
                raise TransportError(f"{what}: the transfer stalled or is too slow, {left + len(chunk)} bytes to go")
            written = os.write(pipe.fileno(), chunk)
            chunk = chunk[written:]
            if on_bytes:
                on_bytes(written)
    except BrokenPipeError:
        pass
    finally:
        with contextlib.suppress(OSError):
            pipe.close()
        process.stdin = None
