"""Peak and steady memory of this process, phase by phase, from /proc/self/status.

Source: proc(5). VmHWM is the peak since the process began; writing 5 to clear_refs sets it back to the present
size (Linux 4.0), where that is permitted. Where it is not, a phase's peak is known only when it is a new record.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edgekit.records import Record

T = TypeVar("T")
PROC_SELF = Path("/proc/self")


class MemoryPhase(Record):
    """Bytes resident at the end of a phase and at its peak; null with the reason where it is not known."""

    phase: str
    rss_bytes: int | None
    anonymous_bytes: int | None
    swap_bytes: int | None
    peak_bytes: int | None
    reason: str | None


def parse_status(text: str) -> dict[str, int]:
    """The Vm and Rss lines of /proc/PID/status in bytes."""
    return {name: int(kib) * 1024 for name, kib in re.findall(r"^((?:Vm|Rss)\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def read_status(process: Path = PROC_SELF) -> dict[str, int]:
    """The same for a process's folder; empty where there is no such file (not Linux)."""
    try:
        return parse_status((process / "status").read_text(encoding="ascii", errors="replace"))
    except OSError:
        return {}


def reset_peak(process: Path = PROC_SELF) -> bool:
    """Set the peak back to the present size; whether that was permitted."""
    try:
        with (process / "clear_refs").open("w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def memory_phase(phase: str, action: Callable[[], T], *, process: Path = PROC_SELF) -> tuple[T, MemoryPhase]:
    """Do something and say what memory it took; what it raises is raised."""
    was_reset = reset_peak(process)
    before = read_status(process)
    value = action()
    return value, phase_between(phase, before, read_status(process), was_reset=was_reset)


def phase_between(phase: str, before: dict[str, int], after: dict[str, int], *, was_reset: bool) -> MemoryPhase:
    """The phase between two readings of status."""
    peak, reason = after.get("VmHWM"), None
    if "VmRSS" not in after:
        reason = "/proc/self/status is absent"
    elif peak is not None and not was_reset and peak <= before.get("VmHWM", 0):
        peak, reason = None, "below an earlier peak, and /proc/self/clear_refs cannot be written"
    return MemoryPhase(
        phase=phase,
        rss_bytes=after.get("VmRSS"),
        anonymous_bytes=after.get("RssAnon"),
        swap_bytes=after.get("VmSwap"),
        peak_bytes=peak,
        reason=reason,
    )
