"""Commands on a device whose exit status is a verdict: the golden check, warming caches, restarting an app."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, Union

from edgekit.devices import command_scripts
from edgekit.devices.device import Device
from edgekit.devices.lock import Owner, fenced
from edgekit.errors import TransportError
from edgekit.records import Record

CommandFor = Callable[[str], Sequence[str]]
"""The command for a release folder, an absolute path on the device."""

ANSWER_S = 30.0
"""How much later than the command's own deadline the device may say that it was missed."""

REFUSED = frozenset({3, 4, 5, 6, 9, 10})
"""Exit codes of edgekit by which a release is judged: a second run would say the same."""

TIMED_OUT = 124
NOT_STARTED = frozenset({126, 127})

_ENDED = re.compile(r"edgekit:(code|ended) (\d+)")


class Verdict(Record):
    """How a command ended: its exit code (128 + n: killed by signal n), what it printed, what it said besides."""

    code: int
    output: str
    said: str

    @property
    def passed(self) -> bool:
        """Whether it ended well."""
        return self.code == 0

    @property
    def final(self) -> bool:
        """Whether the release is to blame: it was judged, or hung. A death may be somebody else's doing."""
        return self.code in REFUSED or self.code == TIMED_OUT

    @property
    def started(self) -> bool:
        """Whether there was such a command at all."""
        return self.code not in NOT_STARTED

    def __str__(self) -> str:
        ended = {TIMED_OUT: "did not end in time"}.get(self.code, f"ended with {self.code}")
        if self.code > 128:
            ended = f"was killed by signal {self.code - 128}"
        words = (self.said.strip() or self.output.strip())[-400:]
        return f"{ended}: {words}" if words else ended


class HostDriven(NamedTuple):
    """A check of a device without Python: this machine asks it step by step under the lock, and judges.

    examine: given the device, the lock's owner, a release folder and a deadline in seconds; gives the verdict.
    """

    examine: Callable[[Device, Owner, str, float], Verdict]


Check = Union[CommandFor, HostDriven]


def run_check(device: Device, owner: Owner, check: Check, folder: str, *, timeout_s: float) -> Verdict:
    """The verdict on a release folder, by a command of the device or by what this machine asks of it."""
    if isinstance(check, HostDriven):
        return check.examine(device, owner, folder, timeout_s)
    return run_command(device, owner, check(folder), timeout_s=timeout_s)


def run_command(device: Device, owner: Owner, argv: Sequence[str], *, timeout_s: float) -> Verdict:
    """Run a command of the device under the lock, killed there when it takes longer than `timeout_s`."""
    return _judge(device, owner, command_scripts.LIMITED + command_scripts.COMMAND, *argv, timeout_s=timeout_s)


def run_restart(device: Device, owner: Owner, command: str, *, timeout_s: float) -> Verdict:
    """Run a command line of the user in the device's shell; what it starts in the background may stay."""
    return _judge(
        device,
        owner,
        command_scripts.LIMITED + command_scripts.RESTART,
        command,
        f"{device.root}/incoming/restart.log",
        timeout_s=timeout_s,
    )


def _judge(device: Device, owner: Owner, script: str, *arguments: str, timeout_s: float) -> Verdict:
    lines = fenced(device, owner, script, str(int(timeout_s)), *arguments, timeout_s=timeout_s + ANSWER_S)
    marks = [
        (number, match[1], int(match[2])) for number, line in enumerate(lines) if (match := _ENDED.fullmatch(line))
    ]
    ends = [number for number, kind, _ in marks if kind == "ended"]
    if not ends:
        raise TransportError(f"{device.name}: a command ended without saying how: {lines[-1:]!r}")
    before = [m for m in marks if m[1] == "code" and m[0] < ends[-1]]
    _, _, code = before[-1] if before else marks[-1]
    output = "\n".join(line for line in lines[: ends[-1]] if not _ENDED.fullmatch(line))
    return Verdict(code=code, output=output, said="\n".join(lines[ends[-1] + 1 :]))
