"""A device over the system's OpenSSH client: the user's configuration, agent, known hosts and jump hosts hold.

One connection is opened and shared by all commands (ControlMaster). Host keys are strict: an unknown or changed
one is refused, and nothing here ever writes known_hosts. `EDGEKIT_SSH_CONFIG` names another configuration file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgekit.devices.address import Address
from edgekit.devices.transports import APPEND, READ, WRITE, Completed, OnBytes, command_line
from edgekit.devices.transports.process import demand, receive_file, run_process, send_file
from edgekit.errors import TransportError

CONNECT_S = 30.0
_FAILED = 255  # ssh's own exit status, and what it gives for a command that was killed by a signal

_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "LogLevel=ERROR",
)

_HINTS = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED", "the host key is another one than before: find out why first"),
    (
        r"Host key verification failed|No .* host key is known",
        "connect once by hand, `ssh {where}`, and compare the key",
    ),
    (r"Permission denied", "`ssh-copy-id {where}` puts your key there; a passphrase needs ssh-agent"),
    (r"Could not resolve", "check the name; `ping` it"),
    (r"Connection refused|No route|timed out|unreachable", "is it switched on, in this network, with ssh enabled?"),
)


class SshTransport:
    """Commands and files over one shared ssh connection; `close` ends it."""

    def __init__(self, address: Address) -> None:
        self._where = re.sub(r"[\[\]]", "", address.where)
        self._folder = tempfile.mkdtemp(prefix="edgekit-ssh-", dir="/tmp" if os.path.isdir("/tmp") else None)
        self._socket = f"{self._folder}/s"
        config = os.environ.get("EDGEKIT_SSH_CONFIG")
        self._ssh = ["ssh", *(["-F", config] if config else []), "-S", self._socket]
        self._ssh += [word for option in _OPTIONS for word in ("-o", option)]
        self._ssh += ["-p", str(address.port)] if address.port else []
        self._master: subprocess.Popen[bytes] | None = None

    def run(self, argv: Sequence[str], *, stdin: bytes | None = None, timeout_s: float) -> Completed:
        """Run a command there; raises TransportError when it cannot be reached or the deadline is missed."""
        with self._connected() as words:
            done = run_process(
                [*words, command_line(argv)], stdin=stdin, timeout_s=timeout_s, what=f"ssh {self._where}"
            )
        return self._reached(done)

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
        """Write or append a part of a local file."""
        what = f"writing {target} on {self._where}"
        remote = command_line(["sh", "-c", APPEND if append else WRITE, "put", target])
        with self._connected() as words:
            done = send_file(
                [*words, remote], source, start=start, size=size, timeout_s=timeout_s, what=what, on_bytes=on_bytes
            )
        demand(self._reached(done), what)

    def get(self, source: str, target: Path, *, timeout_s: float) -> None:
        """Copy a file from there."""
        what = f"reading {source} on {self._where}"
        remote = command_line(["sh", "-c", READ, "get", source])
        with self._connected() as words:
            done = receive_file([*words, remote], target, timeout_s=timeout_s, what=what)
        demand(self._reached(done), what)

    def close(self) -> None:
        """End the connection; a second call does nothing."""
        self._drop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[list[str]]:
        if self._master is None or self._master.poll() is not None:
            self._connect()
        try:
            yield [*self._ssh, "-o", "ControlMaster=no", "--", self._where]
        except TransportError:
            self._drop()
            raise

    def _connect(self) -> None:
        self._drop()
        with tempfile.TemporaryFile() as heard:
            words = [*self._ssh, "-o", "ControlMaster=yes", "-o", "ControlPersist=no", "-N", "--", self._where]
            try:
                master = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=heard, start_new_session=True
                )
            except OSError:
                raise TransportError("ssh is not installed here", hint="install the OpenSSH client") from None
            self._master = master
            deadline_s = time.monotonic() + CONNECT_S
            while not os.path.exists(self._socket):
                ended = master.poll() is not None
                if ended or time.monotonic() > deadline_s:
                    self._drop()
                    heard.seek(0)
                    said = heard.read(4096).decode("utf-8", "replace").strip()
                    raise self._unreachable(said or f"no connection within {CONNECT_S:g} s")
                time.sleep(0.01)

    def _reached(self, done: Completed) -> Completed:
        if done.returncode != _FAILED:
            return done
        self._drop()
        said = done.stderr.decode("utf-8", "replace").strip()
        raise self._unreachable(said or "the connection ended, or the command was killed")

    def _unreachable(self, said: str) -> TransportError:
        hint = next((h for pattern, h in _HINTS if re.search(pattern, said)), None)
        return TransportError(
            f"ssh {self._where}: {said[-600:]}", hint=hint.format(where=self._where) if hint else None
        )

    def _drop(self) -> None:
        master, self._master = self._master, None
        if master is not None:
            with contextlib.suppress(OSError):
                os.killpg(master.pid, signal.SIGKILL)
            master.wait()
        with contextlib.suppress(OSError):
            os.unlink(self._socket)
