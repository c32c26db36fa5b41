"""The machine that carries the lab: running its commands, and what it lacks."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = Path("/run/edgelab.lock")
BINFMT_DIR = Path("/proc/sys/fs/binfmt_misc")

_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "tc": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "losetup": "util-linux",
    "mke2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
_EMULATORS = {
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-arm-static": "qemu-user-static",
}
_ADB = {"adb": "adb"}
_VM_TOOLS = {
    "qemu-system-aarch64": "qemu-system-arm",
    "fdtput": "device-tree-compiler",
    "cpio": "cpio",
    "depmod": "kmod",
}


class LabError(Exception):
    """The lab itself failed: never a fault of what is tested in it."""


def run(
    *argv: str | Path,
    check: bool = True,
    timeout_s: float = 120,
    environ: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run one command of this machine; a failure names the command and what it said."""
    command = [str(word) for word in argv]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=None if environ is None else dict(environ),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
        )
    except FileNotFoundError as error:
        raise LabError(f"command not found: {command[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"no answer within {timeout_s} s: {' '.join(command)}") from error
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise LabError(f"exit {done.returncode} from {' '.join(command)}: {said}")
    return done


def _missing_tools(tools: Mapping[str, str]) -> list[str]:
    return [f"no {tool} (Debian package {package})" for tool, package in tools.items() if shutil.which(tool) is None]


def _missing_kernel_parts() -> list[str]:
    missing = []
    if not Path("/dev/loop-control").exists():
        missing.append("no loop devices (/dev/loop-control)")
    if "overlay" not in Path("/proc/filesystems").read_text() and not shutil.which("modprobe"):
        missing.append("no overlay file system in this kernel")
    try:
        run("unshare", "--net", "--mount", "--pid", "--fork", "true")
    except LabError as error:
        missing.append(f"namespaces are not allowed here ({error})")
    return missing


def missing_for_devices() -> list[str]:
    """What this machine lacks for devices of its own architecture; empty when nothing."""
    if platform.system() != "Linux":
        return [f"needs Linux, this is {platform.system()}"]
    if os.geteuid() != 0:
        return ["not root"]
    return _missing_tools(_TOOLS) or _missing_kernel_parts()


def missing_for_emulation() -> list[str]:
    """What this machine lacks for devices of a foreign architecture."""
    missing = missing_for_devices() or _missing_tools(_EMULATORS)
    if not missing and not BINFMT_DIR.is_dir():
        missing = [f"no binfmt_misc in this kernel ({BINFMT_DIR})"]
    return missing


def missing_for_adb() -> list[str]:
    return missing_for_devices() or _missing_tools(_ADB)


def missing_for_vm() -> list[str]:
    return missing_for_emulation() or _missing_tools(_VM_TOOLS)


def machine_arch() -> str:
    """Debian's name of this machine's own architecture."""
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return names.get(platform.machine(), platform.machine())


def owner_tag() -> str:
    """A name for this process that is never used again: its id and its start time."""
    return f"{os.getpid()}-{_start_ticks(os.getpid())}"


def owner_is_alive(tag: str) -> bool:
    pid, _, ticks = tag.partition("-")
    return pid.isdigit() and _start_ticks(int(pid)) == ticks


def _start_ticks(pid: int) -> str:
    """Field 22 of /proc/PID/stat (proc(5)), "" when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


class SharedHold:
    """This process's share in what all labs of a machine use (handlers, guard route)."""

    def __init__(self, path: Path = LOCK_FILE) -> None:
        self._file = path.open("a+")
        fcntl.flock(self._file, fcntl.LOCK_SH)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Give the share up; inside, True says that no other process holds one."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        try:
            yield alone
        finally:
            self._file.close()


def read_command(argv: Sequence[str | Path]) -> list[str]:
    """The lines a command prints; none when it fails."""
    return run(*argv, check=False).stdout.splitlines()
