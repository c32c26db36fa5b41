"""What a device says about itself, in one round trip, parsed strictly."""

from __future__ import annotations

import re

from edgekit.devices import lock_scripts, scripts
from edgekit.devices.device import Device, run_script
from edgekit.devices.release import ReleaseRecord, parse_record
from edgekit.devices.state import NOTHING, State, parse_state
from edgekit.errors import ManifestError, TransportError
from edgekit.records import Json, Record, load_json

TIMEOUT_S = 30.0

_APP = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KIB = 1024


class InstalledRelease(Record):
    """A release folder; `record` null when its release.json cannot be read."""

    id: str
    record: ReleaseRecord | None


class InstalledApp(Record):
    """An app's folder. damage: why its state file cannot be used, or null. restart: the recorded command or null."""

    app: str
    state: State
    damage: str | None
    restart: str | None
    releases: tuple[InstalledRelease, ...]


class Facts(Record):
    """One machine at one moment. Unknown texts are empty; sizes in bytes, times in seconds.

    root: edgekit's folder, absolute. machine: as `uname -m`; bits: of its programs. libc: `glibc 2.36`, `bionic`
    or `unknown`. python: version of `python3`; pythons: other interpreters by name. cpu_parts: implementer and
    part numbers on ARM. abi, phone: on Android. uptime and boot_id order events within one boot. incoming:
    unfinished transfers.
    """

    root: str
    writable: bool
    system: str
    kernel: str
    machine: str
    bits: int
    libc: str
    python: str
    pythons: tuple[str, ...]
    tools: tuple[str, ...]
    disk_free_bytes: int
    ram_total_bytes: int
    ram_available_bytes: int
    cores: int
    cpu_model: str
    cpu_features: tuple[str, ...]
    cpu_parts: tuple[str, ...]
    board: str
    phone: str
    abi: str
    clock_s: int
    uptime_s: int
    boot_id: str
    user_id: int
    launcher: bool
    layers: tuple[str, ...]
    incoming: tuple[str, ...]
    apps: tuple[InstalledApp, ...]

    def app(self, name: str) -> InstalledApp:
        """What is installed under this name; an app without releases when nothing is."""
        nothing = InstalledApp(app=name, state=NOTHING, damage=None, restart=None, releases=())
        return next((a for a in self.apps if a.app == name), nothing)


def read_facts(device: Device) -> Facts:
    """Ask the device; raises TransportError when it cannot be reached or answers something else."""
    lines = run_script(device, lock_scripts.LOCK + scripts.FACTS, device.root, timeout_s=TIMEOUT_S)
    return parse_facts(lines, device.name)


def parse_facts(lines: list[str], name: str) -> Facts:
    """Facts from the lines `key value...` of the script; raises TransportError naming the first odd one."""
    found: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    try:
        return _build(found)
    except (KeyError, ValueError, IndexError) as error:
        raise TransportError(f"{name} describes itself in a way that cannot be understood: {error!r}") from None


_KEYS = {
    *("root", "writable", "uname", "bits", "libc", "python", "also", "tool", "disk", "ram", "cores", "cpu", "board"),
    *("phone", "abi", "clock", "user", "launcher", "layer", "incoming", "app", "state", "restart", "release"),
}


def _build(found: dict[str, list[str]]) -> Facts:
    if found.keys() - _KEYS:
        raise ValueError(f"unknown {sorted(found.keys() - _KEYS)[0][:80]!r}")
    root = _one(found, "root")
    if not root.startswith("/"):
        raise ValueError(f"root {root!r}")
    system, kernel, machine = _one(found, "uname").split(" ")
    free = re.search(r"\s(\d+)\s+(-?\d+)\s+(\d+)\s+(\d+%|-)\s", _one(found, "disk") + " ")
    if not free:
        raise ValueError(f"disk {_one(found, 'disk')!r}")
    total, available = (int(n) * _KIB for n in _one(found, "ram").split(" "))
    clock, uptime, boot = _one(found, "clock").split(" ")
    cpu = _cpu(found.get("cpu", []))
    return Facts(
        root=root,
        writable={"yes": True, "no": False}[_one(found, "writable")],
        system=system,
        kernel=kernel,
        machine=machine,
        bits=int(_one(found, "bits")),
        libc=_libc(_one(found, "libc")),
        python=_one(found, "python", "Python ").removeprefix("Python "),
        pythons=tuple(found.get("also", [])),
        tools=tuple(found.get("tool", [])),
        disk_free_bytes=int(free[3]) * _KIB,
        ram_total_bytes=total,
        ram_available_bytes=available,
        cores=int(_one(found, "cores")),
        cpu_model=next(iter(cpu.get("model name", [])), ""),
        cpu_features=tuple(next(iter(cpu.get("flags", cpu.get("Features", []))), "").split()),
        cpu_parts=tuple(cpu.get("CPU implementer", []) + cpu.get("CPU part", [])),
        board=_one(found, "board", ""),
        phone=_one(found, "phone", ""),
        abi=_one(found, "abi", ""),
        clock_s=int(clock),
        uptime_s=int(uptime),
        boot_id=boot,
        user_id=int(_one(found, "user")),
        launcher="launcher" in found,
        layers=tuple(found.get("layer", [])),
        incoming=tuple(found.get("incoming", [])),
        apps=_apps(found),
    )


def _one(found: dict[str, list[str]], key: str, absent: str | None = None) -> str:
    values = found.get(key, [] if absent is None else [absent])
    if len(values) != 1:
        raise ValueError(f"{key} said {len(values)} times")
    return values[0]


def _libc(text: str) -> str:
    """`glibc 2.36` from getconf or from the library's own banner."""
    banner = re.fullmatch(r"GNU C Library .* version (\d+\.\d+)\.", text)
    return f"glibc {banner[1]}" if banner else text


def _cpu(lines: list[str]) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(":")
        parts.setdefault(key.strip(), []).append(value.strip())
    return parts


def _apps(found: dict[str, list[str]]) -> tuple[InstalledApp, ...]:
    names = [n for n in found.get("app", []) if _APP.fullmatch(n)]
    states = dict(_split(v) for v in found.get("state", []))
    restarts = dict(_split(v) for v in found.get("restart", []))
    releases: dict[str, list[InstalledRelease]] = {}
    for value in found.get("release", []):
        name, rest = _split(value)
        identity, text = _split(rest)
        releases.setdefault(name, []).append(InstalledRelease(id=identity, record=_record(identity, text)))
    return tuple(_app(n, states.get(n), restarts.get(n), tuple(releases.get(n, ()))) for n in names)


def _split(value: str) -> tuple[str, str]:
    first, _, rest = value.partition(" ")
    return first, rest


def _record(identity: str, text: str) -> ReleaseRecord | None:
    try:
        record = parse_record(text.encode())
    except ManifestError:
        return None
    return record if record.id == identity else None


def _app(name: str, state: str | None, restart: str | None, releases: tuple[InstalledRelease, ...]) -> InstalledApp:
    parsed, damage, command = NOTHING, None, None
    try:
        parsed = NOTHING if state is None else parse_state(state.encode())
    except ManifestError as error:
        damage = str(error)
    try:
        command = None if restart is None else parse_restart(load_json(restart.encode()))
    except ManifestError as error:
        damage = damage or str(error)
    return InstalledApp(app=name, state=parsed, damage=damage, restart=command, releases=releases)


def parse_restart(document: Json) -> str:
    """The command in `restart.json`; raises ManifestError."""
    if not isinstance(document, dict) or list(document) != ["restart"] or not isinstance(document["restart"], str):
        raise ManifestError("restart", "expected one command")
    return document["restart"]
