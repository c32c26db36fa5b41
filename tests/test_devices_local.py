"""Devices by name, predict and profile on one, several in one command: a folder of this machine is the device."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from packing import SEVEN_PNG, SEVEN_WAV
from test_cli import run

from edgekit.errors import InputError, TransportError
from edgekit.operations import aliases
from edgekit.operations import profile_there as there
from edgekit.operations.service import restart_command, unit_text

QUICK = ("--runs", 64, "--seconds", 1, "--cold-starts", 0, "--no-operators")


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "edgekit" / "devices.toml"


@pytest.fixture
def device(tridigit: Path, tmp_path: Path) -> str:
    address = f"local:{tmp_path / 'device'}"
    assert run("deploy", tridigit, address).exit_code == 0
    return address


def test_names_of_devices(own_config: Path, tmp_path: Path, tridigit: Path) -> None:
    """A name stands for the address wherever a device is expected; unknown and wrong ones are exit 4 with a way out."""
    assert run("devices").stdout.strip() == ""
    assert run("devices", "add", "kitchen", f"local:{tmp_path / 'kitchen'}").exit_code == 0
    run("devices", "add", "pi4", "pi@raspberrypi.local")
    assert json.loads(run("devices", "--json").stdout) == {
        "kitchen": f"local:{tmp_path / 'kitchen'}",
        "pi4": "pi@raspberrypi.local",
    }
    assert own_config.read_text().splitlines()[1] == 'pi4 = "pi@raspberrypi.local"'
    assert run("deploy", tridigit, "kitchen").exit_code == 0
    assert "tridigit: runs tridigit" in run("status", "kitchen").stdout
    unknown = run("status", "garage")
    assert (unknown.exit_code, unknown.stdout) == (4, "")
    assert "edgekit devices add garage" in unknown.stderr
    assert run("devices", "add", "x", "not an address").exit_code == 4
    assert run("devices", "add", "a b", "pi@host").exit_code == 4
    assert run("devices", "remove", "pi4").exit_code == 0
    assert run("devices", "remove", "pi4").exit_code == 4


def test_a_devices_file_by_another_hand(own_config: Path) -> None:
    """Comments are fine; what is no name or no address is refused by file and name."""
    own_config.parent.mkdir(parents=True)
    own_config.write_text('# mine\nlab = "ssh:lab.example:2222"\n')
    assert aliases.address_of("lab") == "ssh:lab.example:2222"
    for wrong in ("lab = 7\n", 'lab = "nonsense"\n', 'lab = "a@b', '[table]\nx = "a@b"\n'):
        own_config.write_text(wrong)
        with pytest.raises(InputError):
            aliases.known_devices()


def test_a_folders_name_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    aliases.add_device("here", "local:./device")
    assert aliases.address_of("here") == f"local:{tmp_path}/device"


def test_several_devices_in_one_command(tridigit: Path, tmp_path: Path) -> None:
    """In the order given, one that fails does not stop the others; its exit code is the command's."""
    names = [f"local:{tmp_path / name}" for name in "abc"]
    (tmp_path / "b").write_text("in the way")
    done = run("deploy", tridigit, *names, "--json")
    outcomes = json.loads(done.stdout)["devices"]
    assert [o["device"] for o in outcomes] == names
    assert [bool(o["error"]) for o in outcomes] == [False, True, False]
    assert done.exit_code == outcomes[1]["exit_code"] != 0
    for name in (names[0], names[2]):
        assert json.loads(run("status", name, "--json").stdout)["apps"][0]["problem"] is None
    assert run("deploy", tridigit, names[0], names[0]).exit_code == 4


def test_predict_on_a_device_is_predict_here(device: str, tridigit: Path, tmp_path: Path) -> None:
    """The same lines, the same JSON; nothing of the inputs stays there."""
    words = ("--image", SEVEN_PNG, "--text", "seven", "--text", "two")
    assert run("predict", "tridigit", "--on", device, *words).stdout == run("predict", tridigit, *words).stdout
    there_json = json.loads(run("predict", "tridigit", "--on", device, *words, "--json").stdout)
    here_json = json.loads(run("predict", tridigit, *words, "--json").stdout)
    assert {k: v for k, v in there_json.items() if k != "timings"} == {
        k: v for k, v in here_json.items() if k != "timings"
    }
    assert run("predict", "tridigit", "--on", device, "--audio", SEVEN_WAV).exit_code == 0
    assert run("predict", "tridigit", "--on", device, "--text=--help").exit_code == 0
    assert list((tmp_path / "device" / "incoming").iterdir()) == []


def test_exit_codes_of_the_device_are_kept(device: str, tmp_path: Path) -> None:
    """A bad picture is 4, an app that is not there 3; the file is called as the person called it, and is removed."""
    bad = tmp_path / "bad picture's.jpg"
    bad.write_bytes(b"not a picture")
    refused = run("predict", "tridigit", "--on", device, "--image", bad)
    assert (refused.exit_code, refused.stdout) == (4, "")
    assert str(bad) in refused.stderr
    assert "incoming" not in refused.stderr
    assert list((tmp_path / "device" / "incoming").iterdir()) == []
    missing = run("predict", "nothing", "--on", device, "--text", "x")
    assert missing.exit_code == 3
    assert f"edgekit deploy SOURCE {device} --app nothing" in missing.stderr
    assert run("predict", "tridigit", "--on", device, "--image", tmp_path / "none.png").exit_code == 4


def test_profile_an_app_on_a_device(device: str, tmp_path: Path) -> None:
    """Same verb, same schema: the report names the release, and nothing stays there."""
    state = json.loads(run("status", device, "--json").stdout)["apps"][0]
    done = run("profile", "tridigit", "--on", device, *QUICK, "--image", SEVEN_PNG, "--text", "seven", "--json", "-")
    report = json.loads(done.stdout)
    assert done.exit_code == 0
    assert report["subject"]["release"] == state["current"]
    assert report["complete"] is True
    assert report["cells"][0]["latency_ms"]["n"] >= 64
    assert "predict" in done.stderr
    assert list((tmp_path / "device" / "profiles").iterdir()) == []


def test_profile_of_something_not_deployed(device: str) -> None:
    """It comes as a temporary app that is gone afterwards; `current` is what it was."""
    before = run("status", device, "--json").stdout
    done = run("profile", "tridigit", "--on", device, "--variant", "fp32", "--variant", "int8", *QUICK, "--json", "-")
    # 'tridigit' is an app there: its variants cannot be chosen any more.
    assert done.exit_code == 4
    recipe = Path(__file__).resolve().parent.parent / "models" / "tridigit"
    done = run("profile", recipe, "--on", device, "--variant", "fp32", "--variant", "int8", *QUICK, "--json", "-")
    assert done.exit_code == 0, done.stderr
    assert {cell["name"] for cell in json.loads(done.stdout)["cells"]} == {"fp32", "int8"}
    assert run("status", device, "--json").stdout == before


def test_a_profile_goes_on_when_nobody_follows(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is cut for good: the hint says --resume, which follows and fetches; nothing measured is lost."""
    monkeypatch.setattr(there, "CUT_S", 0.5)
    real, seen = there.run_script, []

    def cut(on: Any, script: str, *arguments: Any, **named: Any) -> Any:
        seen.append(script)
        if there._BEGIN in seen and there._LOOK in seen[seen.index(there._BEGIN) :]:  # it was begun there
            raise TransportError("the link is down")
        return real(on, script, *arguments, **named)

    monkeypatch.setattr(there, "run_script", cut)
    lost = run("profile", "tridigit", "--on", device, *QUICK)
    assert lost.exit_code == 7
    assert f"edgekit profile tridigit --on {device} --resume" in lost.stderr
    monkeypatch.setattr(there, "run_script", real)
    resumed = run("profile", "tridigit", "--on", device, "--resume", "--json", "-")
    assert resumed.exit_code == 0, resumed.stderr
    assert json.loads(resumed.stdout)["complete"] is True
    again = run("profile", "tridigit", "--on", device, "--resume")
    assert again.exit_code == 4
    assert "leave out --resume" in again.stderr


def test_a_profile_that_dies_reports_what_it_measured(device: str, tmp_path: Path) -> None:
    """Killed there (out of memory, reboot): exit 7, and a report that says it is cut short."""
    agent = tmp_path / "device" / "profiles" / "tridigit" / "agent.json"
    journal = agent.with_name("journal.jsonl")

    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if journal.exists() and journal.read_bytes().count(b'"kind":"runs"') > 1:
                os.killpg(json.loads(agent.read_bytes())["pid"], signal.SIGKILL)
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    done = run("profile", "tridigit", "--on", device, *QUICK[:2], "--seconds", 60, *QUICK[4:], "--json", "-")
    killer.join()
    assert done.exit_code == 7
    assert "process is gone" in done.stderr
    report = json.loads(done.stdout)
    assert report["complete"] is False
    assert report["cells"][0]["latency_ms"]["n"] > 1


def test_a_service_is_a_unit_that_runs_the_command() -> None:
    """systemd.service(5): in double quotes, backslash, quote, percent and dollar stand for themselves when doubled."""
    text = unit_text("cam", "python3 -c \"print('50 %')\" $HOME \\n")
    assert 'ExecStart=/bin/sh -c "python3 -c \\"print(\'50 %%\')\\" $$HOME \\\\n"\n' in text
    assert "Restart=always" in text
    assert "systemctl $user restart edgekit-cam.service" in restart_command("cam")
    for wrong in ("", "a\nExecStartPre=b"):
        with pytest.raises(InputError):
            unit_text("cam", wrong)


def test_service_and_restart_are_one_or_the_other(tridigit: Path, tmp_path: Path) -> None:
    done = run("deploy", tridigit, f"local:{tmp_path / 'd'}", "--service", "true", "--restart", "true")
    assert done.exit_code == 4
