"""Removal of what a lab leaves on a machine when its process had no time to clean up.

Everything of a lab is named edgelab-<process>-<start time>-..., so it is known whose it is; what
belongs to a process that still runs is left alone. By hand: `python -m lab teardown`, from the
folder of the tests.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

from . import binfmt, cgroup, network
from .host import SharedHold, owner_is_alive, read_command

NAME_PREFIX = "edgelab-"


def _is_abandoned(name: str) -> bool:
    pid, _, rest = name.removeprefix(NAME_PREFIX).partition("-")
    return not owner_is_alive(f"{pid}-{rest.partition('-')[0]}")


def _namespaces() -> list[str]:
    names = (line.split()[0] for line in read_command(["ip", "netns", "list"]) if line)
    return [name for name in names if name.startswith(NAME_PREFIX)]


def state_folders() -> list[Path]:
    return [path for path in Path(tempfile.gettempdir()).glob(f"{NAME_PREFIX}*") if path.is_dir()]


def kill_processes_of(state: Path) -> None:
    """End the processes started with EDGELAB_STATE set to this folder."""
    mark = f"EDGELAB_STATE={state}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in environ and int(folder.name) != os.getpid():
            try:
                os.kill(int(folder.name), signal.SIGKILL)
            except ProcessLookupError:
                continue


def remove_leftovers() -> list[str]:
    """Remove what dead labs left; the names of what was removed."""
    removed = []
    for name in filter(_is_abandoned, _namespaces()):
        network.disconnect(name)
        removed.append(name)
    for folder in state_folders():
        if _is_abandoned(folder.name):
            kill_processes_of(folder)
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(str(folder))
    for group in cgroup.leftovers():
        if _is_abandoned(group.name):
            cgroup.remove(group)
            removed.append(str(group))
    return removed


def release(hold: SharedHold) -> None:
    """Give up this process's share; the last one removes the handlers and the guard route."""
    with hold.alone() as alone:
        if alone:
            binfmt.unregister_all()
            network.remove_guard_route()
