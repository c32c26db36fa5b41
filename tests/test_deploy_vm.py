"""D2, D3 in a whole machine (its own kernel, real ext4, 512 MB): power cuts, a profile through a cut link, a service.

`pytest -m lab_vm tests/test_deploy_vm.py`, as root, after `tests/lab/install.sh vm`; add `-s` for the figures. It wants
two idle cores: everything there is emulated, and beside a dozen busy processes deadlines of a deployment are missed.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deploying import APP, checks, make_bundle, make_request
from lab import host
from lab.fixtures import require
from lab.vm import SSHD_ONLY, Vm
from packing import SEVEN_PNG, quiet

from edgekit.bundle import open_bundle, write_bundle
from edgekit.devices import NO_LAYER, Payload, Progress, connect, deploy
from edgekit.errors import EdgekitError
from edgekit.manifest import parse_manifest
from edgekit.operations import deploy as operations
from edgekit.records import dump_canonical

pytestmark = pytest.mark.lab_vm

ROOT = "/home/pi/.local/share/edgekit"
LARGE_BYTES = 4 << 20
SEED = 4
IN_TRANSFER = 12
"""Cuts at a random byte of the transfer; at least ten must strike there, whatever else a slow machine does to some."""

OTHER_STEPS = ("reuse", "hash", "sync", "rename", "write state", "collect garbage")
"""Steps in which a cut comes up to a second after they began."""

WITH_LAYER = ("send", "check", "write state")
"""Cuts of deployments whose check is a real predict, with the packages that it needs."""

# What `what_runs` of the local devices does, there: every byte of every release that the state names.
WHAT_RUNS = """
import hashlib, json, os, sys
apps = sys.argv[1] + "/apps/" + sys.argv[2]
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
    layer = sys.argv[1] + "/layers/" + record["layer"] + "/layer.json"
    assert record["layer"] == sys.argv[3] or os.path.isfile(layer), "layer of " + release
print(json.dumps({**state, "version": versions[state["current"]]}))
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Vm]:
    """A whole machine, switched on, that ssh finds as `vm`."""
    require(host.missing_for_vm())
    with Vm() as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_SSH_CONFIG", str(made.ssh_config))
        made.boot(SSHD_ONLY)
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


def what_runs(machine: Vm, app: str = "tridigit") -> Any:
    """The state of the app, after a look at every byte of it there; AssertionError when it is broken."""
    done = machine.run(f"python3 - {ROOT} {app} {NO_LAYER} <<'END'\n{WHAT_RUNS}END", timeout_s=300)
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


def bring_plain(payload: Payload, cut: Cut | None = None) -> str | None:
    """Deploy without a layer, where the check is a shell's; gives the error, or None."""

    def watch(at: Progress) -> None:
        if cut is not None:
            cut(f"vm: {at.step}", at.sent_bytes, at.total_bytes if at.step == "send" else 0)

    try:
        with connect("ssh:vm") as device:
            deploy(device, make_request(payload), checks(60), on_progress=watch)
    except EdgekitError as error:
        return error.message
    return None


@pytest.mark.parametrize("steps", [("send",) * IN_TRANSFER, OTHER_STEPS], ids=["in the transfer", "at other steps"])
def test_power_cuts_leave_a_whole_release_and_the_next_deployment_converges(
    machine: Vm, tmp_path: Path, steps: tuple[str, ...]
) -> None:
    """0 of 18 cuts leave the machine without a release whose every byte is right; one deployment then suffices."""
    pick = random.Random(SEED)

    def version(number: int) -> Payload:
        large = {"golden/large.bin": random.Random(number).randbytes(LARGE_BYTES)}
        return make_bundle(tmp_path, f"{1 if 'send' in steps else 2}.{number}", **large)

    old = version(0)
    problem = bring_plain(old)
    assert problem is None, problem
    failed, in_transfer, begun = 0, 0, time.monotonic()
    for number, step in enumerate(steps, 1):
        began = time.monotonic()
        new, cut = version(number), Cut(machine, step, pick.random())
        failed += bring_plain(new, cut) is not None
        cut.end()
        in_transfer += str(cut.at).startswith("send at")
        machine.boot(SSHD_ONLY)
        booted = time.monotonic()
        found = what_runs(machine, APP)
        assert found["version"] in (old.version, new.version), cut.at
        assert found["bad"] == [], cut.at
        problem = bring_plain(new)
        assert problem is None, f"{cut.at}: {problem}"
        assert what_runs(machine, APP)["version"] == new.version, cut.at
        print(
            f"\n  cut {number} in {cut.at}: runs {found['version']}, then {new.version}; "
            f"cut and boot {booted - began:.0f} s, converge {time.monotonic() - booted:.0f} s",
            end="",
            flush=True,
        )
        old = new
    print(
        f"\n0 of {len(steps)} power cuts broke it, all converge; {failed} deployments failed; "
        f"{time.monotonic() - begun:.0f} s in all"
    )
    assert failed >= len(steps) // 2
    assert in_transfer >= 10 or "send" not in steps


def test_power_cuts_leave_a_release_that_answers_and_the_next_deployment_converges(
    machine: Vm, make: Callable[[int], Path]
) -> None:
    """The same with the packages that the check needs: what is left after a cut answers a real predict."""
    pick = random.Random(SEED)
    begun = time.monotonic()
    first = bring(make(0))
    assert first.error is None, first.error
    print(f"\nfrom nothing, layer included: {first.sent_bytes / 2**20:.0f} MiB, {time.monotonic() - begun:.0f} s")
    failed = 0
    current = first.release
    for number, step in enumerate(WITH_LAYER, 1):
        began = time.monotonic()
        bundle, cut = make(number), Cut(machine, step, pick.random())
        struck = bring(bundle, progress=cut)
        cut.end()
        failed += struck.error is not None
        machine.boot(SSHD_ONLY)
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
    print(f"0 of {len(WITH_LAYER)} cuts broke it; {failed} deployments failed; {time.monotonic() - begun:.0f} s in all")
    assert failed


def test_a_profile_there_outlives_its_link_and_its_caller(machine: Vm, make: Callable[[int], Path]) -> None:
    """The link is cut and who followed is killed; --resume fetches the full report with the board in it."""
    done = bring(make(19))
    assert done.error is None, done.error
    words = [sys.executable, "-m", "edgekit", "profile", "tridigit", "--on", "ssh:vm", "--json", "-"]
    quick = ["--runs", "64", "--seconds", "5", "--cold-starts", "1"]
    folder = f"{ROOT}/profiles/tridigit"
    with subprocess.Popen([*words, *quick], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as caller:
        began = f"i=0; until grep -q ' runs' {folder}/progress.txt || [ $i -ge 600 ]; do sleep 1; i=$((i + 1)); done"
        machine.run(f"sh -c {shlex.quote(began)}", timeout_s=900)
        machine.cut_link()
        heard = b""
        while b"the link is cut" not in heard and (line := caller.stderr.readline()):
            heard += line
        caller.kill()
    assert b"the link is cut" in heard, heard[-2000:].decode()
    machine.restore_link()
    fetched = subprocess.run([*words, "--resume"], capture_output=True, check=False, text=True, timeout=1800)
    assert fetched.returncode == 0, fetched.stderr
    report = json.loads(fetched.stdout)
    (cell,) = report["cells"]
    assert report["complete"] is True
    assert report["subject"]["release"] == done.release
    assert report["environment"]["board"].startswith("Raspberry Pi 4")
    assert report["environment"]["ram_bytes"]["value"] < 512 << 20
    assert cell["latency_ms"]["n"] >= 64
    assert {"preprocess", "postprocess"} <= {stage["name"] for stage in cell["stages"]}
    assert report["cold_start"] != []
    assert report["memory"] != []
    assert report["operators"] != [] or "operators" in report["absent"]
    assert machine.run(f"ls {ROOT}/profiles").stdout == ""
    print(f"\nprofile: {cell['latency_ms']['n']} runs, {len(report['operators'])} operator tables")


def test_a_service_follows_a_switch_and_comes_back_after_a_reboot(machine: Vm, make: Callable[[int], Path]) -> None:
    """--service: a unit of systemd runs the app's command, again after each switch and each start of the machine.

    Without polkit a user may not let his services run without him: the note says how to allow it.
    """
    machine.power_cut()
    machine.boot()
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
