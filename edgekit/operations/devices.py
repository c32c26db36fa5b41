"""`status`, `rollback`, `remove`, `doctor`: what devices run, and what stands in the way there."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from edgekit.devices import (
    BUNDLE_FOLDER,
    AppStatus,
    Checks,
    Device,
    Facts,
    Finding,
    connect,
    examine,
    read_facts,
    recognise,
)
from edgekit.devices import remove as remove_app
from edgekit.devices import rollback as rollback_app
from edgekit.devices import status as read_status
from edgekit.devices.address import parse_address
from edgekit.devices.doctor import line_for
from edgekit.errors import DeployError
from edgekit.installed import app_root
from edgekit.operations.aliases import address_of
from edgekit.operations.service import remove_service
from edgekit.records import Json, Record, dump
from edgekit.targets import known_targets

CHECK_S = 300.0


@contextlib.contextmanager
def opened(name: str) -> Iterator[Device]:
    """The device of this name or address, under the name that the person used."""
    with connect(address_of(name)) as device:
        yield device.replace(name=name)


def is_local(name: str) -> bool:
    """Whether the device is a folder of this machine, where this interpreter is the device's."""
    return address_of(name).startswith("local:")


def edgekit_command(local: bool, root: str) -> list[str]:
    """edgekit on a device: this interpreter here, the launcher there."""
    return [sys.executable, "-m", "edgekit"] if local else [f"{root}/bin/edgekit"]


def golden_checks(local: bool, facts: Facts) -> Checks:
    """The golden check as a command of the device; nothing where there is no Python."""

    def golden(release: str) -> Sequence[str]:
        if not local and not facts.python:
            return ["true"]
        keep = [] if local else ["env", "EDGEKIT_KEEP_BYTECODE=1"]
        return [*keep, *edgekit_command(local, facts.root), "check", f"{release}/{BUNDLE_FOLDER}", "--json"]

    return Checks(golden=golden, golden_timeout_s=CHECK_S, warm=None, warm_timeout_s=CHECK_S)


class Diagnosis(Record):
    """What a device is, and what stands in the way there."""

    device: str
    target: str | None
    facts: Facts
    findings: tuple[Finding, ...]

    def to_dict(self) -> Json:
        """Plain JSON."""
        return dump(self)

    def __str__(self) -> str:
        facts = self.facts
        lines = [
            f"{self.device}: {facts.board or facts.phone or 'unknown board'}, {facts.machine} ({facts.bits} bit), "
            f"target {self.target or 'none'}",
            f"  python {facts.python or 'none'}, {facts.libc}, {facts.cores} cores ({facts.cpu_model or 'unknown'})",
            f"  memory {facts.ram_total_bytes >> 20} MiB ({facts.ram_available_bytes >> 20} free), "
            f"disk {facts.disk_free_bytes >> 20} MiB free in {facts.root}",
            f"  {len(facts.layers)} layers, {len(facts.apps)} apps",
        ]
        lines += [f"{f.level}: {f.what}\n    {f.fix}" for f in self.findings]
        return "\n".join(lines if self.findings else [*lines, "nothing stands in the way"])


def doctor(address: str | None) -> Diagnosis:
    """Facts of a device (without an address: of this machine) with a line to copy for each finding."""
    name = address or f"local:{app_root()}"
    with opened(name) as device:
        facts = read_facts(device)
    target = recognise(facts, known_targets().values())
    there = line_for(parse_address(address_of(name)))
    found = examine(facts, target, now_s=int(time.time()), name=name, there=there)
    return Diagnosis(device=name, target=target.name if target else None, facts=facts, findings=found)


class Status(Record):
    """What a device runs."""

    device: str
    apps: tuple[AppStatus, ...]

    def to_dict(self) -> Json:
        """Plain JSON."""
        return dump(self)

    def __str__(self) -> str:
        if not self.apps:
            return f"{self.device}: no apps"
        return "\n".join(_status_lines(app) for app in self.apps)


def _status_lines(app: AppStatus) -> str:
    runs = f"{app.name} {app.version}, release {app.current[:12]}" if app.current else "nothing"
    lines = [f"{app.app}: runs {runs}"]
    if app.previous:
        lines.append(f"  previous: {app.previous[:12]} (edgekit rollback brings it back)")
    lines += [f"  failed its check: {bad[:12]}" for bad in app.bad]
    if not app.verified:
        lines.append("  not verified: the golden check did not run there")
    if app.problem:
        lines.append(f"  problem: {app.problem}")
    return "\n".join(lines)


def status(device: str, app: str | None) -> Status:
    """What a device runs, or one app of it. Raises DeployError where that is not there."""
    with opened(device) as connected:
        apps = read_status(connected)
    if app is not None and app not in {a.app for a in apps}:
        raise DeployError(f"no app '{app}' on {device}; {_apps_there(apps)}", hint=_names_of(apps))
    return Status(device=device, apps=tuple(a for a in apps if app in (None, a.app)))


def _apps_there(apps: Sequence[AppStatus]) -> str:
    return f"it has {', '.join(a.app for a in apps) or 'no apps'}"


def _names_of(apps: Sequence[AppStatus]) -> str:
    return "name one of those" if apps else "edgekit deploy SOURCE DEVICE puts one there"


def _only_app(connected: Device, device: str) -> str:
    """The app that is meant where none is named: the only one. Raises DeployError."""
    apps = read_status(connected)
    if len(apps) != 1:
        raise DeployError(f"which app of {device} is meant? {_apps_there(apps)}", hint=_names_of(apps))
    return apps[0].app


class Changed(Record):
    """How a rollback or a removal ended."""

    device: str
    app: str
    release: str | None
    previous: str | None
    version: str | None
    notes: tuple[str, ...]

    def to_dict(self) -> Json:
        """Plain JSON."""
        return dump(self)

    def __str__(self) -> str:
        now = f"runs {self.version}, release {self.release[:12]}" if self.release else "is gone"
        return "\n".join([f"{self.device}: {self.app} {now}", *(f"  note: {note}" for note in self.notes)])


def rollback(device: str, app: str | None) -> Changed:
    """Switch an app (None: the only one) back to the release before."""
    with opened(device) as connected:
        app = app or _only_app(connected, device)
        facts, local = read_facts(connected), is_local(device)
        changed = _changed(device, rollback_app(connected, app, golden_checks(local, facts)))
        if local or facts.python:
            return changed
        return changed.replace(notes=(*changed.notes, "every byte was hashed; the golden check was not run again"))


def remove(device: str, app: str | None) -> Changed:
    """Take an app (None: the only one), its service and its releases off a device."""
    with opened(device) as connected:
        app = app or _only_app(connected, device)
        stopped = remove_service(connected, read_facts(connected), app)
        changed = _changed(device, remove_app(connected, app))
        return changed.replace(notes=("its service is stopped and gone", *changed.notes)) if stopped else changed


def _changed(device: str, switched: Any) -> Changed:
    return Changed(
        device=device,
        app=switched.app,
        release=switched.release,
        previous=switched.previous,
        version=switched.version,
        notes=switched.notes,
    )
