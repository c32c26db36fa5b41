"""D8: power cuts in a whole machine (systemd, 512 MB, real ext4): it always has a release that answers.

`pytest -m lab_vm tests/test_deploy_vm.py`
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import host
from lab.fixtures import require
from lab.vm import Vm
from packing import SEVEN_PNG, quiet

from edgekit.bundle import open_bundle, write_bundle
from edgekit.manifest import parse_manifest
from edgekit.operations import deploy as operations
from edgekit.records import dump_canonical

pytestmark = pytest.mark.lab_vm

ROOT = "/home/pi/.local/share/edgekit"
LARGE_BYTES = 8 << 20
SEED = 4
IN_TRANSFER = 5
OTHER_STEPS = ("hash", "rename", "check", "write state", "collect garbage")
"""Steps in which a cut comes up to a second after they began; the other cuts come at a random byte of the transfer."""

# What `what_runs` of the local devices does, there: every byte of every release that the state names.
WHAT_RUNS = """
import hashlib, json, os, sys
apps = sys.argv[1] + "/apps/tridigit"
state = json.load(open(apps + "/state.json"))
versions = {}
for release in {state["current"], state["previous"]} - {None}:
    folder = apps + "/releases/" + release
    data = open(folder + "/bundle/manifest.json", "rb").read()
    record = json.load(open(folder + "/release.json"))
    versions[release] = record["version"]
    assert hashlib.sha256(data).hexdigest() == record["bundle"], "manifest of " + release
    for name, fact in json.loads(data)["files"].items():
        found = hashlib.sha256(open(folder + "/bundle/" + name, "rb").read()).hexdigest()
        assert found == fact["sha256"], name + " of " + release
    assert os.path.isfile(sys.argv[1] + "/layers/" + record["layer"] + "/layer.json"), "layer of " + release
print(json.dumps({**state, "version": versions[state["current"]]}))
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Vm]:
    """A whole machine, switched on, that ssh finds as `vm`."""
    require(host.missing_for_vm())
    with Vm() as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_SSH_CONFIG", str(made.ssh_config))
        made.boot()
        yield made


@pytest.fixture(scope="module")
def make(tridigit_tflite: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """tridigit in int8, version 1.N, with a large file that no other version has."""
    folder = tmp_path_factory.mktemp("versions")

    def versioned(number: int) -> Path:
        with open_bundle(tridigit_tflite) as opened:
            home = Path(opened.path)
            document = json.loads((home / "manifest.json").read_bytes())
            files = {name: (home / name).read_bytes() for name in document["files"]}
        files["golden/large.bin"] = random.Random(number).randbytes(LARGE_BYTES if number else 1)
        document["version"] = f"1.{number}"
        document["files"] = {n: {"sha256": hashlib.sha256(d).hexdigest(), "size": len(d)} for n, d in files.items()}
        output = folder / f"{number}.edgekit"
        write_bundle(output, parse_manifest(dump_canonical(document)), lambda name: io.BytesIO(files[name]))
        return output

    return versioned


def bring(bundle: Path, progress: Any = quiet, **wishes: Any) -> Any:
    (outcome,) = operations.deploy(
        str(bundle),
        ["ssh:vm"],
        **{"target": None, "variant": None, "files": (), "answers": {}, "wheels": (), "offline": None, **wishes},
        progress=progress,
        note=lambda line: None,
    ).devices
    return outcome


def what_runs(machine: Vm) -> Any:
    """The state of the app, after a look at every byte of it there; AssertionError when it is broken."""
    done = machine.run(f"python3 - {ROOT} <<'END'\n{WHAT_RUNS}END", timeout_s=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_answers(machine: Vm, release: str) -> None:
    """The launcher there gives the golden picture's label."""
    picture = f"{ROOT}/apps/tridigit/releases/{release}/bundle/golden/image.{SEVEN_PNG.name}"
    words = f"{ROOT}/bin/edgekit predict tridigit --image {picture} --text seven --text two --json"
    done = machine.run(words, timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "seven"


class Cut:
    """Progress of a deployment at whose chosen moment the machine loses its power."""

    def __init__(self, machine: Vm, step: str, moment: float) -> None:
        self.machine, self.step, self.moment = machine, step, moment
        self.timer: threading.Timer | None = None
        self.at: str | None = None
        self.last = "nothing"

    def __call__(self, what: str, done: int, total: int) -> None:
        self.last = what.rpartition(": ")[2] + (f" at {done * 100 // total} %" if total else "")
        if self.timer is not None or not what.endswith(f": {self.step}"):
            return
        if self.step == "send" and (not total or done < total * self.moment):
            return
        self.timer = threading.Timer(0 if self.step == "send" else self.moment, self.strike)
        self.timer.start()

    def strike(self) -> None:
        self.at = self.last
        self.machine.power_cut()

    def end(self) -> None:
        """At the latest after the deployment."""
        if self.timer is not None:
            self.timer.join()
        if self.at is None:
            self.strike()


def test_power_cuts_leave_a_release_that_answers_and_the_next_deployment_converges(
    machine: Vm, make: Callable[[int], Path]
) -> None:
    """0 of 10 cuts, at seeded random moments of the transfer and of every other step, leave the machine broken."""
    pick = random.Random(SEED)
    begun = time.monotonic()
    first = bring(make(0))
    assert first.error is None, first.error
    print(f"\nfrom nothing, layer included: {first.sent_bytes / 2**20:.0f} MiB, {time.monotonic() - begun:.0f} s")
    cuts = [*["send"] * IN_TRANSFER, *OTHER_STEPS]
    pick.shuffle(cuts)
    failed = 0
    current = first.release
    for number, step in enumerate(cuts, 1):
        began = time.monotonic()
        bundle, cut = make(number), Cut(machine, step, pick.random())
        struck = bring(bundle, progress=cut)
        cut.end()
        failed += struck.error is not None
        machine.boot()
        booted = time.monotonic()
        found = what_runs(machine)
        assert found["version"] in (f"1.{number - 1}", f"1.{number}"), cut.at
        assert found["bad"] == [], cut.at
        assert found["current"] == current or found["version"] == f"1.{number}", cut.at
        assert_answers(machine, found["current"])
        seen = time.monotonic()
        again = bring(bundle)
        assert again.error is None, f"{cut.at}: {again.error}"
        now = what_runs(machine)
        assert (now["version"], now["current"]) == (f"1.{number}", again.release), cut.at
        current = again.release
        print(
            f"  cut {number} in {cut.at}: runs {found['version']}; {again.sent_bytes / 2**20:.1f} MiB sent again; "
            f"cut and boot {booted - began:.0f} s, look {seen - booted:.0f} s, converge {time.monotonic() - seen:.0f} s"
        )
    print(f"0 of {len(cuts)} cuts broke it; {failed} deployments failed; {time.monotonic() - begun:.0f} s in all")
    assert failed >= IN_TRANSFER


def test_a_service_follows_a_switch_and_comes_back_after_a_reboot(machine: Vm, make: Callable[[int], Path]) -> None:
    """--service: a unit of systemd runs the app's command, again after each switch and each start of the machine.

    Without polkit a user may not let his services run without him: the note says how to allow it.
    """
    log = "/home/pi/served"
    serve = f"cat {ROOT}/apps/tridigit/state.json >> {log}; echo >> {log}; exec sleep 100000"
    first = bring(make(20), service=serve)
    assert first.error is None, first.error
    (note,) = (n for n in first.notes if "linger" in n)
    assert machine.run(note.partition(": ")[2]).returncode == 0
    second = bring(make(21), service=serve)
    assert second.error is None, second.error
    assert second.notes == ()
    before = machine.boot_id()
    machine.reboot()
    assert machine.boot_id() != before
    machine.run(
        "i=0; until [ $(wc -l < served) -ge 3 ] || [ $i -ge 180 ]; do sleep 1; i=$((i + 1)); done", timeout_s=400
    )
    served = [json.loads(line)["current"] for line in machine.run(f"cat {log}").stdout.splitlines()]
    assert served == [first.release, second.release, second.release]
    active = "XDG_RUNTIME_DIR=/run/user/1000 systemctl --user is-active edgekit-tridigit.service"
    assert machine.run(active).stdout == "active\n"
    assert_answers(machine, what_runs(machine)["current"])
