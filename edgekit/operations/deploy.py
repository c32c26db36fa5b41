"""`deploy`: from whatever a person names to a checked release on each of several devices."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import __version__
from edgekit.devices import (
    NO_LAYER,
    Device,
    Facts,
    Layer,
    Payload,
    Progress,
    Request,
    build_layer,
    find_needs,
    preview,
    read_facts,
    read_payload,
    recognise,
)
from edgekit.devices import deploy as deploy_release
from edgekit.errors import EdgekitError, InputError, ManifestError, TargetError
from edgekit.manifest import Manifest, parse_manifest
from edgekit.operations.devices import CHECK_S, golden_checks, is_local, opened
from edgekit.operations.package import Note, is_bundle, package
from edgekit.operations.runner import demand_runner, refuse_other_graphs
from edgekit.operations.service import install_service, restart_command
from edgekit.profiling.coldstart import cold_starts
from edgekit.records import Json, Record, dump, dump_canonical, load_json
from edgekit.stamps import cache_folder
from edgekit.storage import make_folders, write_file
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

DISK_FLOOR_BYTES = 64 << 20
"""What must stay free on a device: a full disk breaks more than edgekit."""

UNVERIFIED = "not verified: the golden check did not run on this device"

AT_ONCE = 8
"""Devices that are deployed to at the same time; each has its own connection."""


_UNUSED_HERE = "a folder of this machine has this interpreter's packages: --wheel and --offline do nothing for it"


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
    check = "NOT checked" if UNVERIFIED in outcome.notes else "golden check passed"
    return f"{outcome.device}: {outcome.app} {did} release {outcome.release[:12]}, {check}, {sent}{notes}"


class Wanted(Record):
    """What a person asked of a deployment.

    wheels: taken into the layer as they are; offline: a folder of wheels instead of the index. service: a command
    line that the device's systemd keeps running. unverified: accept a device that cannot run the golden check.
    requires: packages that the layer must hold beyond the bundle's own. runner: path of a `benchmark_model` that
    runs the graphs of the golden check on a device without Python, null for one that is found.
    """

    app: str | None
    wheels: tuple[str, ...]
    offline: str | None
    dry_run: bool
    restart: str | None
    service: str | None
    allow_downgrade: bool
    force: bool
    unverified: bool
    requires: dict[str, str]
    runner: str | None


def wanted(**changes: Any) -> Wanted:
    """The usual wishes with some changed."""
    usual: dict[str, Any] = {
        **dict.fromkeys(("app", "offline", "restart", "service", "runner")),
        **dict.fromkeys(("dry_run", "allow_downgrade", "force", "unverified"), False),
        "wheels": (),
        "requires": {},
    }
    return Wanted(**{**usual, **changes})


class Source:
    """What is deployed: a bundle, or what is packaged once for each kind of device that asks for it.

    Close it to remove what was packaged. Safe to use from several threads: the host's work is done one at a time.
    """

    def __init__(
        self,
        source: str,
        *,
        variant: str | None = None,
        files: Sequence[Path] = (),
        answers: Mapping[str, str] | None = None,
        progress: FetchProgress,
        note: Note,
    ) -> None:
        self.host_work = threading.RLock()
        self.note = note
        self.report = progress
        self._source, self._variant, self._files, self._answers = source, variant, list(files), dict(answers or {})
        self._packaged: dict[str, Path] = {}
        self._scratch = tempfile.TemporaryDirectory(prefix="edgekit-deploy-")

    def bundle(self, kind: Target) -> Path:
        """The bundle for this kind of device; raises what packaging raises."""
        if is_bundle(Path(self._source)):
            return Path(self._source)
        with self.host_work:
            if kind.name not in self._packaged:
                path = Path(self._scratch.name) / f"{kind.name}.edgekit"
                package(
                    *(self._source, kind, self._variant, self._files, path),
                    answers=self._answers,
                    progress=self.report,
                    note=self.note,
                )
                self._packaged[kind.name] = path
            return self._packaged[kind.name]

    def close(self) -> None:
        """Remove what was packaged."""
        self._scratch.cleanup()


def deploy(
    source: str,
    devices: Sequence[str],
    *,
    target: str | None,
    variant: str | None,
    files: Sequence[Path],
    answers: dict[str, str],
    wheels: Sequence[Path],
    offline: Path | None,
    progress: FetchProgress,
    note: Note,
    **wishes: Any,
) -> Deployed:
    """Bring a source onto each device, several at once; one that fails does not stop the others.

    A source that is no bundle is packaged for each device's own target. wishes: see `Wanted`.
    """
    asked = wanted(wheels=tuple(map(str, wheels)), offline=str(offline) if offline else None, **wishes)
    if asked.service is not None and asked.restart is not None:
        raise InputError("--service and --restart are two ways to restart the app", hint="give one of them")
    if len(set(devices)) != len(devices):
        raise InputError("a device is named twice")
    shown = progress if len(devices) == 1 else _steps_only(progress)
    work = Source(source, variant=variant, files=files, answers=answers, progress=shown, note=note)

    def one(name: str) -> DeviceOutcome:
        try:
            with opened(name) as device:
                facts = read_facts(device)
                return bring(name, device, facts, work, find_kind(name, facts, target, note), asked)
        except EdgekitError as error:
            return _outcome(name, asked.app or "", error=str(error), exit_code=error.exit_code)

    with contextlib.closing(work):
        if len(devices) == 1:
            return Deployed(devices=(one(devices[0]),))
        with ThreadPoolExecutor(min(AT_ONCE, len(devices))) as pool:
            return Deployed(devices=tuple(pool.map(one, devices)))


def _steps_only(progress: FetchProgress) -> FetchProgress:
    """Progress of several devices at once: one line per step, in whole lines."""
    seen: set[str] = set()
    lock = threading.Lock()

    def show(what: str, done: int, total: int) -> None:
        with lock:
            if what not in seen:
                seen.add(what)
                progress(what, 0, 0)

    return show


def find_kind(name: str, facts: Facts, target: str | None, note: Note) -> Target:
    """The target that was named, or the one that the device's facts show."""
    if target is not None:
        return find_target(target)
    found = recognise(facts, known_targets().values())
    if found is None:
        raise TargetError(
            f"{name}: no target for {facts.machine}, {facts.board or 'unknown board'}", hint="name one: --target"
        )
    note(f"{name}: target {found.name} ({facts.board or facts.machine})")
    return found


def bring(name: str, device: Device, facts: Facts, source: Source, kind: Target, asked: Wanted) -> DeviceOutcome:
    """Bring a source onto one connected device. Raises what packaging and `devices.deploy` raise."""
    local = is_local(name)
    runs_python = local or bool(facts.python)
    runner = None if runs_python else demand_runner(name, facts, asked.runner, unverified=asked.unverified)
    with source.host_work:
        request, said = _prepare(name, facts, source, kind, asked, local, runs_python, runner is not None)
    for line in said:
        source.note(f"{name}: {line}")
    if asked.dry_run:
        return _outcome(name, request.app, steps=tuple(f"{s.name}: {s.what}" for s in preview(device, request).steps))

    def on_progress(at: Progress) -> None:
        sending = at.step == "send"
        source.report(f"{name}: {at.step}", at.sent_bytes if sending else 0, at.total_bytes if sending else 0)

    notes = install_service(device, facts, request.app, asked.service) if asked.service is not None else ()
    checks = golden_checks(local, facts)
    if runner is not None:
        from edgekit.operations.phone_graph import CHECK_S as PHONE_CHECK_S
        from edgekit.operations.phone_graph import phone_check

        checks = checks.replace(golden=phone_check(str(source.bundle(kind)), runner), golden_timeout_s=PHONE_CHECK_S)
        notes = (*notes, f"golden check: graphs by {runner.name} on the device, pre- and postprocessing here")
    done = deploy_release(device, request, checks, on_progress=on_progress)
    if not runs_python and runner is None:
        notes = (*notes, UNVERIFIED)
    return _outcome(
        name,
        done.app,
        release=done.release,
        switched=done.switched,
        sent_bytes=done.sent_bytes,
        reused_bytes=done.reused_bytes,
        steps=done.steps,
        notes=(*done.notes, *notes),
    )


def _prepare(
    name: str,
    facts: Facts,
    source: Source,
    kind: Target,
    asked: Wanted,
    local: bool,
    runs_python: bool,
    verified: bool,
) -> tuple[Request, list[str]]:
    """The host's part: the bundle for this kind of device, its fit, its memory, its layer; and advice."""
    bundle = source.bundle(kind)
    payload = read_payload(bundle)
    manifest = manifest_of(payload)
    check_fit(manifest, kind)
    if verified and not runs_python:
        refuse_other_graphs(name, manifest)
    layer = Layer(digest=NO_LAYER, contents=())
    settings: dict[str, Any] = {"interpreter": sys.executable} if local else {}
    if not local and runs_python:
        source.report(f"{name}: layer", 0, 0)
        wheels, house = tuple(map(Path, asked.wheels)), Path(asked.offline) if asked.offline else None
        requires = {**manifest.requires, **asked.requires}
        layer = build_layer(find_needs(facts, requires, wheels=wheels, wheelhouse=house))
    if not runs_python:
        settings = {"verified": verified}
    app = asked.app or payload.name
    request = Request(
        app=app,
        payload=payload,
        layer=layer,
        settings=settings,
        restart=restart_command(app) if asked.service is not None else asked.restart,
        disk_floor_bytes=DISK_FLOOR_BYTES,
        machines=MACHINES[kind.arch],
        ram_bytes=None,
        allow_downgrade=asked.allow_downgrade,
        force=asked.force,
    )
    if asked.force or request.record.id not in facts.app(app).state.bad:
        # What failed there before is refused at once: a graph that hangs would hang here until the deadline.
        request = request.replace(ram_bytes=peak_bytes(bundle, payload.digest, manifest))
    return request, [*advise(manifest, facts), *([_UNUSED_HERE] if local and (asked.wheels or asked.offline) else [])]


def manifest_of(payload: Payload) -> Manifest:
    """The manifest that a payload carries as its first file."""
    return parse_manifest(payload.contents[0].data or b"")


def _outcome(name: str, app: str, **found: Any) -> DeviceOutcome:
    nothing: dict[str, Any] = {
        **{"release": "", "switched": False, "sent_bytes": 0, "reused_bytes": 0},
        **{"steps": (), "notes": (), "error": None, "exit_code": 0},
    }
    return DeviceOutcome(device=name, app=app, **{**nothing, **found})


def peak_bytes(bundle: Path, digest: str, manifest: Manifest) -> int | None:
    """Peak memory of a process that loads the bundle and predicts a golden sample once, or null.

    Measured here, once for a bundle and an edgekit; the figure is kept in the cache.
    """
    if not manifest.golden:
        return None
    kept = cache_folder() / "peaks" / f"{digest}-{__version__}.json"
    with contextlib.suppress(OSError, ManifestError, KeyError, TypeError):
        return int(load_json(kept.read_bytes())["peak_bytes"])
    try:
        document = {"bundle": str(bundle), "threads": 1, "item": manifest.golden[0].inputs[0]}
        peak = cold_starts(document, processes=1, timeout_s=CHECK_S).peak_bytes[0]
    except EdgekitError:
        return None
    if peak is not None:
        with contextlib.suppress(OSError):
            make_folders(kept.parent)
            write_file(kept, dump_canonical({"peak_bytes": peak}))
    return peak


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
