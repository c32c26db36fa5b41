"""A folder of this machine is a device: deploy, deploy again, go back, remove; and everything that is refused."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploying import (
    APP,
    Fault,
    FaultTransport,
    checks,
    dead_owner,
    install,
    local_device,
    make_bundle,
    make_request,
    make_shims,
    memory_folder,
    what_runs,
)

from edgekit.devices import Progress, connect, deploy, preview, remove, rollback, status
from edgekit.devices.inventory import inspect
from edgekit.devices.plan import STEPS, version_key
from edgekit.devices.transfer import copy_lines
from edgekit.devices.trees import Copy
from edgekit.errors import DeployError, EdgekitError, TargetError


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    folder = memory_folder(tmp_path)
    yield folder
    shutil.rmtree(folder)


ISSUE_STEPS = (
    "probe, lock, plan, reuse, send, hash, sync, rename, warm, check, write state, restart, confirm, "
    "collect garbage, unlock"
)


def test_the_steps_are_the_ones_of_the_design(tmp_path: Path) -> None:
    seen: list[str] = []

    def note(progress: Progress) -> None:
        if progress.step not in seen:
            seen.append(progress.step)

    outcome = deploy(
        local_device(tmp_path / "d"), make_request(make_bundle(tmp_path, "1.0")), checks(), on_progress=note
    )
    assert ", ".join(STEPS) == ISSUE_STEPS
    assert tuple(seen) == outcome.steps == STEPS


def test_first_deployment_leaves_the_layout_of_the_design(tmp_path: Path) -> None:
    payload = make_bundle(tmp_path, "1.0")
    outcome = install(tmp_path / "d", payload)
    root = tmp_path / "d"
    assert what_runs(root) == payload.digest
    assert json.loads((root / "apps" / APP / "state.json").read_bytes()) == {
        "bad": [],
        "current": outcome.release,
        "previous": None,
    }
    assert sorted(p.name for p in root.iterdir()) == ["apps", "incoming", "lock"]
    assert list((root / "incoming").iterdir()) == []
    assert [os.readlink(p) for p in (root / "lock").iterdir()] == ["free"]


def test_deploying_again_sends_nothing(tmp_path: Path) -> None:
    """D5: re-deploy of the same digest sends 0 payload bytes."""
    payload = make_bundle(tmp_path, "1.0")
    first = install(tmp_path / "d", payload)
    again = install(tmp_path / "d", payload)
    assert first.sent_bytes > 300_000
    assert (again.sent_bytes, again.reused_bytes, again.switched) == (0, 0, False)
    assert what_runs(tmp_path / "d") == payload.digest


def test_one_changed_graph_sends_that_graph_only(tmp_path: Path) -> None:
    """D5: of nine files, the changed one, the manifest and the release's record go over the wire."""
    install(tmp_path / "d", make_bundle(tmp_path, "1.0"))
    changed = make_bundle(tmp_path, "1.1")
    outcome = install(tmp_path / "d", changed)
    sizes = {c.path: c.size for c in changed.contents}
    record = (tmp_path / "d/apps" / APP / "releases" / outcome.release / "release.json").stat().st_size
    assert outcome.sent_bytes == sizes["image.onnx"] + sizes["manifest.json"] + record
    assert outcome.reused_bytes == sum(sizes.values()) - sizes["image.onnx"] - sizes["manifest.json"]
    assert what_runs(tmp_path / "d") == changed.digest


@pytest.mark.parametrize("percent", [10, 30, 50, 70, 90])
def test_a_cut_transfer_continues_where_it_stopped(tmp_path: Path, percent: int) -> None:
    """D5: bytes sent again are at most the rest and one block of a pipe."""
    size = 4 << 20
    payload = make_bundle(tmp_path, "1.0", large=size)
    transport = CutTransport(size * percent // 100)
    with pytest.raises(EdgekitError):
        deploy(local_device(tmp_path / "d", transport), make_request(payload), checks(), owner=dead_owner(1))
    again = install(tmp_path / "d", payload)
    small = sum(c.size for c in payload.contents) - size
    assert again.sent_bytes <= size * (100 - percent) // 100 + (1 << 20) + small
    assert what_runs(tmp_path / "d") == payload.digest


class CutTransport(FaultTransport):
    """The link goes down after so many bytes of a large file."""

    def __init__(self, after_bytes: int) -> None:
        self.after_bytes = after_bytes
        self.down = False
        from edgekit.devices.transports.local import LocalTransport

        self.inner = LocalTransport()

    def run(self, argv, *, stdin=None, timeout_s):  # type: ignore[no-untyped-def]
        self._check()
        return self.inner.run(argv, stdin=stdin, timeout_s=timeout_s)

    def put(self, source, target, *, start, size, append, timeout_s, on_bytes=None):  # type: ignore[no-untyped-def]
        self._check()
        share = min(size, self.after_bytes)
        self.inner.put(source, target, start=start, size=share, append=append, timeout_s=timeout_s, on_bytes=on_bytes)
        self.after_bytes -= share
        if share < size:
            self.down = True
            self._check()

    def _check(self) -> None:
        from edgekit.errors import TransportError

        if self.down:
            raise TransportError("the link is down")


def test_rollback_goes_back_and_forth(tmp_path: Path) -> None:
    one, two = make_bundle(tmp_path, "1.0"), make_bundle(tmp_path, "1.1")
    install(tmp_path / "d", one)
    install(tmp_path / "d", two)
    with connect(f"local:{tmp_path / 'd'}") as device:
        back = rollback(device, APP, checks())
        assert (what_runs(tmp_path / "d"), back.version) == (one.digest, "1.0")
        forth = rollback(device, APP, checks())
        assert (what_runs(tmp_path / "d"), forth.version) == (two.digest, "1.1")


def test_rollback_refuses_what_was_altered(tmp_path: Path) -> None:
    one, two = make_bundle(tmp_path, "1.0"), make_bundle(tmp_path, "1.1")
    first = install(tmp_path / "d", one)
    install(tmp_path / "d", two)
    victim = tmp_path / "d/apps" / APP / "releases" / first.release / "bundle/image.onnx"
    victim.chmod(0o644)
    victim.write_bytes(b"x" * victim.stat().st_size)
    with pytest.raises(DeployError, match=r"altered on the device; the device runs release [0-9a-f]{12}"):
        rollback(local_device(tmp_path / "d"), APP, checks())


def test_status_names_each_app(tmp_path: Path) -> None:
    install(tmp_path / "d", make_bundle(tmp_path, "1.0"), restart="true")
    install(tmp_path / "d", make_bundle(tmp_path, "2.0"), app="other")
    found = {s.app: s for s in status(local_device(tmp_path / "d"))}
    assert {a: (s.version, s.restart, s.problem) for a, s in found.items()} == {
        APP: ("1.0", "true", None),
        "other": ("2.0", None, None),
    }


def test_remove_takes_one_app_and_leaves_the_other(tmp_path: Path) -> None:
    payload = make_bundle(tmp_path, "1.0")
    install(tmp_path / "d", payload)
    install(tmp_path / "d", payload, app="other")
    remove(local_device(tmp_path / "d"), APP)
    assert what_runs(tmp_path / "d") is None
    assert what_runs(tmp_path / "d", "other") == payload.digest
    with pytest.raises(DeployError, match="no app everything"):
        remove(local_device(tmp_path / "d"), APP)


def test_garbage_collection_keeps_current_previous_and_what_is_in_use(tmp_path: Path) -> None:
    """DESIGN: a predictor holds a shared flock on its release, so garbage collection leaves it alone."""
    releases = tmp_path / "d/apps" / APP / "releases"
    ids = [install(tmp_path / "d", make_bundle(tmp_path, f"1.{n}")).release for n in range(2)]
    descriptor = os.open(releases / ids[0], os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    ids += [install(tmp_path / "d", make_bundle(tmp_path, f"1.{n}")).release for n in range(2, 4)]
    assert {p.name for p in releases.iterdir()} == {ids[0], ids[2], ids[3]}
    with pytest.raises(DeployError, match="in use"):
        remove(local_device(tmp_path / "d"), APP)
    os.close(descriptor)
    install(tmp_path / "d", make_bundle(tmp_path, "1.3"))
    assert {p.name for p in releases.iterdir()} == {ids[2], ids[3]}


SABOTAGE = {
    "golden check fails": b"fail\n",
    "graph refused": b"exit 5\n",
    "bundle refused": b"exit 3\n",
    "does not fit": b"exit 6\n",
    "unexpected error": b"exit 1\n",
    "crash": b"signal SEGV\n",
    "illegal instruction": b"signal ILL\n",
    "killed for memory": b"signal KILL\n",
    "out of memory": b"full-memory\n",
    "hang": b"hang\n",
}


@pytest.mark.parametrize("how", SABOTAGE)
def test_a_release_that_fails_its_check_is_never_switched_to(tmp_path: Path, how: str) -> None:
    """D4: rolled back, remembered, not tried again without --force; the error says what runs."""
    good, bad = make_bundle(tmp_path, "1.0"), make_bundle(tmp_path, "1.1", labels=SABOTAGE[how])
    first = install(tmp_path / "d", good)
    device, request = local_device(tmp_path / "d"), make_request(bad)
    with pytest.raises(DeployError, match=f"the device runs release {first.release[:12]}(\n|$)") as caught:
        deploy(device, request, checks(timeout_s=2))
    assert caught.value.exit_code == 8
    assert what_runs(tmp_path / "d") == good.digest
    assert [p.name for p in (tmp_path / "d/apps" / APP / "releases").iterdir()] == [first.release]
    with pytest.raises(DeployError, match="failed its check on this device before"):
        deploy(device, request, checks(timeout_s=2))
    with pytest.raises(DeployError, match="failed: the check"):
        deploy(device, make_request(bad, force=True), checks(timeout_s=2))


def test_a_check_that_cannot_start_blames_nobody(tmp_path: Path) -> None:
    from edgekit.devices import Checks

    payload = make_bundle(tmp_path, "1.0")
    absent = Checks(golden=lambda folder: ["no-such-program", folder], golden_timeout_s=5, warm=None, warm_timeout_s=1)
    with pytest.raises(DeployError, match="cannot be started"):
        deploy(local_device(tmp_path / "d"), make_request(payload), absent)
    assert install(tmp_path / "d", payload).switched


def test_a_failing_restart_switches_back(tmp_path: Path) -> None:
    """The command is run again for the release before, and the new one is remembered as bad."""
    log = tmp_path / "log"
    root = tmp_path / "d"
    restart = f"cat {root}/apps/{APP}/state.json >> {log}; echo >> {log}; test ! -e {tmp_path}/break"
    good = make_bundle(tmp_path, "1.0")
    first = install(root, good, restart=restart)
    (tmp_path / "break").touch()
    with pytest.raises(DeployError, match=f"switched back.*the device runs release {first.release[:12]}(\n|$)"):
        install(root, make_bundle(tmp_path, "1.1"))
    assert what_runs(root) == good.digest
    states = [json.loads(line) for line in log.read_text().splitlines()]
    assert [s["current"] == first.release for s in states] == [True, False, True]
    (tmp_path / "break").unlink()
    with pytest.raises(DeployError, match="failed its check"):
        install(root, make_bundle(tmp_path, "1.1"))


@pytest.mark.parametrize("name", ["release.json", "bundle/manifest.json", "bundle/labels.txt"])
def test_a_file_that_a_cut_transfer_left_in_part_is_completed(tmp_path: Path, name: str) -> None:
    """Small files travel together, some of them made in memory: a start of one on the device is not in their way."""
    payload = make_bundle(tmp_path, "1.0")
    whole = tmp_path / "whole/apps" / APP / "releases" / install(tmp_path / "whole", payload).release
    data = (whole / name).read_bytes()
    for number, cut in enumerate((0, 1, len(data) // 2, len(data) - 1)):
        root = tmp_path / f"d{number}"
        torn = root / "incoming" / whole.name / name
        torn.parent.mkdir(parents=True)
        torn.write_bytes(data[:cut])
        torn.chmod(0o444)
        assert install(root, payload).switched
        assert (root / "apps" / APP / "releases" / whole.name / name).read_bytes() == data
        assert what_runs(root) == payload.digest


def test_a_daemon_that_the_restart_command_leaves_does_not_hold_the_deployment(tmp_path: Path) -> None:
    assert install(tmp_path / "d", make_bundle(tmp_path, "1.0"), restart="sleep 5 &").switched


def test_no_downgrade_by_accident(tmp_path: Path) -> None:
    """D7: older is refused, the same and newer pass, --allow-downgrade and rollback say so."""
    old, same, new = (make_bundle(tmp_path, v) for v in ("1.9", "1.10", "1.10.1"))
    install(tmp_path / "d", same)
    with pytest.raises(DeployError, match=r"1\.10 is on the device, this is 1\.9; the device runs release"):
        install(tmp_path / "d", old)
    install(tmp_path / "d", same)
    install(tmp_path / "d", new)
    install(tmp_path / "d", old, allow_downgrade=True)
    assert what_runs(tmp_path / "d") == old.digest


def test_versions_are_ordered_as_numbers() -> None:
    ordered = ["0.9", "1.0", "1.0.1", "1.2", "1.10", "2"]
    assert sorted(set(ordered), key=version_key) == ordered
    assert version_key("1.0") == version_key("1")


def test_a_full_disk_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    """D10: need and have are said, and 0 bytes are left behind."""
    payload = make_bundle(tmp_path, "1.0")
    with pytest.raises(DeployError, match=r"no space: needs .* MiB and .* must stay free, the device has"):
        install(tmp_path / "d", payload, disk_floor_bytes=1 << 60)
    assert not list((tmp_path / "d").rglob("*.onnx"))
    assert list((tmp_path / "d").glob("incoming/*")) == []


def test_what_does_not_fit_is_refused_with_need_and_have(tmp_path: Path) -> None:
    payload = make_bundle(tmp_path, "1.0")
    with pytest.raises(TargetError, match="needs aarch64, the device is x86_64"):
        install(tmp_path / "d", payload, machines=("aarch64",))
    with pytest.raises(TargetError, match="of memory, the device has"):
        install(tmp_path / "d", payload, ram_bytes=1 << 50)
    assert not (tmp_path / "d").exists()


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    payload = make_bundle(tmp_path, "1.0")
    plan = preview(local_device(tmp_path / "d"), make_request(payload))
    assert tuple(s.name for s in plan.steps) == STEPS
    assert plan.send_bytes == sum(s.send_bytes for s in plan.steps) > 300_000
    assert not (tmp_path / "d").exists()


def test_altered_in_flight_is_never_activated(tmp_path: Path) -> None:
    """D6: what the device hashes decides."""
    good, other = make_bundle(tmp_path, "1.0"), make_bundle(tmp_path, "1.1", large=400_000)
    install(tmp_path / "d", good)
    source = Path(next(c.source for c in other.contents if c.path == "golden/large.bin") or "")
    data = bytearray(source.read_bytes())
    large = next(c for c in other.contents if c.path == "golden/large.bin")
    data[large.start + 1234] ^= 1
    source.write_bytes(data)
    with pytest.raises(DeployError, match=r"1 of \d+ files arrived altered, the first is bundle/golden/large.bin"):
        install(tmp_path / "d", other)
    assert what_runs(tmp_path / "d") == good.digest
    data[large.start + 1234] ^= 1
    source.write_bytes(data)
    assert install(tmp_path / "d", other).switched


def test_a_file_that_rotted_on_the_device_is_sent_instead_of_copied(tmp_path: Path) -> None:
    first = install(tmp_path / "d", make_bundle(tmp_path, "1.0"))
    victim = tmp_path / "d/apps" / APP / "releases" / first.release / "bundle/image.onnx.data"
    victim.chmod(0o644)
    victim.write_bytes(b"x" * victim.stat().st_size)
    outcome = install(tmp_path / "d", make_bundle(tmp_path, "1.1"))
    assert "altered" in outcome.notes[0]
    record = json.loads((tmp_path / "d/apps" / APP / "state.json").read_bytes())
    assert record["current"] == outcome.release


def test_a_file_that_vanished_from_the_device_is_sent_instead_of_copied(tmp_path: Path) -> None:
    """The others of its folder are copied all the same."""
    first = install(tmp_path / "d", make_bundle(tmp_path, "1.0"))
    (tmp_path / "d/apps" / APP / "releases" / first.release / "bundle/image.onnx.data").unlink()
    target = make_bundle(tmp_path, "1.1")
    outcome = install(tmp_path / "d", target)
    assert outcome.sent_bytes < 5000
    assert json.loads((tmp_path / "d/apps" / APP / "state.json").read_bytes())["current"] == outcome.release


def test_a_copy_takes_one_process_for_a_folder(tmp_path: Path) -> None:
    """What the device has is copied by few commands, whatever the number of files; an emulated Pi feels each start."""
    copies = tuple(Copy(source=f"/old/x/{n}.py", path=f"x/{n}.py", size=1) for n in range(3))
    renamed = (Copy(source="/old/x/0.py", path="y/other name.py", size=1), Copy(source="/old/z", path="z", size=1))
    assert copy_lines(copies + renamed) == (
        "folders\t./x\t./y",
        "copy\t./x/\t/old/x/0.py\t/old/x/1.py\t/old/x/2.py",
        "copy\t./y/other name.py\t/old/x/0.py",
        "copy\t./\t/old/z",
    )
    many = tuple(Copy(source=f"/old/{n:0>100}", path=f"{n:0>100}", size=1) for n in range(1000))
    lines = copy_lines(many)
    assert len(lines) == 4
    assert sum(line.count("\t") - 1 for line in lines) == len(many)
    assert max(map(len, lines)) < 33_000

    install(tmp_path / "d", make_bundle(tmp_path, "1.0"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cp").write_text(f'#!/bin/sh\necho cp >> {tmp_path}/started\nexec /bin/cp "$@"\n')
    (tmp_path / "bin/cp").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        outcome = install(tmp_path / "d", make_bundle(tmp_path, "1.1"))
    assert outcome.reused_bytes > 300_000
    assert len((tmp_path / "started").read_text().split()) == 3  # bundle, bundle/golden, bundle/text


def test_an_inventory_takes_few_processes_and_every_name(tmp_path: Path) -> None:
    """Two hundred files at a time, whatever they are called and however many folders they are in."""
    device, wanted = tmp_path / "d", {}
    names = (
        "a",
        "b c",
        "d'e",
        'f"g',
        f"$(touch {tmp_path}/pwned)".replace("/", "_"),
        "`id`",
        "-n",
        ".hidden",
        "*",
        "ü",
    )
    for folder in range(30):
        for number in range(15):
            path = device / f"folder {folder}" / ("sub;x" if folder % 2 else ".dot") / f"{names[number % 10]}{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(folder))
            wanted[str(path.relative_to(device))] = (folder, hashlib.sha256(bytes(folder)).hexdigest())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sha256sum").write_text(f'#!/bin/sh\necho x >> {tmp_path}/started\nexec /usr/bin/sha256sum "$@"\n')
    (tmp_path / "bin/sha256sum").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        listing = inspect(local_device(device), (str(device),), timeout_s=60)[str(device)]
    assert listing is not None
    assert {path: (file.size, file.sha256) for path, file in listing.files.items()} == wanted
    assert len((tmp_path / "started").read_text().split()) == 3  # 450 files


def test_a_login_script_that_talks_does_not_disturb(tmp_path: Path) -> None:
    class Noisy(FaultTransport):
        def run(self, argv, *, stdin=None, timeout_s):  # type: ignore[no-untyped-def]
            done = super().run(argv, stdin=stdin, timeout_s=timeout_s)
            return done.replace(stdout=b"Welcome to pi!\n" + done.stdout)

    fault = Fault("none", 10**9)
    transport = Noisy(fault, make_shims(tmp_path / "shims"), tmp_path / "s", by_command=False)
    payload = make_bundle(tmp_path, "1.0")
    deploy(local_device(tmp_path / "d", transport), make_request(payload), checks())
    assert what_runs(tmp_path / "d") == payload.digest


def test_a_damaged_state_is_said_and_forced(tmp_path: Path) -> None:
    payload = make_bundle(tmp_path, "1.0")
    install(tmp_path / "d", payload)
    (tmp_path / "d/apps" / APP / "state.json").write_text('{"current": 3}')
    with pytest.raises(DeployError, match="cannot be read"):
        install(tmp_path / "d", payload)
    assert status(local_device(tmp_path / "d"))[0].problem
    install(tmp_path / "d", payload, force=True)
    assert what_runs(tmp_path / "d") == payload.digest
