"""What a deployment will do, decided from facts alone: nothing here touches a device."""

from __future__ import annotations

import re
from typing import Any

from edgekit.devices import state as states
from edgekit.devices.facts import Facts
from edgekit.devices.inventory import Inventory
from edgekit.devices.release import (
    BUNDLE_FOLDER,
    NO_LAYER,
    RECORD_NAME,
    Layer,
    Payload,
    ReleaseRecord,
    check_app,
    inline,
    layer_folder,
    release_folder,
)
from edgekit.devices.state import State
from edgekit.devices.trees import Tree, new_bytes, plan_tree, stored_layers, stored_releases
from edgekit.errors import DeployError, InputError, TargetError
from edgekit.manifest import FileFact
from edgekit.records import Record, dump_canonical

STEPS = (
    "probe",
    "lock",
    "plan",
    "reuse",
    "send",
    "hash",
    "sync",
    "rename",
    "warm",
    "check",
    "write state",
    "restart",
    "confirm",
    "collect garbage",
    "unlock",
)
"""Every deployment goes through these, in this order; what has nothing to do says so."""


class Request(Record):
    """What is to run under an app name.

    layer: `Layer(digest=NO_LAYER, contents=())` where the device's interpreter has edgekit. settings: JSON values
    that are part of the release. restart: a command line for the device's shell, or null to keep the one
    recorded. disk_floor_bytes: what must stay free. machines: acceptable `uname -m`, empty for any.
    ram_bytes: what predicting needs, or null when it is not known.
    """

    app: str
    payload: Payload
    layer: Layer
    settings: dict[str, Any]
    restart: str | None
    disk_floor_bytes: int
    machines: tuple[str, ...]
    ram_bytes: int | None
    allow_downgrade: bool
    force: bool

    def check(self) -> None:
        check_app(self.app)

    @property
    def record(self) -> ReleaseRecord:
        """What the release's `release.json` will say."""
        files = {c.path: FileFact(size=c.size, sha256=c.sha256) for c in self.payload.contents}
        return ReleaseRecord(
            format=1,
            app=self.app,
            bundle=self.payload.digest,
            name=self.payload.name,
            version=self.payload.version,
            layer=self.layer.digest,
            settings=self.settings,
            files=files,
        )


class Step(Record):
    """One named step: what it will do, and the payload bytes it sends."""

    name: str
    what: str
    send_bytes: int


class Plan(Record):
    """Everything that was decided. release: its id. folder: where it will live, absolute.

    unproven_layer: the folder of a layer that no release runs in yet, or null.
    """

    app: str
    release: str
    folder: str
    trees: tuple[Tree, ...]
    before: State
    after: State
    restart: str | None
    record_restart: bool
    write_launcher: bool
    unproven_layer: str | None
    discard: tuple[str, ...]
    sweep: bool
    need_bytes: int
    steps: tuple[Step, ...]

    @property
    def send_bytes(self) -> int:
        """Payload bytes that go over the wire."""
        return sum(t.send_bytes for t in self.trees)

    @property
    def reuse_bytes(self) -> int:
        """Bytes copied from what the device has."""
        return sum(c.size for t in self.trees for c in t.copies)


def make_plan(request: Request, facts: Facts, inventory: Inventory) -> Plan:
    """The plan for a request on a device with these facts; raises InputError, TargetError and DeployError."""
    refuse(request, facts)
    record = request.record
    installed = facts.app(request.app)
    release = record.id
    folder = release_folder(facts.root, request.app, release)
    bundle = (c.replace(path=f"{BUNDLE_FOLDER}/{c.path}") for c in request.payload.contents)
    contents = (*bundle, inline(RECORD_NAME, dump_canonical(record)))
    trees = [plan_tree("release", release, folder, contents, stored_releases(facts), facts, inventory)]
    if request.layer.contents:
        layer = request.layer
        home = layer_folder(facts.root, layer.digest)
        trees.insert(
            0, plan_tree("layer", layer.digest, home, layer.contents, stored_layers(facts, inventory), facts, inventory)
        )
    need = sum(new_bytes(t, inventory) for t in trees)
    _refuse_disk(need, request.disk_floor_bytes, facts)
    after = states.switched(installed.state, release)
    discard = _garbage(request, facts, after)
    draft = Plan(
        app=request.app,
        release=release,
        folder=folder,
        trees=tuple(trees),
        before=installed.state,
        after=after,
        restart=request.restart if request.restart is not None else installed.restart,
        record_restart=request.restart is not None and request.restart != installed.restart,
        write_launcher=bool(
            request.layer.contents and (request.layer.digest not in facts.layers or not facts.launcher)
        ),
        unproven_layer=_unproven_layer(request, facts),
        discard=discard,
        sweep=bool(discard or facts.incoming or any(not t.present for t in trees)),
        need_bytes=need,
        steps=(),
    )
    return draft.replace(steps=_steps(draft, request))


def refuse(request: Request, facts: Facts) -> None:
    """Raise when this must not be deployed here, before anything is written: what is needed and what is there."""
    _refuse_device(request, facts)
    installed = facts.app(request.app)
    record = request.record
    if installed.damage and not request.force:
        raise DeployError(f"the state of {request.app} cannot be read: {installed.damage}", hint="--force starts anew")
    if record.id in installed.state.bad and not request.force:
        raise DeployError(
            f"release {record.id[:12]} of {request.app} failed its check on this device before",
            hint="change the bundle or the settings, or use --force to try it again",
        )
    current = next((r.record for r in installed.releases if r.id == installed.state.current), None)
    if current and version_key(record.version) < version_key(current.version) and not request.allow_downgrade:
        raise DeployError(
            f"{request.app} {current.version} is on the device, this is {record.version}",
            hint="--allow-downgrade if that is meant, or `edgekit rollback`",
        )


def running(state: State) -> str:
    """How every deploy error ends."""
    return (
        f"the device runs release {state.current[:12]}" if state.current else "the device runs no release of this app"
    )


def version_key(version: str) -> tuple[int, ...]:
    """Versions in order: numbers between dots, trailing zeros do not count."""
    numbers = [int(n) for n in re.findall(r"\d+", version)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _refuse_device(request: Request, facts: Facts) -> None:
    if request.machines and facts.machine not in request.machines and facts.abi not in request.machines:
        raise TargetError(f"needs {' or '.join(request.machines)}, the device is {facts.machine}")
    if facts.bits == 32 and facts.machine in ("aarch64", "x86_64") and facts.machine in request.machines:
        raise TargetError(f"needs 64-bit programs, the device has a {facts.machine} kernel with 32-bit programs")
    if request.ram_bytes is not None and request.ram_bytes > facts.ram_total_bytes:
        raise TargetError(f"needs {mib(request.ram_bytes)} of memory, the device has {mib(facts.ram_total_bytes)}")
    if not facts.writable:
        raise DeployError(f"{facts.root} cannot be written by user {facts.user_id}")
    if request.layer.contents and request.layer.digest == NO_LAYER:
        raise InputError("a layer with contents needs a digest")


def _refuse_disk(need: int, floor: int, facts: Facts) -> None:
    if need and need + floor > facts.disk_free_bytes:
        raise DeployError(
            f"no space: needs {mib(need)} and {mib(floor)} must stay free, the device has {mib(facts.disk_free_bytes)}"
        )


def mib(size_bytes: int) -> str:
    """A size for people."""
    return f"{size_bytes / 2**20:.1f} MiB"


def _garbage(request: Request, facts: Facts, after: State) -> tuple[str, ...]:
    """Releases of this app that are neither current nor previous, and layers that no release that stays uses."""
    kept = {after.current, after.previous}
    releases = facts.app(request.app).releases
    gone = [release_folder(facts.root, request.app, r.id) for r in releases if r.id not in kept]
    staying = [r for a in facts.apps for r in a.releases if a.app != request.app or r.id in kept]
    if any(r.record is None for r in staying):
        return tuple(gone)
    used = {r.record.layer for r in staying if r.record} | {request.layer.digest}
    return (*gone, *(layer_folder(facts.root, digest) for digest in facts.layers if digest not in used))


def _unproven_layer(request: Request, facts: Facts) -> str | None:
    """The layer's folder, unless the current release of an app runs in it."""
    running = {r.record.layer for a in facts.apps for r in a.releases if r.record and r.id == a.state.current}
    if not request.layer.contents or request.layer.digest in running:
        return None
    return layer_folder(facts.root, request.layer.digest)


def _steps(plan: Plan, request: Request) -> tuple[Step, ...]:
    absent = [t for t in plan.trees if not t.present]
    names = " and ".join(f"{t.kind} {t.digest[:12]}" for t in absent)
    copies = sum(len(t.copies) for t in absent)
    sends = sum(len(t.sends) for t in absent)
    what = {
        "probe": "read the device's facts",
        "lock": "one deployer at a time",
        "plan": f"release {plan.release[:12]} of {plan.app}: {request.payload.name} {request.payload.version}",
        "reuse": f"copy {copies} files, {mib(plan.reuse_bytes)}" if copies else "nothing to copy",
        "send": f"send {sends} files, {mib(plan.send_bytes)}" if sends else "nothing to send",
        "hash": f"hash {names} on the device" if absent else "all there, hashed",
        "sync": f"make {names} durable" if absent else "nothing new",
        "rename": f"give {names} its name" if absent else "nothing new",
        "warm": "build caches",
        "check": "golden check inside the release",
        "write state": "already current" if plan.after == plan.before else f"current becomes {plan.release[:12]}",
        "restart": plan.restart or "no command",
        "confirm": "read the state back",
        "collect garbage": f"remove {len(plan.discard)} folders" if plan.discard else "nothing to remove",
        "unlock": "give the lock back",
    }
    return tuple(Step(name=n, what=what[n], send_bytes=plan.send_bytes if n == "send" else 0) for n in STEPS)
