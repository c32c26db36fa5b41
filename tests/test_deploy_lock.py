"""D8: two deployers cannot interleave; a dead one's lock is taken over, a living one's is not. D11: nothing hangs."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deploying import (
    APP,
    dead_owner,
    install,
    local_device,
    make_bundle,
    make_request,
    memory_folder,
    what_runs,
)

from edgekit.devices import Checks, deploy, scripts
from edgekit.devices.device import run_script
from edgekit.devices.lock import Owner, acquire, fenced, release, this_process
from edgekit.devices.transports.local import LocalTransport
from edgekit.errors import DeployError, EdgekitError, TransportError

DEPLOYERS, ROUNDS = 8, 20
KILLS = 20


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = memory_folder(tmp_path)
    yield folder
    shutil.rmtree(folder)


def test_eight_deployers_at_once(folder: Path) -> None:
    """One winner at a time, 0 mixed releases: the check fails if another deployment is inside its own."""
    alone = f'mkdir {folder}/inside || exit 9; sleep 0.05; rmdir {folder}/inside; test -s "$1/release.json"'
    exclusive = Checks(
        golden=lambda release: ["sh", "-c", alone, "check", release], golden_timeout_s=60, warm=None, warm_timeout_s=1
    )
    payloads = [make_bundle(folder, f"1.{n}") for n in range(DEPLOYERS)]
    root = folder / "device"

    def compete(number: int) -> str:
        request = make_request(payloads[number], allow_downgrade=True)
        try:
            deploy(local_device(root), request, exclusive)
        except DeployError as error:
            return "locked" if "locked" in error.message else error.message
        return "won"

    won = 0
    with ThreadPoolExecutor(DEPLOYERS) as pool:
        for _ in range(ROUNDS):
            results = list(pool.map(compete, range(DEPLOYERS)))
            assert {"won"} <= set(results) <= {"won", "locked"}
            won += results.count("won")
            assert what_runs(root) in {p.digest for p in payloads}
    state = json.loads((root / "apps" / APP / "state.json").read_bytes())
    assert state["bad"] == []
    print(f"\n{won} of {DEPLOYERS * ROUNDS} deployments got the lock, 0 overlapped")


def test_a_living_deployer_is_respected_and_a_dead_one_is_not(folder: Path) -> None:
    device = local_device(folder / "device")
    acquire(device, this_process())
    with pytest.raises(DeployError, match=r"locked by another deployment \(process \d+\)") as caught:
        acquire(device, this_process())
    assert "the lock ends in" in str(caught.value)
    shutil.rmtree(folder / "device")
    acquire(device, dead_owner(1))
    acquire(device, this_process())


def test_a_lock_of_another_boot_or_past_its_lease_is_free(folder: Path) -> None:
    device = local_device(folder / "device")
    other_host = Owner(host_boot="0" * 8, pid=1, started=1, token="a" * 16)
    acquire(device, other_host)
    with pytest.raises(DeployError, match="locked"):
        acquire(device, this_process())
    link = next((folder / "device/lock").iterdir())
    boot, until, rest = os.readlink(link).split(":", 2)
    link.unlink()
    link.symlink_to(f"{'0' * 8}-{boot[9:]}:{until}:{rest}")
    acquire(device, this_process())
    shutil.rmtree(folder / "device")
    acquire(device, other_host)
    link = next((folder / "device/lock").iterdir())
    link.unlink()
    link.symlink_to(f"{boot}:1:{rest}")
    acquire(device, this_process())


def test_who_lost_the_lock_changes_nothing_more(folder: Path) -> None:
    device = local_device(folder / "device")
    slow = dead_owner(1)
    acquire(device, slow)
    acquire(device, this_process())
    with pytest.raises(DeployError, match="another deployment took the lock"):
        fenced(device, slow, 'touch "$root/changed"', timeout_s=10)
    assert not (folder / "device/changed").exists()
    assert release(device, slow) is False


def test_work_that_takes_long_renews_the_lease(folder: Path) -> None:
    device, owner = local_device(folder / "device"), this_process()
    acquire(device, owner)
    before = int(os.readlink(next((folder / "device/lock").iterdir())).split(":")[1])
    fenced(device, owner, "true", timeout_s=1000)
    (link,) = (folder / "device/lock").iterdir()
    assert int(os.readlink(link).split(":")[1]) >= before + 800


def test_a_command_that_hangs_ends_at_its_deadline(folder: Path) -> None:
    """D11: the transport's deadline holds even when the device's command never answers."""
    begun = time.monotonic()
    with pytest.raises(TransportError, match="no answer within 1 s"):
        run_script(local_device(folder), "sleep 60", timeout_s=1)
    assert time.monotonic() - begun < 20


def test_a_transfer_that_stalls_ends_at_its_deadline(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "source").write_bytes(bytes(1 << 20))
    with pytest.raises(TransportError, match=r"stalled|no answer"):
        LocalTransport().put(folder / "source", str(folder / "pipe"), start=0, size=1 << 20, append=True, timeout_s=1)


def test_an_answer_needs_both_marks(folder: Path) -> None:
    device = local_device(folder)
    assert run_script(device, "echo yes", timeout_s=10) == ["yes"]
    for body in (f"echo {scripts.END}; echo more", "kill -9 $$", "exit 0"):
        with pytest.raises(TransportError):
            run_script(device, body, timeout_s=10)


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from deploying import install, make_bundle
print("begin", flush=True)
install(Path(sys.argv[3]), make_bundle(Path(sys.argv[2]), sys.argv[4]))
"""


def test_processes_that_are_killed(folder: Path) -> None:
    """OSTree's recipe: SIGKILL at a random moment of the measured cycle; some runs finish, and that is counted."""
    root, tests = folder / "device", str(Path(__file__).parent)
    install(root, make_bundle(folder, "1.0"))
    pick = random.Random(8)
    cycle_s, finished = 0.5, 0
    for number in range(1, KILLS + 1):
        payload = make_bundle(folder, f"1.{number}")
        words = [sys.executable, "-c", CHILD, tests, str(folder), str(root), f"1.{number}"]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert child.stdout is not None
        child.stdout.readline()
        begun = time.monotonic()
        try:
            child.wait(timeout=pick.uniform(0, 1.1 * cycle_s))
            finished += 1
            cycle_s = time.monotonic() - begun
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            cycle_s *= 1.1
        child.stdout.close()
        time.sleep(0.2)  # what the device was doing for it may still end
        assert what_runs(root) is not None
        for _ in range(3):
            try:
                install(root, payload)
                break
            except EdgekitError as error:
                print(error)
        assert what_runs(root) == payload.digest
    print(f"\n{KILLS - finished} of {KILLS} deployments killed, 0 devices without a working release")
    assert finished < KILLS
