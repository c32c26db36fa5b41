"""D2: a power cut that loses or tears what was not synced leaves a working release; the next deploy converges."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import crashdisk
import pytest
from deploying import APP, checks, dead_owner, install, local_device, make_bundle, make_request, memory_folder
from deploying import what_runs as what_runs_on_disk

from edgekit.devices import deploy, rollback
from edgekit.errors import DeployError

CONVERGED = 25
"""States per scenario that are put on a disk and deployed to."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = memory_folder(tmp_path)
    yield folder
    shutil.rmtree(folder)


def record(folder: Path, root: Path, action: Callable[..., object]) -> tuple[crashdisk.Tree, list[crashdisk.Operation]]:
    recorder = crashdisk.Recorder(root, folder / "log")
    action(local_device(root, recorder), dead_owner(1))
    return recorder.before, recorder.operations()


def scenario(name: str, folder: Path) -> tuple[Path, Callable[..., object], set[str | None]]:
    root = folder / "device"
    old, current, target = (make_bundle(folder, v) for v in ("1.0", "1.1", "1.2"))
    failing = make_bundle(folder, "1.3", labels=b"fail\n")

    def bring(payload):  # type: ignore[no-untyped-def]
        return lambda device, owner: deploy(device, make_request(payload, restart="true"), checks(), owner=owner)

    def bring_failing(device, owner):  # type: ignore[no-untyped-def]
        with pytest.raises(DeployError):
            bring(failing)(device, owner)

    if name == "first":
        return root, bring(target), {None, target.digest}
    install(root, old)
    install(root, current)
    if name == "upgrade":
        return root, bring(target), {current.digest, target.digest}
    if name == "failing":
        return root, bring_failing, {current.digest}
    if name == "broken":  # the release is there already, altered: it is replaced
        folder_there = (
            root / "apps" / APP / "releases" / json.loads((root / f"apps/{APP}/state.json").read_bytes())["previous"]
        )
        shutil.copytree(folder_there, folder / "kept")
        install(root, target)
        again = folder_there
        shutil.copytree(folder / "kept", again)
        (again / "bundle/image.onnx").chmod(0o644)
        (again / "bundle/image.onnx").write_bytes(b"altered")
        request = make_request(old, allow_downgrade=True)
        return root, lambda d, o: deploy(d, request, checks(), owner=o), {target.digest, old.digest}
    return root, lambda d, o: rollback(d, APP, checks(), owner=o), {current.digest, old.digest}


@pytest.mark.parametrize("name", ["first", "upgrade", "failing", "broken", "rollback"])
def test_no_power_cut_leaves_a_device_without_a_working_release(folder: Path, name: str) -> None:
    root, action, allowed = scenario(name, folder)
    start, operations = record(folder, root, action)
    assert sum(o.kind == "sync" for o in operations) >= 2
    distinct: dict[int, crashdisk.Tree] = {}
    count = 0
    for tree in crashdisk.crash_states(start, operations, seed=11):
        count += 1
        try:
            runs = crashdisk.what_runs(tree, APP)
        except (AssertionError, KeyError, ValueError) as error:
            pytest.fail(f"{name}: state {count} is broken: {type(error).__name__} {error}")
        assert runs in allowed
        distinct[hash(tuple(sorted(tree.items())))] = tree
    assert count >= 250
    print(f"\n{name}: 0 of {count} states ({len(distinct)} distinct) of {len(operations)} operations are broken")
    target = make_bundle(folder, "2.0")
    for number, tree in enumerate(random.Random(5).sample([*distinct.values()], min(CONVERGED, len(distinct)))):
        disk = folder / f"disk-{number}"
        crashdisk.write_tree(tree, disk)
        deploy(local_device(disk), make_request(target), checks(), owner=dead_owner(2))
        assert what_runs_on_disk(disk) == target.digest
        shutil.rmtree(disk)


def test_the_crash_disk_finds_a_missing_sync(folder: Path) -> None:
    """The instrument works: the same operations without the syncs have broken states."""
    root, action, _ = scenario("upgrade", folder)
    start, operations = record(folder, root, action)
    broken = 0
    for tree in crashdisk.crash_states(start, [o for o in operations if o.kind != "sync"], seed=11, samples=4):
        try:
            crashdisk.what_runs(tree, APP)
        except (AssertionError, KeyError, ValueError):
            broken += 1
    assert broken > 10
