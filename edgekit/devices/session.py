"""A session of changes on one device: the lock, the progress, and what an error says at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from edgekit.devices import scripts
from edgekit.devices.device import Device, run_script
from edgekit.devices.facts import Facts
from edgekit.devices.lock import Owner, acquire, fenced, release
from edgekit.devices.plan import Plan, running
from edgekit.devices.release import check_app, incoming_folder, state_file
from edgekit.devices.state import NOTHING, State, dump_state, parse_state
from edgekit.devices.transports import CommandFailed
from edgekit.errors import DeployError, EdgekitError, ManifestError, TransportError
from edgekit.records import Record

SHORT_S = 60.0
LAST_WORD_S = 10.0
"""How long a device that just failed may take to say what it runs, and to take its lock back."""


class Progress(Record):
    """Where a deployment is: the step, what it does, and payload bytes sent so far of all."""

    step: str
    what: str
    sent_bytes: int
    total_bytes: int


OnProgress = Callable[[Progress], None]


class Session:
    """What one deployer does to one app on one device; holds the lock between `lock` and `unlock`."""

    def __init__(self, device: Device, app: str, owner: Owner, on_progress: OnProgress | None) -> None:
        self.device = device
        self.app = check_app(app)
        self.owner = owner
        self.on_progress = on_progress
        self.plan: Plan | None = None
        self.seen: State | None = None
        self.maybe_locked = False
        self.sent_bytes = 0
        self.passed: list[str] = []
        self.notes: list[str] = []

    def enter(self, name: str) -> None:
        """Note that a step begins."""
        self.passed.append(name)
        self.report()

    def learn(self, facts: Facts) -> None:
        """From now on paths are absolute, and the app's state is known."""
        self.device = self.device.replace(root=facts.root)
        self.seen = facts.app(self.app).state

    def planned(self, plan: Plan) -> None:
        """From now on progress knows its total."""
        self.plan = plan
        self.report()

    def count(self, size_bytes: int) -> None:
        """Note that payload bytes left."""
        self.sent_bytes += size_bytes
        self.report()

    def report(self) -> None:
        """Tell whoever watches."""
        if self.on_progress:
            steps = self.plan.steps if self.plan else ()
            what = next((s.what for s in steps if s.name == self.passed[-1]), "")
            total = self.plan.send_bytes if self.plan else 0
            self.on_progress(Progress(step=self.passed[-1], what=what, sent_bytes=self.sent_bytes, total_bytes=total))

    def lock(self) -> None:
        """Take the device's lock; raises DeployError when another deployer is at work."""
        self.maybe_locked = True
        acquire(self.device, self.owner)

    def unlock(self) -> None:
        """Give the lock back."""
        self.maybe_locked = False
        try:
            if not release(self.device, self.owner):
                self.notes.append("another deployment took the lock before the end")
        except EdgekitError as error:
            self.notes.append(f"the lock could not be given back and ends by itself: {error.message}")

    def give_up(self) -> None:
        """Give the lock back if it may be ours, as far as the device still answers."""
        if self.maybe_locked:
            self.maybe_locked = False
            with contextlib.suppress(EdgekitError):
                release(self.device, self.owner, timeout_s=LAST_WORD_S)

    def run(self, body: str, *arguments: str, stdin: bytes | None = None, timeout_s: float = SHORT_S) -> list[str]:
        """Run a script that changes the device, under the lock."""
        return fenced(self.device, self.owner, body, *arguments, stdin=stdin, timeout_s=timeout_s)

    def explained(self, error: EdgekitError) -> EdgekitError:
        """The error to raise: it names the step and ends with what the device runs."""
        if self.seen is None:
            return error
        if isinstance(error, CommandFailed) and "No space left" in error.stderr:
            error = DeployError(f"the device is full: {error.message}", hint="free some space and deploy again")
            with contextlib.suppress(EdgekitError):
                self.run(scripts.SWEEP, incoming_folder(self.device.root, ""))
        elif isinstance(error, CommandFailed):
            error = TransportError(error.message, hint=error.hint)
        ends = running(self.seen) + " (when last seen)"
        with contextlib.suppress(EdgekitError):
            ends = running(read_state(self.device, self.app, timeout_s=LAST_WORD_S))
        error.message = f"{self.passed[-1]}: {error.message}; {ends}"
        error.args = (error.message,)
        return error


def read_state(device: Device, app: str, *, timeout_s: float = SHORT_S) -> State:
    """The state of an app as the device has it now; raises TransportError and DeployError."""
    lines = run_script(device, scripts.READ, state_file(device.root, app), timeout_s=timeout_s)
    if not lines:
        return NOTHING
    try:
        return parse_state(lines[0].encode())
    except ManifestError as error:
        raise DeployError(f"the state of {app} on {device.name} cannot be read: {error.message}") from None


def write_state(session: Session, state: State) -> None:
    """Replace the state of the session's app by one rename, durable before and after."""
    session.run(scripts.REPLACE, state_file(session.device.root, session.app), "644", stdin=dump_state(state))
