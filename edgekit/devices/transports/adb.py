"""A device over the system's adb (Android 7 and later, whose shell passes exit codes and standard input).

adb has habits that are met here: a silent cut leaves the state `device` and hangs every call, so each has a
deadline; only disconnecting and connecting repairs that; `adb connect` ends with 0 when it fails, so its words count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.devices.transports import APPEND, READ, WRITE, Completed, OnBytes, command_line
from edgekit.devices.transports.process import demand, receive_file, run_process, send_file
from edgekit.errors import TransportError

CONNECT_S = 20.0

_HINTS = {
    "unauthorized": "unlock the device and allow USB debugging for this computer",
    "offline": "unplug it and plug it in again, or switch USB debugging off and on",
    "no permissions": "this user may not open the USB device: see `adb devices -l`",
    "not found": "`adb devices` lists what is there",
    "no devices": "attach one and allow USB debugging, or `adb connect HOST:PORT` and adb:HOST:PORT",
    "more than one": "give the serial: adb:SERIAL; `adb devices` lists them",
}


class AdbTransport:
    """Commands and files over adb; a serial with a port is connected over the network when it has to be.

    serial: empty for the only device that is attached.
    """

    def __init__(self, serial: str) -> None:
        self._serial = serial or "device"
        self._adb = ["adb", *(["-s", serial] if serial else [])]
        self._ready = False

    def run(self, argv: Sequence[str], *, stdin: bytes | None = None, timeout_s: float) -> Completed:
        """Run a command there; raises TransportError when it cannot be reached or the deadline is missed."""
        words = self._shell(argv, reads=stdin is not None)
        return self._reached(self._call(words, stdin, timeout_s))

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
        """Write or append a part of a local file; `adb push` could neither append nor be resumed."""
        what = f"writing {target} on {self._serial}"
        words = self._shell(["sh", "-c", APPEND if append else WRITE, "put", target], reads=True)
        try:
            done = send_file(words, source, start=start, size=size, timeout_s=timeout_s, what=what, on_bytes=on_bytes)
        except TransportError:
            self._ready = False
            raise
        demand(self._reached(done), what)

    def get(self, source: str, target: Path, *, timeout_s: float) -> None:
        """Copy a file from there."""
        what = f"reading {source} on {self._serial}"
        words = self._shell(["sh", "-c", READ, "get", source], reads=False)
        try:
            done = receive_file(words, target, timeout_s=timeout_s, what=what)
        except TransportError:
            self._ready = False
            raise
        demand(self._reached(done), what)

    def close(self) -> None:
        """Nothing is held: the adb server belongs to the user."""
        self._ready = False

    def _shell(self, argv: Sequence[str], *, reads: bool) -> list[str]:
        if not self._ready:
            self._connect()
            self._ready = True
        return [*self._adb, "shell", *([] if reads else ["-n"]), command_line(argv)]

    def _call(self, words: Sequence[str], stdin: bytes | None, timeout_s: float) -> Completed:
        try:
            return run_process(words, stdin=stdin, timeout_s=timeout_s, what=f"adb {self._serial}")
        except TransportError:
            self._ready = False
            raise

    def _connect(self) -> None:
        """Reach the state `device`; a network serial is connected anew, whatever adb believes about it."""
        self._call(["adb", "start-server"], None, CONNECT_S)
        if ":" in self._serial:
            self._call(["adb", "disconnect", self._serial], None, CONNECT_S)
            said = _text(self._call(["adb", "connect", self._serial], None, CONNECT_S))
            if "connected to" not in said:
                raise TransportError(f"adb {self._serial}: {said}", hint="is it switched on, with network debugging?")
        done = self._call([*self._adb, "get-state"], None, CONNECT_S)
        if done.returncode != 0 or done.stdout.strip() != b"device":
            raise self._unreachable(_text(done))

    def _reached(self, done: Completed) -> Completed:
        said = done.stderr.lstrip()
        if done.returncode == 0 or done.stdout or not said.startswith((b"error: ", b"adb: ")):
            return done
        self._ready = False
        raise self._unreachable(_text(done))

    def _unreachable(self, said: str) -> TransportError:
        hint = next((hint for word, hint in _HINTS.items() if word in said), None)
        return TransportError(f"adb {self._serial}: {said[-600:] or 'no answer'}", hint=hint)


def _text(done: Completed) -> str:
    return (done.stdout + done.stderr).decode("utf-8", "replace").strip()
