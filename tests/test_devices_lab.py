"""The command line against a real sshd and a real adbd: exit codes and remedies as promised."""

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
from typing import Any

import pytest
from lab.adb import AdbServer
from lab.device import Device as LabDevice
from lab.fixtures import adb_server, amd64_device, android, fake_adbd, lab, new_device  # noqa: F401
from lab.lab import Lab
from packing import SEVEN_PNG, SEVEN_WAV
from test_deploy_layers import make_wheel

pytestmark = pytest.mark.lab

HOME = "home/pi/.local/share/edgekit"
WORDS = ("--image", SEVEN_PNG, "--text", "seven", "--text", "two")


def edgekit(*arguments: object, timeout_s: float = 900, **environ: str) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own, as a person starts it."""
    return subprocess.run(
        [sys.executable, "-m", "edgekit", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={**os.environ, **environ},
    )


@pytest.fixture
def over_ssh(amd64_device: LabDevice, monkeypatch: pytest.MonkeyPatch) -> tuple[LabDevice, str]:  # noqa: F811
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(amd64_device.ssh_config))
    return amd64_device, f"ssh:{amd64_device.host}"


@pytest.fixture
def over_adb(android: LabDevice, monkeypatch: pytest.MonkeyPatch) -> tuple[LabDevice, str]:  # noqa: F811
    for name, value in android.adb.environ.items():
        monkeypatch.setenv(name, value)
    return android, f"adb:{android.serial}"


def test_one_command_then_predict_and_profile_through_a_cut_link(
    over_ssh: tuple[LabDevice, str], tridigit: Path
) -> None:
    """From nothing to a checked release; again 0 bytes; predict as here; a profile survives a cut of the link."""
    lab_device, address = over_ssh
    first = edgekit("deploy", tridigit, address, "--json")
    assert first.returncode == 0, first.stdout + first.stderr
    seconds = []
    for _ in range(3):
        began_s = time.monotonic()
        again = json.loads(edgekit("deploy", tridigit, address, "--json").stdout)["devices"][0]
        seconds.append(time.monotonic() - began_s)
        assert (again["sent_bytes"], again["switched"], again["error"]) == (0, False, None)
    print(f"\nagain: 0 bytes sent, {min(seconds):.2f} s (fastest of 3, on a machine that does other things)")

    assert edgekit("predict", "tridigit", "--on", address, *WORDS).stdout == edgekit("predict", tridigit, *WORDS).stdout
    assert edgekit("predict", "tridigit", "--on", address, "--audio", SEVEN_WAV).returncode == 0
    refused = edgekit("predict", "tridigit", "--on", address, "--image", __file__)
    assert (refused.returncode, refused.stdout) == (4, "")
    assert __file__ in refused.stderr
    assert list((lab_device.root / HOME / "incoming").iterdir()) == []

    def cut() -> None:
        progress = lab_device.root / HOME / "profiles" / "tridigit" / "progress.txt"
        while not (progress.exists() and b" runs" in progress.read_bytes()):
            time.sleep(0.1)
        lab_device.cut_link()
        time.sleep(25)  # longer than ssh waits for a sign of life
        lab_device.restore_link()

    cutter = threading.Thread(target=cut)
    cutter.start()
    quick = ("--runs", 64, "--seconds", 5, "--cold-starts", 1, "--no-operators")
    profiled = edgekit("profile", "tridigit", "--on", address, *quick, "--json", "-")
    cutter.join()
    assert profiled.returncode == 0, profiled.stderr
    assert "the link is cut" in profiled.stderr
    assert "the link is back" in profiled.stderr
    report = json.loads(profiled.stdout)
    assert report["complete"] is True
    assert report["cells"][0]["latency_ms"]["n"] >= 64
    assert list((lab_device.root / HOME / "profiles").iterdir()) == []


def test_a_device_behind_a_jump_host(over_ssh: tuple[LabDevice, str], tmp_path: Path) -> None:
    """The person's own ssh configuration holds: 127.0.0.1 is this device only as seen from itself."""
    lab_device, address = over_ssh
    config = lab_device.ssh_config.read_text()
    (where,) = re.findall(r"HostName (\S+)", config)
    behind = config.replace(f"Host {lab_device.host}", "Host behind").replace(f"HostName {where}", "HostName 127.0.0.1")
    jump = f"  ProxyJump {lab_device.host}\n  HostKeyAlias {where}\n"
    (tmp_path / "config").write_text(config + behind + jump)
    through = {"EDGEKIT_SSH_CONFIG": str(tmp_path / "config")}
    assert edgekit("status", "ssh:behind", **through).stdout == "ssh:behind: no apps\n"
    facts = json.loads(edgekit("doctor", "ssh:behind", "--json", **through).stdout)["facts"]
    assert facts["boot_id"] == json.loads(edgekit("doctor", address, "--json").stdout)["facts"]["boot_id"]
    assert facts["root"] == f"/{HOME}"
    (tmp_path / "config").write_text(config + behind + f"  HostKeyAlias {where}\n")
    direct = edgekit("status", "ssh:behind", **through)
    assert direct.returncode == 7, direct.stdout


def test_a_profile_brings_the_wheels_that_deploy_would_bring(
    over_ssh: tuple[LabDevice, str], tridigit: Path, tmp_path: Path
) -> None:
    """--wheel gets into the layer of a profile and runs there; --offline is the only source of wheels."""
    lab_device, address = over_ssh
    (tmp_path / "empty").mkdir()
    refused = edgekit("profile", tridigit, "--on", address, "--offline", tmp_path / "empty")
    assert refused.returncode == 6
    assert "no wheel of" in refused.stderr
    marker = b"open('/home/pi/seen', 'w').close()\n"
    wheel = make_wheel(tmp_path / "vendor", "marker", {"sitecustomize.py": marker})
    quick = ("--runs", 64, "--seconds", 0.5, "--cold-starts", 0, "--no-operators")
    done = edgekit("profile", tridigit, "--on", address, "--wheel", wheel, *quick, "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["complete"] is True
    assert (lab_device.root / "home/pi/seen").exists()
    assert json.loads(edgekit("status", address, "--json").stdout)["apps"] == []
    here = edgekit("profile", tridigit, "--wheel", wheel)
    assert here.returncode == 4
    assert "--on DEVICE" in here.stderr


def test_two_devices_in_one_command(
    new_device: Callable[..., LabDevice],  # noqa: F811
    lab: Lab,  # noqa: F811
    tridigit: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both at once, the summary in the order given; one that is switched off is said and stops nobody."""
    fleet = [new_device("amd64"), new_device("amd64")]
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(lab.ssh_config(tmp_path / "ssh_config")))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name, device in zip(("kitchen", "garage"), fleet):
        assert edgekit("devices", "add", name, f"ssh:{device.host}").returncode == 0
    fleet[1].kill()
    one = edgekit("deploy", tridigit, "garage", "kitchen", "--json")
    outcomes = json.loads(one.stdout)["devices"]
    assert [(o["device"], o["exit_code"]) for o in outcomes] == [("garage", 7), ("kitchen", 0)]
    assert one.returncode == 7
    fleet[1].boot()
    both = edgekit("deploy", tridigit, "kitchen", "garage")
    assert both.returncode == 0, both.stdout + both.stderr
    assert [line.split(":")[0] for line in both.stdout.splitlines()] == ["kitchen", "garage"]


def test_a_phone_is_deployed_to_unverified_only(
    over_adb: tuple[LabDevice, str], tridigit: Path, tridigit_tflite: Path
) -> None:
    """No Python there: exit 6 with the way out; with it deploy, status, rollback and remove work over a real adbd."""
    phone, address = over_adb
    refused = edgekit("deploy", tridigit, address)
    assert refused.returncode == 6
    assert "--unverified" in refused.stdout + refused.stderr
    one = json.loads(edgekit("deploy", tridigit, address, "--unverified", "--json").stdout)["devices"][0]
    assert one["error"] is None
    assert any("not verified" in note for note in one["notes"])
    again = json.loads(edgekit("deploy", tridigit, address, "--unverified", "--json").stdout)["devices"][0]
    assert (again["sent_bytes"], again["switched"]) == (0, False)
    two = json.loads(edgekit("deploy", tridigit_tflite, address, "--unverified", "--json").stdout)["devices"][0]
    assert two["switched"]
    status = edgekit("status", address)
    assert status.returncode == 0
    assert "not verified" in status.stdout
    rolled = json.loads(edgekit("rollback", address, "tridigit", "--json").stdout)
    assert (rolled["release"], rolled["previous"]) == (one["release"], two["release"])
    for verb in (("predict", "tridigit", "--text", "x"), ("profile", "tridigit")):
        done = edgekit(*verb, "--on", address)
        assert done.returncode == 6
        assert "no Python" in done.stderr
    phone.fill_disk(1 << 20)
    full = edgekit("deploy", tridigit, address, "--unverified", "--app", "other")
    assert full.returncode == 8
    assert "must stay free" in full.stdout
    assert "the device runs no release" in full.stdout
    phone.free_disk()
    assert edgekit("remove", address, "tridigit").returncode == 0
    assert edgekit("status", address).stdout.strip() == f"{address}: no apps"


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"unauthorized": True}, ("allow USB debugging", "failed to")),
        ({"offline": True}, ("plug it in again", "failed to", "network debugging", "no answer")),
    ],
    ids=["unauthorized", "offline"],
)
def test_a_phone_that_cannot_be_used_is_exit_7_with_a_remedy(
    fake_adbd: Callable[..., Any],  # noqa: F811
    adb_server: AdbServer,  # noqa: F811
    tridigit: Path,
    behaviour: dict[str, bool],
    words: tuple[str, ...],
) -> None:
    phone = fake_adbd(**behaviour)
    for verb in (("status",), ("doctor",), ("deploy", tridigit)):
        done = edgekit(*verb, f"adb:{phone.serial}", **adb_server.environ)
        assert done.returncode == 7
        assert any(word in done.stdout + done.stderr for word in words), done.stdout + done.stderr
