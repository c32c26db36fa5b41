"""`deploy`, `status`, `rollback`, `remove`: releases on devices."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.devices import (
    BUNDLE_FOLDER,
    NO_LAYER,
    AppStatus,
    Checks,
    Layer,
    Progress,
    Request,
    connect,
    preview,
    read_payload,
)
from edgekit.devices import deploy as deploy_release
from edgekit.devices import remove as remove_app
from edgekit.devices import rollback as rollback_app
from edgekit.devices import status as read_status
from edgekit.errors import EdgekitError
from edgekit.operations.package import Note, choose_target, is_bundle, package
from edgekit.records import Json, Record, dump

if TYPE_CHECKING:
    from edgekit.packaging.fetch import Progress as FetchProgress

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
    dry_run: bool,
    restart: str | None,
    allow_downgrade: bool,
    force: bool,
    progress: FetchProgress,
    note: Note,
) -> Deployed:
    """Bring a source onto each device; one that fails does not stop the others."""
    with tempfile.TemporaryDirectory(prefix="edgekit-deploy-") as scratch:
        bundle = Path(source)
        if not is_bundle(bundle):
            bundle = Path(scratch) / "source.edgekit"
            kind = choose_target(target, note)
            package(source, kind, variant, files, bundle, answers=answers, progress=progress, note=note)
        payload = read_payload(bundle)
        request = Request(
            app=app or payload.name,
            payload=payload,
            layer=Layer(digest=NO_LAYER, contents=()),
            settings={"interpreter": sys.executable},
            restart=restart,
            disk_floor_bytes=DISK_FLOOR_BYTES,
            machines=(),
            ram_bytes=None,
            allow_downgrade=allow_downgrade,
            force=force,
        )
        return Deployed(devices=tuple(_deploy_to(d, request, dry_run, progress) for d in devices))


def _deploy_to(address: str, request: Request, dry_run: bool, progress: FetchProgress) -> DeviceOutcome:
    def on_progress(at: Progress) -> None:
        sending = at.step == "send"
        progress(f"{address}: {at.step}", at.sent_bytes if sending else 0, at.total_bytes if sending else 0)

    fields: dict[str, Any] = {"device": address, "app": request.app, "release": "", "switched": False}
    nothing: dict[str, Any] = {"sent_bytes": 0, "reused_bytes": 0, "steps": (), "notes": (), "error": None}
    try:
        with connect(address) as device:
            if dry_run:
                steps = tuple(f"{s.name}: {s.what}" for s in preview(device, request).steps)
                return DeviceOutcome(**{**fields, **nothing, "steps": steps, "exit_code": 0})
            outcome = deploy_release(device, request, checks(), on_progress=on_progress)
    except EdgekitError as error:
        return DeviceOutcome(**{**fields, **nothing, "error": str(error), "exit_code": error.exit_code})
    return DeviceOutcome(
        device=address,
        app=outcome.app,
        release=outcome.release,
        switched=outcome.switched,
        sent_bytes=outcome.sent_bytes,
        reused_bytes=outcome.reused_bytes,
        steps=outcome.steps,
        notes=outcome.notes,
        error=None,
        exit_code=0,
    )


def checks() -> Checks:
    """The golden check as a command of the device: this interpreter's edgekit, on the new release's files."""

    def golden(release: str) -> Sequence[str]:
        return [sys.executable, "-m", "edgekit", "check", f"{release}/{BUNDLE_FOLDER}", "--json"]

    return Checks(golden=golden, golden_timeout_s=CHECK_S, warm=None, warm_timeout_s=CHECK_S)


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
        return _changed(device, rollback_app(connected, app, checks()))


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
