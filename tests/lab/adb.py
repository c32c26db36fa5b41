"""Devices by adb: clients, a server that belongs to the tests, and access through it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import rootfs
from .host import LabError, run

# The program as Debian installs it; a device starts it as Android's user "shell".
SHELL = f"{rootfs.SHELL_UID}:{rootfs.SHELL_UID}"
ADBD = "/usr/lib/android-sdk/platform-tools/adbd"
PORT = 5555
PATH = "/system/bin:/vendor/bin"

_PROPERTIES = {
    "ro.product.brand": "edgelab",
    "ro.product.manufacturer": "edgelab",
    "ro.product.model": "Virtual",
    "ro.product.name": "edgelab_virtual",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.build.type": "user",
    "ro.serialno": "EDGELAB0001",
}
_ABIS = {"arm64": "arm64-v8a,armeabi-v7a,armeabi", "amd64": "x86_64,x86"}


def write_build_prop(seed: Path, arch: str) -> None:
    """The properties that `getprop` prints (names as in AOSP's build.prop)."""
    abis = _ABIS[arch]
    rows = {
        **_PROPERTIES,
        "ro.product.cpu.abi": abis.partition(",")[0],
        "ro.product.cpu.abilist": abis,
    }
    path = seed / "system/build.prop"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}={value}\n" for name, value in rows.items()))


def free_port() -> int:
    """A port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class AdbClient:
    """One adb program: `folder` goes first on PATH, `argv` starts it directly."""

    name: str
    folder: Path
    argv: tuple[str, ...]


def system_client(folder: Path) -> AdbClient:
    """This machine's adb (29 on bookworm)."""
    return AdbClient("system", _wrap(folder / "adb-system", "exec /usr/bin/adb"), ("/usr/bin/adb",))


def trixie_client(folder: Path) -> AdbClient:
    """Debian trixie's adb 34, run with its own C library beside this machine's."""
    root = rootfs.root_path(rootfs.ADB34)
    library = root / "usr/lib/x86_64-linux-gnu"
    program = root / "usr/lib/android-sdk/platform-tools/adb"
    argv = (
        *(str(library / "ld-linux-x86-64.so.2"), "--library-path"),
        *(f"{library}:{library}/android", str(program)),
    )
    return AdbClient("34", _wrap(folder / "adb-34", f"exec {' '.join(argv)}"), argv)


def _wrap(folder: Path, command: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "adb"
    script.write_text(f'#!/bin/sh\n{command} "$@"\n')
    script.chmod(0o755)
    return folder


class AdbServer:
    """An adb server on a port and with a home of its own, never the user's."""

    def __init__(self, client: AdbClient, home: Path) -> None:
        self.client = client
        self.port = free_port()
        home.mkdir(parents=True, exist_ok=True)
        self.environ: Mapping[str, str] = {
            "PATH": f"{client.folder}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "HOME": str(home),
            "TMPDIR": str(home),
            "ANDROID_USER_HOME": str(home / ".android"),
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            # Below the first port (5555), so that the server looks for no emulator by itself.
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553",
            "ADB_MDNS_OPENSCREEN": "0",
            "EDGELAB_STATE": str(home.parent),
        }
        with (home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*client.argv, "-P", str(self.port), "nodaemon", "server"],
                env=dict(self.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_listening(home / "server.log")

    def _wait_listening(self, log: Path) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = log.read_text(errors="replace")[-2000:]
                    raise LabError(f"the adb server did not start: {said}") from error
            time.sleep(0.02)

    def run(self, *words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """One call of the adb client on this server; its exit code is not checked."""
        argv = (*self.client.argv, "-P", str(self.port), *words)
        return run(*argv, check=False, timeout_s=timeout_s, environ=self.environ)

    def state(self, serial: str) -> str:
        """`device`, `offline`, `unauthorized` ...; "" when the server does not know it."""
        for line in self.run("devices").stdout.splitlines()[1:]:
            name, _, state = line.partition("\t")
            if name == serial:
                return state.strip()
        return ""

    def connect(self, serial: str, *, wanted: str = "device", timeout_s: float = 30) -> None:
        """Connect anew and wait for a state; a dead transport is only repaired by disconnecting.

        `adb connect` returns 0 on failure (29 and 34), so the state decides.
        """
        self.run("disconnect", serial)
        deadline = time.monotonic() + timeout_s
        while True:
            # In the background: it waits 10 s for a device that does not introduce itself.
            connecting = self._start("connect", serial)
            try:
                while connecting.poll() is None and self.state(serial) != wanted:
                    time.sleep(0.02)
                if self.state(serial) == wanted:
                    return
            finally:
                connecting.kill()
                connecting.wait()
            if time.monotonic() > deadline:
                raise LabError(f"{serial} is {self.state(serial) or 'absent'}, not {wanted}")
            time.sleep(0.05)

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.client.argv, "-P", str(self.port), *words],
            env=dict(self.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=5)


@dataclass(frozen=True)
class AdbAccess:
    serial: str
    server: AdbServer

    def run(self, command: str, *, timeout_s: float) -> subprocess.CompletedProcess[str]:
        return self.server.run("-s", self.serial, "shell", command, timeout_s=timeout_s)

    def connect(self) -> None:
        self.server.connect(self.serial)
