"""What is on a device, going back to the release before, and taking an app away."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.devices import scripts
from edgekit.devices import state as states
from edgekit.devices.check import run_restart
from edgekit.devices.device import Device
from edgekit.devices.execute import RESTART_S, Checks, judge
from edgekit.devices.facts import Facts, InstalledApp, read_facts
from edgekit.devices.inventory import hash_timeout_s, inspect
from edgekit.devices.lock import Owner, this_process
from edgekit.devices.release import (
    BUNDLE_FOLDER,
    RECORD_NAME,
    ReleaseRecord,
    app_folder,
    incoming_folder,
    layer_folder,
    release_folder,
)
from edgekit.devices.session import Session, read_state, write_state
from edgekit.errors import DeployError, EdgekitError
from edgekit.records import Record


class AppStatus(Record):
    """One app on a device. current, previous, bad: release ids. version, bundle, layer: of the current release.

    problem: what is wrong with it, or null. verified: false where the golden check did not run on the device.
    releases: every release folder there is.
    """

    app: str
    current: str | None
    previous: str | None
    bad: tuple[str, ...]
    name: str | None
    version: str | None
    bundle: str | None
    layer: str | None
    restart: str | None
    releases: tuple[str, ...]
    problem: str | None
    verified: bool


class Switched(Record):
    """How a rollback or a removal ended. release: what the app runs now, null when it is gone."""

    app: str
    release: str | None
    previous: str | None
    version: str | None
    notes: tuple[str, ...]


def status(device: Device) -> tuple[AppStatus, ...]:
    """What every app on the device runs; raises TransportError."""
    return tuple(_status(app) for app in read_facts(device).apps)


def _status(app: InstalledApp) -> AppStatus:
    record = _record(app, app.state.current)
    problem = app.damage
    if problem is None and app.state.current is not None and record is None:
        problem = f"release {app.state.current[:12]} is current and is not there"
    return AppStatus(
        app=app.app,
        current=app.state.current,
        previous=app.state.previous,
        bad=app.state.bad,
        name=record.name if record else None,
        version=record.version if record else None,
        bundle=record.bundle if record else None,
        layer=record.layer if record else None,
        restart=app.restart,
        releases=tuple(r.id for r in app.releases),
        problem=problem,
        verified=record is None or record.settings.get("verified") is not False,
    )


def _record(app: InstalledApp, release: str | None) -> ReleaseRecord | None:
    return next((r.record for r in app.releases if r.id == release), None)


def rollback(device: Device, app: str, checks: Checks, *, owner: Owner | None = None) -> Switched:
    """Make the previous release of an app current again, hashed and checked before the switch.

    What was current becomes previous, so a second rollback goes forward again. Raises DeployError when there is
    none or it does not work any more; then nothing is switched.
    """
    return _change(device, app, owner, lambda session, facts: _rollback(session, facts, checks))


def _rollback(session: Session, facts: Facts, checks: Checks) -> Switched:
    installed = facts.app(session.app)
    state = installed.state
    if installed.damage:
        raise DeployError(f"the state of {session.app} cannot be read: {installed.damage}")
    if state.previous is None:
        raise DeployError(f"{session.app} has no release to go back to")
    record = _record(installed, state.previous)
    if record is None:
        raise DeployError(f"release {state.previous[:12]} of {session.app} is not there any more")
    folder = release_folder(facts.root, session.app, state.previous)
    session.enter("hash")
    _require_intact(session, folder, record)
    session.enter("check")
    judge(session, "the check on the device", checks.golden, folder, checks.golden_timeout_s)
    session.enter("write state")
    write_state(session, states.rolled_back(state))
    session.enter("restart")
    notes: tuple[str, ...] = ()
    if installed.restart:
        verdict = run_restart(session.device, session.owner, installed.restart, timeout_s=RESTART_S)
        notes = () if verdict.passed else (f"the restart command {verdict}",)
    session.enter("confirm")
    if read_state(session.device, session.app) != states.rolled_back(state):
        raise DeployError(f"the state of {session.app} is not what was written")
    return Switched(
        app=session.app, release=state.previous, previous=state.current, version=record.version, notes=notes
    )


def _require_intact(session: Session, folder: str, record: ReleaseRecord) -> None:
    timeout_s = hash_timeout_s(sum(f.size for f in record.files.values()), len(record.files))
    listing = inspect(session.device, (folder,), timeout_s=timeout_s)[folder]
    found = {path: (file.size, file.sha256) for path, file in listing.files.items()} if listing else {}
    found.pop(RECORD_NAME, None)
    wanted = {f"{BUNDLE_FOLDER}/{path}": (fact.size, fact.sha256) for path, fact in record.files.items()}
    if found != wanted or (listing and listing.odd):
        raise DeployError(f"release {record.id[:12]} of {record.app} was altered on the device")


def remove(device: Device, app: str, *, owner: Owner | None = None) -> Switched:
    """Take an app and its releases off a device, and the layers that nothing else needs.

    Raises DeployError when there is no such app or a program has one of its releases open.
    """
    return _change(device, app, owner, _remove)


def _remove(session: Session, facts: Facts) -> Switched:
    if session.app not in {a.app for a in facts.apps}:
        raise DeployError(f"there is no app {session.app} on {session.device.name}")
    installed = facts.app(session.app)
    incoming = incoming_folder(facts.root, "")
    releases = [release_folder(facts.root, session.app, r.id) for r in installed.releases]
    session.enter("write state")
    kept = [r for a in facts.apps if a.app != session.app for r in a.releases]
    used = {r.record.layer for r in kept if r.record}
    unused = [d for d in facts.layers if d not in used] if all(r.record for r in kept) else []
    in_use = session.run(scripts.ALONE + scripts.IN_USE, *releases)
    if in_use:
        raise DeployError(f"{session.app} is in use: a program has one of its releases open", hint="stop it first")
    layers = [layer_folder(facts.root, d) for d in unused]
    session.run(scripts.ALONE + scripts.DISCARD, f"{incoming}removed", app_folder(facts.root, session.app), *layers)
    session.enter("collect garbage")
    session.run(scripts.SWEEP, incoming)
    return Switched(app=session.app, release=None, previous=None, version=None, notes=tuple(session.notes))


def _change(device: Device, app: str, owner: Owner | None, action: Callable[[Session, Facts], Switched]) -> Switched:
    """One change under the lock; an error ends with what the device runs."""
    session = Session(device, app, owner or this_process(), None)
    try:
        session.enter("probe")
        session.learn(read_facts(device))
        session.enter("lock")
        session.lock()
        facts = read_facts(session.device)
        session.learn(facts)
        session.enter("plan")
        ended = action(session, facts)
        session.enter("unlock")
        session.unlock()
        return ended.replace(notes=(*ended.notes, *(n for n in session.notes if n not in ended.notes)))
    except EdgekitError as error:
        raise session.explained(error) from None
    finally:
        session.give_up()
