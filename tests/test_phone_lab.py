"""A phone without Python: checked and profiled there through the real adbd and adb 29 and 34, by one command each.

The phone is a virtual one (tests/lab); benchmark_model is lab/benchmark_model.py, which really runs the graphs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.device import Device as LabDevice
from lab.fixtures import adb_server, lab, new_phone  # noqa: F401
from lab.phone import RUNNER
from packing import SEVEN_PNG, changed_recipe

from edgekit.profiling.report import load_report

pytestmark = pytest.mark.lab

HOME = "data/local/tmp/edgekit"
ABIS = {"arm64": "arm64-v8a", "amd64": "x86_64"}
QUICK = ("--image", SEVEN_PNG, "--threads", 2, "--runs", 1, "--seconds", 0.1)


def edgekit(*arguments: object, timeout_s: float = 1800) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own, as a person starts it."""
    return subprocess.run(
        [sys.executable, "-m", "edgekit", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={**os.environ},
    )


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """The only device's outcome of a deployment with --json."""
    found: dict[str, object] = json.loads(done.stdout)["devices"][0]
    return found


def short(recipe: str) -> str:
    """Two golden samples with two candidates instead of ten: every row is a process on the phone."""
    head, *samples = recipe.split("[[golden]]")
    two = re.sub(r"texts = \[[^]]*\]", 'texts = ["two", "seven"]', samples[0])
    return "[[golden]]".join([head, two, samples[2]])


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """tridigit for Android in int8 and float32, and in int8 for this machine's own architecture."""
    folder = tmp_path_factory.mktemp("bundles")
    recipe = changed_recipe(folder, short)
    made = {}
    for name, target, variant in (
        ("arm64", "android-arm64", "tflite-int8"),
        ("arm64-float", "android-arm64", "tflite-fp32"),
        ("amd64", "linux-x86_64", "tflite-int8"),
        ("amd64-float", "linux-x86_64", "tflite-fp32"),
    ):
        made[name] = folder / f"{name}.edgekit"
        done = edgekit("package", recipe, "--target", target, "--variant", variant, "-o", made[name])
        assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def connected(
    new_phone: Callable[..., LabDevice],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[LabDevice, str]]:
    """Boots a phone and gives it with its address; the commands of the test use its adb server."""

    def connect(arch: str = "amd64", client: str = "system") -> tuple[LabDevice, str]:
        phone = new_phone(arch, client=client)
        for name, value in phone.adb.environ.items():
            monkeypatch.setenv(name, value)
        return phone, f"adb:{phone.serial}"

    return connect


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "client"),
    [
        pytest.param("arm64", "system", marks=pytest.mark.lab_emulated),
        pytest.param("arm64", "34", marks=pytest.mark.lab_emulated),
        ("amd64", "34"),
    ],
)
def test_a_phone_is_deployed_to_checked_rolled_back_and_profiled(
    connected: Callable[..., tuple[LabDevice, str]], bundles: dict[str, Path], tmp_path: Path, arch: str, client: str
) -> None:
    """The real adbd, adb 29 and 34: the golden check runs there, and the report has the same schema as ssh's."""
    phone, address = connected(arch, client)
    doctor = edgekit("doctor", address)
    assert ("target android-arm64" if arch == "arm64" else "target linux-x86_64") in doctor.stdout
    one = outcome(edgekit("deploy", bundles[arch], address, "--runner", RUNNER, "--json"))
    assert (one["error"], one["switched"]) == (None, True)
    two = outcome(edgekit("deploy", bundles[f"{arch}-float"], address, "--runner", RUNNER, "--json"))
    assert (two["error"], two["switched"]) == (None, True)
    status = edgekit("status", address)
    assert "not verified" not in status.stdout
    assert str(two["release"])[:12] in status.stdout
    rolled = json.loads(edgekit("rollback", address, "tridigit", "--json").stdout)
    assert (rolled["release"], rolled["previous"]) == (one["release"], two["release"])
    assert any("hashed" in note for note in rolled["notes"])

    file = tmp_path / "report.json"
    words = ("--on", address, "--runner", RUNNER, *QUICK, "--json", file, "--html", tmp_path / "report.html")
    profiled = edgekit("profile", "tridigit", *words)
    assert profiled.returncode == 0, profiled.stderr
    report = load_report(file.read_bytes(), "report")
    names = [cell.name for cell in report.cells]
    assert names[:2] == ["xnnpack threads=2", "cpu threads=2"]
    assert names[2:] == ["gpu, fell back to the CPU", "nnapi, fell back to the CPU"]
    assert profiled.stderr.count("FALLBACK: ") == 2
    assert "9 of 9 nodes" in report.cells[0].settings["placement"]
    assert (report.subject.release, report.environment.architecture) == (one["release"], ABIS[arch])
    assert report.environment.os.startswith("Android 14")
    assert report.operators[1].placement == {"CPU": 9}
    assert all(phase.peak_bytes for phase in report.memory)
    assert report.conditions.battery.text is None
    assert "dumpsys" in str(report.conditions.battery.reason)
    assert list((phone.root / HOME / "profiles").iterdir()) == []
    assert edgekit("remove", address, "tridigit").returncode == 0


def test_a_phone_without_a_runner_refuses_and_says_what_was_not_checked(
    connected: Callable[..., tuple[LabDevice, str]], bundles: dict[str, Path]
) -> None:
    _, address = connected()
    refused = edgekit("deploy", bundles["amd64"], address)
    assert refused.returncode == 6
    for word in ("needs a runner", "--runner FILE", "ANDROID_HOME", "--unverified"):
        assert word in refused.stdout
    done = edgekit("deploy", bundles["amd64"], address, "--unverified")
    assert done.returncode == 0
    assert "NOT checked" in done.stdout
    assert "golden check passed" not in done.stdout
    assert "not verified" in edgekit("status", address).stdout
    profile = edgekit("profile", "tridigit", "--on", address)
    assert (profile.returncode, "needs a runner" in profile.stderr) == (6, True)


def changed_runner(folder: Path, before: str, after: str) -> Path:
    """The stand-in with one line changed."""
    text = RUNNER.read_text()
    assert before in text
    path = folder / "benchmark_model"
    path.write_text(text.replace(before, after))
    return path


def test_wrong_numbers_on_the_phone_are_found_and_the_release_before_runs_on(
    connected: Callable[..., tuple[LabDevice, str]], bundles: dict[str, Path], tmp_path: Path
) -> None:
    """Turned outputs are exit 8, and remembered; a runner that is too old or cannot start blames no release."""
    phone, address = connected()
    old = changed_runner(tmp_path, "OLD = False", "OLD = True")
    too_old = edgekit("deploy", bundles["amd64"], address, "--runner", old)
    assert too_old.returncode == 6
    assert "too old for the golden check: it does not know --output_filepath=" in too_old.stdout
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x00\x01 not a program")
    no_start = edgekit("deploy", bundles["amd64"], address, "--runner", broken)
    assert (no_start.returncode, "cannot be started there" in no_start.stdout) == (6, True), no_start.stdout
    assert "failed its check" not in edgekit("status", address).stdout

    good = outcome(edgekit("deploy", bundles["amd64"], address, "--runner", RUNNER, "--json"))
    assert good["error"] is None
    wrong = changed_runner(
        tmp_path, 'get_tensor(detail["index"]).tobytes()', 'get_tensor(detail["index"])[::-1].tobytes()'
    )
    wrong.write_text(wrong.read_text().replace("[::-1]", "[..., ::-1]"))
    bad = edgekit("deploy", bundles["amd64-float"], address, "--runner", wrong)
    assert bad.returncode == 8
    assert "FAIL" in bad.stdout
    assert f"the device runs release {str(good['release'])[:12]}" in bad.stdout
    status = edgekit("status", address).stdout
    assert "failed its check" in status
    assert str(good["release"])[:12] in status
    assert list((phone.root / HOME / "incoming").iterdir()) == []


def test_a_silent_cut_in_mid_push_ends_in_time_and_the_next_deployment_converges(
    connected: Callable[..., tuple[LabDevice, str]], bundles: dict[str, Path], tmp_path: Path
) -> None:
    """adb hangs for ever and says `device` all the while; every call here has its deadline."""
    phone, address = connected()
    phone.cap_bandwidth(0.2)

    def cut() -> None:
        incoming = phone.root / HOME / "incoming"
        while not (incoming.is_dir() and any(incoming.iterdir())):
            time.sleep(0.05)
        phone.cut_link()

    cutter = threading.Thread(target=cut)
    cutter.start()
    began_s = time.monotonic()
    done = edgekit("deploy", bundles["amd64"], address, "--unverified")
    took_s = time.monotonic() - began_s
    cutter.join()
    assert done.returncode == 7, done.stdout
    assert "the device runs no release" in done.stdout
    print(f"\nerror after {took_s:.0f} s: {done.stdout.strip()[:200]}")
    assert took_s < 180
    phone.restore_link()
    phone.uncap_bandwidth()
    again = outcome(edgekit("deploy", bundles["amd64"], address, "--unverified", "--json"))
    assert (again["error"], again["switched"]) == (None, True)


def test_a_profile_survives_a_silent_cut(
    connected: Callable[..., tuple[LabDevice, str]], bundles: dict[str, Path], tmp_path: Path
) -> None:
    """The process that was cut is repeated; the report is whole."""
    phone, address = connected()
    assert edgekit("deploy", bundles["amd64"], address, "--unverified").returncode == 0

    def cut() -> None:
        profiles = phone.root / HOME / "profiles" / "tridigit"
        while not (profiles / "stdout").exists():
            time.sleep(0.05)
        phone.cut_link()
        time.sleep(5)
        phone.restore_link()

    cutter = threading.Thread(target=cut)
    cutter.start()
    file = tmp_path / "report.json"
    words = ("--on", address, "--runner", RUNNER, *QUICK, "--no-operators", "--json", file)
    done = edgekit("profile", "tridigit", *words)
    cutter.join()
    assert done.returncode == 0, done.stderr
    assert load_report(file.read_bytes(), "report").complete
    for option in ("--resume", "--callers=2"):
        assert edgekit("profile", "tridigit", "--on", address, "--runner", RUNNER, option).returncode == 4


def test_a_source_that_is_not_deployed_is_profiled_and_leaves_nothing(
    connected: Callable[..., tuple[LabDevice, str]], bundles: dict[str, Path], tmp_path: Path
) -> None:
    """A bundle by its path is brought under a name of its own: a whole report, then nothing of it is left."""
    phone, address = connected()
    file = tmp_path / "report.json"
    words = ("--on", address, "--runner", RUNNER, *QUICK, "--no-operators", "--json", file)
    done = edgekit("profile", bundles["amd64"], *words)
    assert done.returncode == 0, done.stderr
    report = load_report(file.read_bytes(), "report")
    assert report.complete
    assert len(report.cells) == 4
    assert edgekit("status", address, "tridigit").returncode != 0
    home = phone.root / HOME
    left = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    assert [name for name in left if "releases/" in name or "profiles/" in name] == []


def test_the_only_attached_phone_needs_no_serial(
    connected: Callable[..., tuple[LabDevice, str]],
    new_phone: Callable[..., LabDevice],  # noqa: F811
) -> None:
    """`adb` alone is the only device; two are refused with the way out."""
    phone, _ = connected()
    alone = edgekit("doctor", "adb")
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.startswith("adb: Virtual")
    other = new_phone("amd64")
    two = edgekit("status", "adb")
    assert two.returncode == 7
    assert "give the serial: adb:SERIAL" in two.stderr
    for serial in (phone.serial, other.serial):
        assert edgekit("status", f"adb:{serial}").returncode == 0
