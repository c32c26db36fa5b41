"""D1, D3: at every instant the device has one complete release, whatever fails; and the next deployment converges.

Each case is a device with two releases, one deployment of a third, and one fault: at every call of the transport
(before it, half-way, after it but before its answer), and at every program that the device's commands start.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deploying import (
    APP,
    CALL_FAULTS,
    COMMAND_FAULTS,
    Fault,
    FaultTransport,
    HostKilled,
    checks,
    copy_device,
    dead_owner,
    install,
    local_device,
    make_bundle,
    make_request,
    make_shims,
    memory_folder,
    what_runs,
)

from edgekit.devices import Payload, deploy, rollback
from edgekit.errors import EdgekitError

NEVER = Fault("none", 10**9)
PAIRS = 500


class Bench:
    """A device to copy, a bundle to bring, and programs that fail on demand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.old, self.current, self.target = (make_bundle(folder, v) for v in ("1.0", "1.1", "1.2"))
        self.shims = make_shims(folder / "shims")
        self.device = folder / "device"
        install(self.device, self.old)
        install(self.device, self.current)
        self.numbers = itertools.count(1)

    def transport(self, fault: Fault, number: int, *, by_command: bool) -> FaultTransport:
        return FaultTransport(fault, self.shims, self.folder / f"scratch-{number}", by_command=by_command, seed=number)

    def strike(self, root: Path, fault: Fault, action: Callable[..., object]) -> bool:
        """Do something to a device with a fault; whether the fault came to pass."""
        number = next(self.numbers)
        by_command = fault.when == "command"
        transport = self.transport(fault, number, by_command=by_command)
        try:
            action(local_device(root, transport), dead_owner(number))
        except (EdgekitError, HostKilled):
            transport.struck = True
        return transport.struck or (by_command and transport.commands >= fault.at)

    def bring(self, payload: Payload) -> Callable[..., object]:
        return lambda device, owner: deploy(device, make_request(payload), checks(), owner=owner)

    def half_sent(self) -> Path:
        """A device that an earlier deployment of the target left in the middle of its transfer."""
        for at in itertools.count(1):
            root = copy_device(self.device, self.folder / f"half-{at}")
            assert self.strike(root, Fault("link cut", at, "half"), self.bring(self.target))
            sent = [p for p in (root / "incoming").rglob("*") if p.is_file()]
            if len(sent) > 2:
                return root
            shutil.rmtree(root)
        raise AssertionError

    def count(self, action: Callable[..., object], *, by_command: bool) -> int:
        """How many calls, or programs on the device, an undisturbed action takes."""
        root = copy_device(self.device, self.folder / f"count-{next(self.numbers)}")
        transport = self.transport(NEVER, next(self.numbers), by_command=by_command)
        action(local_device(root, transport), dead_owner(next(self.numbers)))
        shutil.rmtree(root)
        return transport.commands if by_command else transport.calls


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = memory_folder(tmp_path_factory.mktemp("faults"))
    yield Bench(folder)
    shutil.rmtree(folder)


@contextlib.contextmanager
def starting_from(bench: Bench, device: Path) -> Iterator[None]:
    """Cases begin with a copy of this device."""
    usual, bench.device = bench.device, device
    try:
        yield
    finally:
        bench.device = usual


def all_faults(bench: Bench, action: Callable[..., object]) -> list[Fault]:
    calls = bench.count(action, by_command=False)
    commands = bench.count(action, by_command=True)
    by_call = [Fault(kind, at, when) for at in range(1, calls + 1) for kind, when in CALL_FAULTS]
    by_command = [Fault(kind, at, "command") for at in range(1, commands + 1) for kind in COMMAND_FAULTS]
    return by_call + by_command


def run_cases(bench: Bench, cases: list[tuple[Fault, ...]], action: Callable[..., object], allowed: set[str]) -> None:
    """Strike each case's faults in turn, look at the device after each, then deploy and look again."""

    def run(case: tuple[Fault, ...]) -> tuple[str, int] | str:
        root = copy_device(bench.device, bench.folder / f"case-{next(bench.numbers)}")
        struck = 0
        try:
            for number, fault in enumerate(case):
                struck += bench.strike(root, fault, bench.bring(bench.target) if number else action)
                runs = what_runs(root)
                if runs not in allowed:
                    return f"{case}: runs {runs}"
            deploy(local_device(root), make_request(bench.target), checks(), owner=dead_owner(next(bench.numbers)))
            if what_runs(root) != bench.target.digest:
                return f"{case}: does not converge"
        except (AssertionError, EdgekitError, OSError, ValueError) as error:
            return f"{case}: {type(error).__name__} {error}"
        finally:
            shutil.rmtree(root)
        return case[0].kind, struck

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, cases))
    broken = [r for r in results if isinstance(r, str)]
    assert not broken, f"{len(broken)} of {len(cases)} leave a broken device or do not converge: " + "\n".join(
        broken[:9]
    )
    tally = collections.Counter(r[0] for r in results if not isinstance(r, str) and r[1])
    print(f"\n0 of {len(cases)} leave the device without a working release; faults that struck: {dict(tally)}")
    assert tally.total() >= len(cases) * 0.9


def test_no_fault_leaves_a_device_without_a_working_release(bench: Bench) -> None:
    """0 of N, N >= 500, and the next deployment converges in all: every fault of a deployment, and every third of one
    that goes on from a transfer which was cut."""
    action = bench.bring(bench.target)
    allowed = {bench.current.digest, bench.target.digest}
    cases = [(fault,) for fault in all_faults(bench, action)]
    run_cases(bench, cases, action, allowed)
    with starting_from(bench, bench.half_sent()):
        more = [(fault,) for fault in all_faults(bench, action)[::3]]
        run_cases(bench, more, action, allowed)
    assert len(cases) + len(more) >= 500


def test_no_pair_of_faults_does(bench: Bench) -> None:
    """A second interruption while recovering from the first: 500 sampled pairs."""
    action = bench.bring(bench.target)
    faults = all_faults(bench, action)
    pick = random.Random(4)
    cases = [(pick.choice(faults), pick.choice(faults)) for _ in range(PAIRS)]
    run_cases(bench, cases, action, {bench.current.digest, bench.target.digest})


def test_no_fault_in_a_rollback_does(bench: Bench) -> None:
    def action(device, owner):  # type: ignore[no-untyped-def]
        return rollback(device, APP, checks(), owner=owner)

    cases = [(fault,) for fault in all_faults(bench, action)]
    run_cases(bench, cases, action, {bench.old.digest, bench.current.digest})


def test_no_fault_in_a_first_deployment_leaves_half_a_release(bench: Bench) -> None:
    """On an empty device there is nothing, or the whole release; never a part that is current."""
    empty = bench.folder / "empty"
    empty.mkdir()
    with starting_from(bench, empty):
        action = bench.bring(bench.target)
        cases = [(fault,) for fault in all_faults(bench, action)[::3]]
        run_cases(bench, cases, action, {None, bench.target.digest})  # type: ignore[arg-type]
