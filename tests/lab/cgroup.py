"""A memory limit for a device, in the first (v1) or the second (v2) cgroup hierarchy."""

from __future__ import annotations

import time
from pathlib import Path

from .host import LabError

_ROOT = Path("/sys/fs/cgroup")
NAME_PREFIX = "edgelab-"


def _hierarchy() -> Path:
    """Where groups with a memory controller are made on this machine."""
    if (_ROOT / "memory/memory.limit_in_bytes").exists():
        return _ROOT / "memory"
    for v2 in (_ROOT, _ROOT / "unified"):
        controllers = v2 / "cgroup.controllers"
        if controllers.exists() and "memory" in controllers.read_text().split():
            return v2
    raise LabError(f"no memory controller under {_ROOT}")


class MemoryLimit:
    """One group with a hard limit and no swap."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        hierarchy = _hierarchy()
        self._is_v1 = hierarchy.name == "memory"
        self._folder = hierarchy / name
        self._folder.mkdir()
        if self._is_v1:
            self._write("memory.limit_in_bytes", limit_bytes)
            return
        enabled = hierarchy / "cgroup.subtree_control"
        if "memory" not in enabled.read_text().split():
            enabled.write_text("+memory")
        self._write("memory.max", limit_bytes)
        if (self._folder / "memory.swap.max").exists():
            self._write("memory.swap.max", 0)

    @property
    def folders(self) -> tuple[str, ...]:
        return (str(self._folder),)

    def _write(self, name: str, value: int) -> None:
        (self._folder / name).write_text(str(value))

    def oom_kills(self) -> int:
        name = "memory.oom_control" if self._is_v1 else "memory.events"
        for line in (self._folder / name).read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
        return 0

    def close(self) -> None:
        remove(self._folder)


def leftovers() -> list[Path]:
    """Groups of ours, of living labs as well."""
    roots = (_ROOT / "memory", _ROOT, _ROOT / "unified")
    return [folder for root in roots for folder in root.glob(f"{NAME_PREFIX}*")]


def remove(folder: Path, timeout_s: float = 5) -> None:
    """A group can be removed once its last process has been reaped."""
    deadline = time.monotonic() + timeout_s
    while folder.exists():
        try:
            folder.rmdir()
        except OSError as error:
            if time.monotonic() > deadline:
                raise LabError(f"{folder} is still in use") from error
            time.sleep(0.02)
