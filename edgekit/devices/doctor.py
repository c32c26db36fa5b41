"""What stands in the way on a device, from its facts alone, each finding with a line to copy."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Literal

from edgekit.devices.address import Address
from edgekit.devices.facts import Facts
from edgekit.devices.release import NO_LAYER
from edgekit.records import Record
from edgekit.targets import Target

DISK_LOW_BYTES = 512 << 20
CLOCK_OFF_S = 86_400
OLDEST_PYTHON = 10


class Finding(Record):
    """problem: nothing can be deployed or run until it is gone. advice: works, could be better.

    fix: a line to copy to a shell of this machine.
    """

    level: Literal["problem", "advice"]
    what: str
    fix: str


def recognise(facts: Facts, targets: Iterable[Target]) -> Target | None:
    """The target of its architecture whose board its model begins with, else the generic one."""
    arch = _arch(facts)
    fitting = [t for t in targets if t.arch == arch]
    named = [(len(board), t) for t in fitting for board in t.boards if facts.board.startswith(board)]
    if named:
        return max(named, key=lambda n: n[0])[1]
    return next((t for t in fitting if not t.boards), None)


def _arch(facts: Facts) -> str:
    if facts.abi:
        return facts.abi
    arm = facts.machine in ("aarch64", "armv8l", "armv7l")
    return "armv7l" if arm and facts.bits == 32 else facts.machine


There = Callable[[str], str]
"""Makes of a line for the device's shell the line for a shell of this machine."""


def line_for(address: Address) -> There:
    """How a person runs a line on the device at an address."""
    if address.kind == "local":
        return lambda line: line
    port = f"-p {address.port} " if address.port else ""
    start = f"ssh -t {port}{address.where}" if address.kind == "ssh" else f"adb -s {address.where} shell"
    return lambda line: f"{start} {shlex.quote(line)}"


def examine(
    facts: Facts, target: Target | None, *, now_s: int, name: str, there: There = lambda line: line
) -> tuple[Finding, ...]:
    """Every finding, problems first. now_s: this machine's clock. name: how the person calls the device."""
    found = [
        *_place(facts, there),
        *_tools(facts, there),
        *_python(facts, name, there),
        *_time(facts, now_s, there),
        *_cpu(facts, target),
        *_apps(facts, name),
        *_transfers(facts, there),
    ]
    return tuple(sorted(found, key=lambda f: f.level != "problem"))


def _place(facts: Facts, there: There) -> Iterable[Finding]:
    if not facts.writable:
        root = shlex.quote(facts.root)
        fix = there(f"sudo mkdir -p {root} && sudo chown -R $(id -un) {root}")
        yield Finding(level="problem", what=f"{facts.root} cannot be written by user {facts.user_id}", fix=fix)
    if facts.disk_free_bytes < DISK_LOW_BYTES:
        what = f"{facts.disk_free_bytes >> 20} MiB of disk are free"
        yield Finding(level="advice", what=what, fix=there("sudo apt-get clean && sudo journalctl --vacuum-size=50M"))


def _tools(facts: Facts, there: There) -> Iterable[Finding]:
    if not {"sha256sum", "shasum"} & set(facts.tools):
        yield Finding(level="problem", what="there is no sha256sum", fix=there("sudo apt-get install coreutils"))
    if "sync" not in facts.tools:
        yield Finding(level="problem", what="there is no sync", fix=there("sudo apt-get install coreutils"))
    if "timeout" not in facts.tools:
        what = "there is no timeout: a check that hangs goes on after it was given up"
        yield Finding(level="advice", what=what, fix=there("sudo apt-get install coreutils"))


def _python(facts: Facts, name: str, there: There) -> Iterable[Finding]:
    if facts.libc == "bionic" or facts.abi:
        return
    version = re.match(r"3\.(\d+)", facts.python)
    if not version:
        yield Finding(level="problem", what="there is no Python 3", fix=there("sudo apt-get install python3"))
    elif int(version[1]) < OLDEST_PYTHON:
        newer = next((p for p in facts.pythons if int(p.rpartition(".")[2]) >= OLDEST_PYTHON), None)
        fix = f"sudo ln -s $(command -v {newer}) /usr/local/bin/python3" if newer else "sudo apt-get full-upgrade"
        what = f"Python {facts.python} is older than 3.{OLDEST_PYTHON}"
        yield Finding(level="problem", what=what, fix=there(fix))
    if not facts.libc.startswith("glibc"):
        what = f"its C library is {facts.libc}; packages for it are not on the index"
        yield Finding(level="problem", what=what, fix=f"edgekit deploy SOURCE {name} --wheel FILE")
    if _arch(facts) == "armv7l":
        fix = there("sudo apt-get install python3-numpy python3-pil python3-soundfile")
        yield Finding(level="advice", what="a 32-bit system takes numpy, Pillow and soundfile from apt", fix=fix)


def _time(facts: Facts, now_s: int, there: There) -> Iterable[Finding]:
    off = facts.clock_s - now_s
    if abs(off) > CLOCK_OFF_S:
        what = f"its clock is {abs(off) // CLOCK_OFF_S} days {'ahead' if off > 0 else 'behind'}"
        yield Finding(level="advice", what=what, fix=there("sudo timedatectl set-ntp true"))


def _cpu(facts: Facts, target: Target | None) -> Iterable[Finding]:
    if target is None:
        yield Finding(level="advice", what=f"no target fits {facts.machine}", fix="edgekit targets")
        return
    missing = [f for f in target.cpu_features if f not in facts.cpu_features]
    if missing and facts.cpu_features:
        what = f"the CPU lacks {', '.join(missing)}, which {target.name} has: this is another board or an emulator"
        yield Finding(level="advice", what=what, fix="edgekit targets")


def _apps(facts: Facts, name: str) -> Iterable[Finding]:
    for app in facts.apps:
        records = {r.id: r.record for r in app.releases if r.record}
        source = next((r.name for r in records.values()), "SOURCE")
        again = f"edgekit deploy {source} {name} --app {app.app}"
        if app.damage:
            what = f"the state of {app.app} cannot be read: {app.damage}"
            yield Finding(level="problem", what=what, fix=f"{again} --force")
        current = records.get(app.state.current or "")
        if app.state.previous in records:
            again = f"edgekit rollback {name} {app.app}"
        if app.state.current and current is None:
            yield Finding(level="problem", what=f"the release that {app.app} runs is not there", fix=again)
        elif current and current.layer != NO_LAYER and current.layer not in facts.layers:
            yield Finding(level="problem", what=f"the layer that {app.app} needs is not there", fix=again)


def _transfers(facts: Facts, there: There) -> Iterable[Finding]:
    if facts.incoming:
        what = f"{len(facts.incoming)} transfers are unfinished: deploying the same again continues them"
        yield Finding(level="advice", what=what, fix=there(f"rm -rf {shlex.quote(facts.root)}/incoming"))
