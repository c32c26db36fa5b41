"""One deployer at a time: who it is, when it may be presumed dead, and how the lock is taken and given back."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from edgekit.devices import lock_scripts, scripts
from edgekit.devices.device import Device, run_script
from edgekit.devices.transports import CommandFailed
from edgekit.errors import DeployError, TransportError
from edgekit.records import Record

LEASE_S = 120
"""How long the lock outlives the last sign of life, in seconds of the device's uptime; renewed while work goes on."""

TIMEOUT_S = 30.0

_HELD = re.compile(r"held (\d+) (\d+) ([0-9a-f-]+|none):(\d+):([0-9a-f-]+|none):(\d+):(\d+):([0-9a-f]{16})")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Owner(Record):
    """A deployer: the boot of its machine, its process and that process's start, and one random token."""

    host_boot: str
    pid: int
    started: int
    token: str

    def __str__(self) -> str:
        return f"{self.host_boot}:{self.pid}:{self.started}:{self.token}"


def this_process() -> Owner:
    """The owner that this process is, with a fresh token."""
    pid = os.getpid()
    return Owner(host_boot=_host_boot(), pid=pid, started=_start_of(pid), token=secrets.token_hex(8))


def acquire(device: Device, owner: Owner) -> None:
    """Take the lock, or a dead deployer's; raises DeployError naming who has it."""
    take = 0
    for _ in range(4):
        reply = run_script(
            device,
            lock_scripts.LOCK + lock_scripts.ACQUIRE,
            device.root,
            str(owner),
            str(LEASE_S),
            str(take),
            timeout_s=TIMEOUT_S,
        )
        if len(reply) == 1 and re.fullmatch(r"acquired \d+", reply[0]):
            return
        if len(reply) == 1 and re.fullmatch(r"held \d+ \d+ free", reply[0]):
            continue
        held = _HELD.fullmatch(reply[0]) if len(reply) == 1 else None
        if not held:
            raise TransportError(f"{device.name}: the lock is not one of edgekit's: {reply[:1]!r}")
        if not _is_dead(held[5], int(held[6]), int(held[7])):
            left = max(0, int(held[4]) - int(held[2]))
            raise DeployError(
                f"{device.name} is locked by another deployment (process {held[6]})",
                hint=f"wait for it; if its machine is gone, the lock ends in {left} s",
            )
        take = int(held[1])
    raise DeployError(f"{device.name} is locked: other deployments were faster", hint="try again")


def release(device: Device, owner: Owner, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Give the lock back; False when somebody else has it by now."""
    reply = run_script(device, lock_scripts.LOCK + lock_scripts.RELEASE, device.root, owner.token, timeout_s=timeout_s)
    return reply == ["released"]


def fenced(
    device: Device, owner: Owner, body: str, *arguments: str, stdin: bytes | None = None, timeout_s: float
) -> list[str]:
    """Run a script that changes the device, only while the lock is ours and for longer than the script may take.

    Raises DeployError when the lock was lost, CommandFailed and TransportError as `run_script`.
    """
    script = scripts.FLUSH + lock_scripts.LOCK + lock_scripts.FENCED + body
    lease = str(int(timeout_s) + 10)
    words = (device.root, owner.token, lease, *arguments)
    try:
        return run_script(device, script, *words, stdin=stdin, timeout_s=timeout_s)
    except CommandFailed as error:
        if "edgekit:lock-lost" in error.stderr:
            raise DeployError(f"{device.name}: another deployment took the lock") from None
        raise


def _is_dead(host_boot: str, pid: int, started: int) -> bool:
    """Whether that deployer ran on this machine, in this boot, and its process is gone."""
    if host_boot != _host_boot() or host_boot == "none":
        return False
    try:
        return _start_of(pid) != started
    except OSError:
        return True


def _host_boot() -> str:
    with contextlib.suppress(OSError):
        return _BOOT.read_text().strip()
    return "none"


def _start_of(pid: int) -> int:
    """When a process started, in clock ticks since boot (0 where there is no /proc); raises OSError when it is gone."""
    if not Path("/proc/self/stat").exists():
        os.kill(pid, 0)
        return 0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return -1 if fields[0] in ("Z", "X") else int(fields[19])
