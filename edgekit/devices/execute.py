"""Deploy: one loop over the named steps. Whatever fails, the device keeps what it ran, and the error says so."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.devices import scripts, transfer
from edgekit.devices import state as states
from edgekit.devices.check import Check, CommandFor, HostDriven, Verdict, run_check, run_restart
from edgekit.devices.device import Device
from edgekit.devices.facts import read_facts
from edgekit.devices.inventory import Inventory, folders_to_inspect, hash_timeout_s, inspect
from edgekit.devices.layers import launcher
from edgekit.devices.lock import Owner, this_process
from edgekit.devices.plan import STEPS, Plan, Request, make_plan, refuse
from edgekit.devices.release import incoming_folder, restart_file
from edgekit.devices.session import OnProgress, Session, read_state, write_state
from edgekit.devices.trees import Send, Tree, differences
from edgekit.errors import DeployError, EdgekitError
from edgekit.records import Record, dump_canonical

RESTART_S = 120.0


class Checks(Record):
    """What judges a release folder, and what prepares it.

    golden: a command whose exit status says whether the release works here, or what this machine asks of a device
    without Python. warm: builds caches, or null.
    """

    golden: Check
    golden_timeout_s: float
    warm: CommandFor | None
    warm_timeout_s: float


class Outcome(Record):
    """How a deployment ended. previous: what `rollback` would bring back. report: what the check printed.

    notes: what did not go as planned and does no harm.
    """

    app: str
    release: str
    previous: str | None
    switched: bool
    sent_bytes: int
    reused_bytes: int
    steps: tuple[str, ...]
    report: str
    notes: tuple[str, ...]


def preview(device: Device, request: Request) -> Plan:
    """The plan as it would be now; reads the device and changes nothing (`--dry-run`)."""
    facts = read_facts(device)
    refuse(request, facts)
    device = device.replace(root=facts.root)
    layer, release = request.layer, request.record.id
    folders = folders_to_inspect(facts, request.app, release, layer)
    return make_plan(request, facts, inspect(device, folders, timeout_s=_inspect_s(request)))


def deploy(
    device: Device,
    request: Request,
    checks: Checks,
    *,
    owner: Owner | None = None,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Bring a release onto a device, check it there and switch to it.

    Raises TargetError, DeployError (nothing was switched, or it was switched back) and TransportError; each
    message ends with what the device runs. `owner`: who holds the lock, this process where none is given.
    """
    run = Deployment(Session(device, request.app, owner or this_process(), on_progress), request, checks)
    try:
        for name in STEPS:
            run.session.enter(name)
            _ACTIONS[name](run)
    except EdgekitError as error:
        raise run.session.explained(error) from None
    finally:
        run.session.give_up()
    return run.outcome()


class Deployment:
    """One deployment under way: the session with the device, and what was decided so far."""

    def __init__(self, session: Session, request: Request, checks: Checks) -> None:
        self.session = session
        self.request = request
        self.checks = checks
        self.decided: Plan | None = None
        self.report = ""

    @property
    def plan(self) -> Plan:
        """What was decided; there is none before the step of that name."""
        if self.decided is None:
            raise DeployError("there is no plan yet")
        return self.decided

    @property
    def absent(self) -> tuple[Tree, ...]:
        """The folders that have to be brought."""
        return tuple(t for t in self.plan.trees if not t.present)

    def outcome(self) -> Outcome:
        """How it ended."""
        plan = self.plan
        return Outcome(
            app=plan.app,
            release=plan.release,
            previous=plan.after.previous,
            switched=plan.before.current != plan.release,
            sent_bytes=self.session.sent_bytes,
            reused_bytes=plan.reuse_bytes,
            steps=tuple(self.session.passed),
            report=self.report,
            notes=tuple(self.session.notes),
        )


def _probe(run: Deployment) -> None:
    facts = read_facts(run.session.device)
    run.session.learn(facts)
    refuse(run.request, facts)


def _lock(run: Deployment) -> None:
    run.session.lock()


def _plan(run: Deployment) -> None:
    """Decide again on what is true under the lock."""
    facts = read_facts(run.session.device)
    run.session.learn(facts)
    refuse(run.request, facts)
    folders = folders_to_inspect(facts, run.request.app, run.request.record.id, run.request.layer)
    inventory: Inventory = inspect(run.session.device, folders, timeout_s=_inspect_s(run.request))
    run.decided = make_plan(run.request, facts, inventory)
    run.session.planned(run.decided)


def _inspect_s(request: Request) -> float:
    contents = (*request.payload.contents, *request.layer.contents)
    return hash_timeout_s(4 * sum(c.size for c in contents), 4 * len(contents))


def _reuse(run: Deployment) -> None:
    for tree in run.absent:
        transfer.prepare(run.session, tree)
        transfer.copy_on_device(run.session, tree)


def _send(run: Deployment) -> None:
    for tree in run.absent:
        transfer.send(run.session, tree.incoming, tree.sends)


def _hash(run: Deployment) -> None:
    """What the device hashes must be what was planned; a copy that is not is sent instead, once."""
    for tree in run.absent:
        wrong = _wrong(run, tree)
        copied = {c.path for c in tree.copies}
        if wrong and copied.issuperset(wrong):
            run.session.notes.append(f"{len(wrong)} files on the device were altered and have been sent again")
            contents = {c.path: c for c in tree.contents}
            transfer.prepare(run.session, tree.replace(clear=tuple(wrong)))
            transfer.send(run.session, tree.incoming, tuple(Send(content=contents[w], offset=0) for w in wrong))
            wrong = _wrong(run, tree)
        if wrong:
            transfer.prepare(run.session, tree.replace(clear=(".",)))
            raise DeployError(f"{len(wrong)} of {len(tree.contents)} files arrived altered, the first is {wrong[0]}")


def _wrong(run: Deployment, tree: Tree) -> list[str]:
    timeout_s = hash_timeout_s(sum(c.size for c in tree.contents), len(tree.contents))
    inventory = inspect(run.session.device, (tree.incoming,), timeout_s=timeout_s)
    return differences(inventory[tree.incoming], tree.contents)


def _sync(run: Deployment) -> None:
    for tree in run.absent:
        timeout_s = transfer.transfer_timeout_s(sum(c.size for c in tree.contents))
        run.session.run(scripts.WALK + scripts.SEAL, tree.incoming, timeout_s=timeout_s)


def _rename(run: Deployment) -> None:
    for tree in run.absent:
        trash = incoming_folder(run.session.device.root, f"broken-{tree.digest}")
        run.session.run(scripts.INSTALL, tree.incoming, tree.final, trash)
    if run.plan.write_launcher:
        run.session.run(scripts.REPLACE, f"{run.session.device.root}/bin/edgekit", "755", stdin=launcher())


def _warm(run: Deployment) -> None:
    if run.checks.warm:
        _judge(run, "warming", run.checks.warm, run.checks.warm_timeout_s)


def _check(run: Deployment) -> None:
    if run.plan.unproven_layer:
        run.session.run(scripts.FORGET_BYTECODE, run.plan.unproven_layer)
    run.report = _judge(run, "the check on the device", run.checks.golden, run.checks.golden_timeout_s).output


def _judge(run: Deployment, what: str, check: Check, timeout_s: float) -> Verdict:
    """Check the new release; if the release is to blame for a failure, remember that."""
    try:
        return judge(run.session, what, check, run.plan.folder, timeout_s)
    except Blamed as error:
        _condemn(run, run.plan.before)
        raise DeployError(
            f"release {run.plan.release[:12]} of {run.plan.app} failed: {error.message}",
            hint="it is remembered and not tried again without --force",
        ) from None


class Blamed(DeployError):
    """A release was judged, and does not work on this device."""


def judge(session: Session, what: str, check: Check, folder: str, timeout_s: float) -> Verdict:
    """The verdict of a check that passed; raises Blamed when it did not and DeployError when it cannot start.

    One that died without a verdict is started once more: the release must not be blamed for one stray kill.
    """
    verdict = run_check(session.device, session.owner, check, folder, timeout_s=timeout_s)
    if not verdict.passed and verdict.started and not verdict.final:
        verdict = run_check(session.device, session.owner, check, folder, timeout_s=timeout_s)
    if verdict.passed:
        return verdict
    if not verdict.started:
        name = "it" if isinstance(check, HostDriven) else check(folder)[0]
        raise DeployError(f"{what} cannot be started: {name} {verdict}")
    raise Blamed(f"{what} {verdict}")


def _condemn(run: Deployment, before: states.State) -> None:
    """Remember a failed release; what ran before is current again. Its folder goes, unless it is in use."""
    state = states.condemned(before, run.plan.release)
    write_state(run.session, state)
    if run.plan.release not in (state.current, state.previous):
        trash = incoming_folder(run.session.device.root, f"failed-{run.plan.release}")
        run.session.run(scripts.ALONE + scripts.DISCARD, trash, run.plan.folder)
        run.session.run(scripts.SWEEP, incoming_folder(run.session.device.root, ""))


def _write_state(run: Deployment) -> None:
    if run.plan.record_restart:
        document = dump_canonical({"restart": run.plan.restart})
        file = restart_file(run.session.device.root, run.plan.app)
        run.session.run(scripts.REPLACE, file, "644", stdin=document)
    if run.plan.after != run.plan.before:
        write_state(run.session, run.plan.after)


def _restart(run: Deployment) -> None:
    """Restart the app; when that fails, what ran before is current again and is restarted."""
    if not run.plan.restart:
        return
    verdict = run_restart(run.session.device, run.session.owner, run.plan.restart, timeout_s=RESTART_S)
    if verdict.passed:
        return
    problem = f"the restart command {verdict}"
    if run.plan.before.current in (None, run.plan.release):
        raise DeployError(problem)
    write_state(run.session, states.condemned(run.plan.before, run.plan.release))
    again = run_restart(run.session.device, run.session.owner, run.plan.restart, timeout_s=RESTART_S)
    if not again.passed:
        problem += f"; with the release before it {again}"
    raise DeployError(f"release {run.plan.release[:12]} of {run.plan.app} was switched back: {problem}")


def _confirm(run: Deployment) -> None:
    state = read_state(run.session.device, run.plan.app)
    if state != run.plan.after:
        raise DeployError(f"the state of {run.plan.app} is not what was written")


def _collect(run: Deployment) -> None:
    """Remove what nothing needs; a failure here takes nothing from the release that runs."""
    if not run.plan.sweep:
        return
    incoming = incoming_folder(run.session.device.root, "")
    try:
        if run.plan.discard:
            run.session.run(scripts.ALONE + scripts.DISCARD, f"{incoming}garbage", *run.plan.discard)
        run.session.run(scripts.SWEEP, incoming)
    except EdgekitError as error:
        run.session.notes.append(f"garbage stays until the next deployment: {error.message}")


def _unlock(run: Deployment) -> None:
    run.session.unlock()


_ACTIONS: dict[str, Callable[[Deployment], None]] = {
    "probe": _probe,
    "lock": _lock,
    "plan": _plan,
    "reuse": _reuse,
    "send": _send,
    "hash": _hash,
    "sync": _sync,
    "rename": _rename,
    "warm": _warm,
    "check": _check,
    "write state": _write_state,
    "restart": _restart,
    "confirm": _confirm,
    "collect garbage": _collect,
    "unlock": _unlock,
}
