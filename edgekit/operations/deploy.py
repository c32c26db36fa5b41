"""`deploy`, `status`, `rollback`, `remove`, `doctor`: releases on devices."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.apps import app_root
from edgekit.bundle import open_bundle
from edgekit.devices import (
    BUNDLE_FOLDER,
    NO_LAYER,
    AppStatus,
    Checks,
    Device,
    Facts,
    Finding,
    Layer,
    Progress,
    Request,
    build_layer,
    connect,
    examine,
    find_needs,
    preview,
    read_facts,
    read_payload,
    recognise,
)
from edgekit.devices import deploy as deploy_release
from edgekit.devices import remove as remove_app
from edgekit.devices import rollback as rollback_app
from edgekit.devices import status as read_status
from edgekit.errors import EdgekitError, TargetError
from edgekit.manifest import Manifest
from edgekit.operations.package import Note, is_bundle, package
from edgekit.profiling.coldstart import cold_starts
from edgekit.records import Json, Record, dump
from edgekit.targets import Target, check_fit, find_target, known_targets

if TYPE_CHECKING:
    from edgekit.packaging.fetch import Progress as FetchProgress

MACHINES = {
    "x86_64": ("x86_64",),
    "aarch64": ("aarch64",),
    "armv7l": ("armv7l", "armv8l", "aarch64"),
    "arm64-v8a": ("arm64-v8a", "aarch64"),
}
"""What `uname -m` (or Android's ABI) may say on a device of each architecture."""

CHECK_S = 300.0
DISK_FLOOR_BYTES = 64 << 20
"""What must stay free on a device: a full disk breaks more than edgekit."""


class DeviceOutcome(Record):
    """How a deployment to one device ended; `error` is null when it went well."""

    device: str
    app: str
    release: str
    switched: bool
    sent_bytes: int
    reused_bytes: int
    steps: tuple[str, ...]
    notes: tuple[str, ...]
    error: str | None
    exit_code: int


class Deployed(Record):
    """The outcome on each device, in the order given."""

    devices: tuple[DeviceOutcome, ...]

    @property
    def exit_code(self) -> int:
        """0 when every device runs the release, else the first failure's code."""
        return next((d.exit_code for d in self.devices if d.exit_code), 0)

    def to_dict(self) -> Json:
        """Plain JSON."""
        return dump(self)

    def __str__(self) -> str:
        return "\n".join(_line(d) for d in self.devices)


def _line(outcome: DeviceOutcome) -> str:
    if outcome.error is not None:
        return f"{outcome.device}: FAILED: {outcome.error}"
    if not outcome.release:
        return f"{outcome.device}: nothing changed (dry run)\n" + "\n".join(f"  {s}" for s in outcome.steps)
    did = "switched to" if outcome.switched else "already runs"
    sent = f"{outcome.sent_bytes:,} bytes sent, {outcome.reused_bytes:,} reused"
    notes = "".join(f"\n  note: {note}" for note in outcome.notes)
    return f"{outcome.device}: {outcome.app} {did} release {outcome.release[:12]}, golden check passed, {sent}{notes}"


def deploy(
    source: str,
    devices: Sequence[str],
    *,
    app: str | None,
    target: str | None,
    variant: str | None,
    files: Sequence[Path],
    answers: dict[str, str],
    wheels: Sequence[Path],
    offline: Path | None,
    dry_run: bool,
    restart: str | None,
    allow_downgrade: bool,
    force: bool,
    unverified: bool,
    progress: FetchProgress,
    note: Note,
) -> Deployed:
    """Bring a source onto each device; one that fails does not stop the others.

    A source that is no bundle is packaged for each device's own target. wheels: taken into the layer as they are;
    offline: a folder of wheels instead of the index. unverified: accept a device that cannot run the golden check.
    """
    outcomes = []
    for address in devices:
        wanted = Wanted(
            app=app,
            wheels=tuple(map(str, wheels)),
            offline=str(offline) if offline else None,
            dry_run=dry_run,
            restart=restart,
            allow_downgrade=allow_downgrade,
            force=force,
            unverified=unverified,
        )
        try:
            with tempfile.TemporaryDirectory(prefix="edgekit-deploy-") as scratch, connect(address) as device:
                facts = read_facts(device)
                kind = _target_of(address, facts, target, note)
                bundle = Path(source)
                if not is_bundle(bundle):
                    bundle = Path(scratch) / "source.edgekit"
                    package(source, kind, variant, files, bundle, answers=answers, progress=progress, note=note)
                outcomes.append(_deploy_to(address, device, facts, bundle, kind, wanted, progress, note))
        except EdgekitError as error:
            outcomes.append(_failed(address, app or "", error))
    return Deployed(devices=tuple(outcomes))


class Wanted(Record):
    """What a person asked of a deployment."""

    app: str | None
    wheels: tuple[str, ...]
    offline: str | None
    dry_run: bool
    restart: str | None
    allow_downgrade: bool
    force: bool
    unverified: bool


def _target_of(address: str, facts: Facts, name: str | None, note: Note) -> Target:
    """The target that was named, or the one that the device's facts show."""
    if name is not None:
        return find_target(name)
    found = recognise(facts, known_targets().values())
    if found is None:
        raise TargetError(
            f"{address}: no target for {facts.machine}, {facts.board or 'unknown board'}", hint="name one: --target"
        )
    note(f"{address}: target {found.name} ({facts.board or facts.machine})")
    return found


def _deploy_to(
    address: str,
    device: Device,
    facts: Facts,
    bundle: Path,
    target: Target,
    wanted: Wanted,
    progress: FetchProgress,
    note: Note,
) -> DeviceOutcome:
    payload, manifest = read_payload(bundle), _manifest(bundle)
    check_fit(manifest, target)
    for line in advise(manifest, facts):
        note(f"{address}: {line}")
    local = address.startswith("local:")
    runs_python = local or bool(facts.python)
    if not runs_python and not wanted.unverified:
        raise TargetError(
            f"{address} has no Python, so the golden check cannot run there",
            hint="--unverified deploys without it, and status says so",
        )
    layer = Layer(digest=NO_LAYER, contents=())
    settings: dict[str, Any] = {"interpreter": sys.executable} if local else {}
    if not local and runs_python:
        progress(f"{address}: layer", 0, 0)
        wheels, house = tuple(map(Path, wanted.wheels)), Path(wanted.offline) if wanted.offline else None
        layer = build_layer(find_needs(facts, manifest.requires, wheels=wheels, wheelhouse=house))
    if not runs_python:
        settings = {"verified": False}
    request = Request(
        app=wanted.app or payload.name,
        payload=payload,
        layer=layer,
        settings=settings,
        restart=wanted.restart,
        disk_floor_bytes=DISK_FLOOR_BYTES,
        machines=MACHINES[target.arch],
        ram_bytes=peak_bytes(bundle, manifest),
        allow_downgrade=wanted.allow_downgrade,
        force=wanted.force,
    )

    def on_progress(at: Progress) -> None:
        sending = at.step == "send"
        progress(f"{address}: {at.step}", at.sent_bytes if sending else 0, at.total_bytes if sending else 0)

    if wanted.dry_run:
        steps = tuple(f"{s.name}: {s.what}" for s in preview(device, request).steps)
        return _outcome(address, request.app, steps=steps)
    done = deploy_release(device, request, _checks(local, runs_python, facts.root), on_progress=on_progress)
    notes = done.notes if runs_python else (*done.notes, "not verified: this device cannot run the golden check")
    return _outcome(
        address,
        done.app,
        release=done.release,
        switched=done.switched,
        sent_bytes=done.sent_bytes,
        reused_bytes=done.reused_bytes,
        steps=done.steps,
        notes=notes,
    )


def _outcome(address: str, app: str, **found: Any) -> DeviceOutcome:
    nothing: dict[str, Any] = {
        "release": "",
        "switched": False,
        "sent_bytes": 0,
        "reused_bytes": 0,
        "steps": (),
        "notes": (),
        "error": None,
        "exit_code": 0,
    }
    return DeviceOutcome(device=address, app=app, **{**nothing, **found})


def _failed(address: str, app: str, error: EdgekitError) -> DeviceOutcome:
    return _outcome(address, app, error=str(error), exit_code=error.exit_code)


def _manifest(bundle: Path) -> Manifest:
    with open_bundle(bundle) as opened:
        return opened.manifest


def peak_bytes(bundle: Path, manifest: Manifest) -> int | None:
    """Peak memory of a process that loads the bundle and predicts a golden sample once, measured here; or null."""
    if not manifest.golden:
        return None
    try:
        document = {"bundle": str(bundle), "threads": 1, "item": manifest.golden[0].inputs[0]}
        return cold_starts(document, processes=1, timeout_s=CHECK_S).peak_bytes[0]
    except EdgekitError:
        return None


def advise(manifest: Manifest, facts: Facts) -> list[str]:
    """Whether the device's processor gains by the graphs' precisions: advice, never a refusal."""
    found, features = [], set(facts.cpu_features)
    precisions = {g.precision for g in manifest.graphs}
    if facts.machine in ("aarch64", "armv8l") and features:
        if "int8" in precisions and "asimddp" not in features:
            found.append("this processor has no dot product (asimddp): int8 gains less here, profile both")
        if "float16" in precisions and "asimdhp" not in features:
            found.append("this processor has no fp16 arithmetic (asimdhp): float16 saves memory only, not time")
    return found


def checks(address: str) -> Checks:
    """The golden check for a device by its address (rollback runs it as well)."""
    if address.startswith("local:"):
        return _checks(True, True, "")
    with connect(address) as device:
        facts = read_facts(device)
    return _checks(False, bool(facts.python), facts.root)


def _checks(local: bool, runs_python: bool, root: str) -> Checks:
    """The check as a command of the device: this interpreter here, the launcher there, nothing where neither is."""

    def golden(release: str) -> Sequence[str]:
        if not runs_python:
            return ["true"]
        command = [sys.executable, "-m", "edgekit"] if local else [f"{root}/bin/edgekit"]
        return [*command, "check", f"{release}/{BUNDLE_FOLDER}", "--json"]

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
    with connect(name) as device:
        facts = read_facts(device)
    target = recognise(facts, known_targets().values())
    found = examine(facts, target, now_s=int(time.time()))
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
    if app.problem:
        lines.append(f"  problem: {app.problem}")
    return "\n".join(lines)


def status(device: str, app: str | None) -> Status:
    """What a device runs, or one app of it."""
    with connect(device) as connected:
        apps = read_status(connected)
    return Status(device=device, apps=tuple(a for a in apps if app in (None, a.app)))


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
        return f"{self.device}: {self.app} {now}"


def rollback(device: str, app: str) -> Changed:
    """Switch an app back to the release before."""
    with connect(device) as connected:
        return _changed(device, rollback_app(connected, app, checks(device)))


def remove(device: str, app: str) -> Changed:
    """Take an app and its releases off a device."""
    with connect(device) as connected:
        return _changed(device, remove_app(connected, app))


def _changed(device: str, switched: Any) -> Changed:
    return Changed(
        device=device,
        app=switched.app,
        release=switched.release,
        previous=switched.previous,
        version=switched.version,
        notes=switched.notes,
    )
