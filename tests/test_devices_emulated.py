"""From nothing to a checked release on each emulated board by one command, and the host's answers there.

The proof that a device gives the host's answers is the golden check inside the release (DESIGN's tolerances), which
`deploy` runs there before it switches; `predict --on` is compared besides. No time is asserted: an emulator has none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab.device import Device as LabDevice
from lab.fixtures import lab, new_device  # noqa: F401
from packing import SEVEN_PNG, SEVEN_WAV

pytestmark = [pytest.mark.lab, pytest.mark.lab_emulated]

HOME = "home/pi/.local/share/edgekit"
LIMIT_S = 3600
RESULT_TOLERANCE = {"float32": 1e-3, "reduced": 5e-2}
"""DESIGN: float32 graphs 1e-3 of the output's scale; fp16, int8 and int4 graphs 5e-2 and the same decision."""


def edgekit(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own, as a person starts it."""
    return subprocess.run(
        [sys.executable, "-m", "edgekit", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env={**os.environ, **environ},
    )


@pytest.fixture
def boot(new_device: Callable[..., LabDevice], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[LabDevice, str]]:  # noqa: F811
    def make(arch: str, **options: str) -> tuple[LabDevice, str]:
        device = new_device(arch, **options)
        monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(device.ssh_config))
        return device, f"ssh:{device.host}"

    return make


def bring(address: str, source: object, *options: object) -> dict[str, Any]:
    """One command; every device's outcome must be a switch after a golden check that passed there."""
    done = edgekit("deploy", source, address, *options, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (outcome,) = json.loads(done.stdout)["devices"]
    assert outcome["error"] is None
    assert "check" in outcome["steps"]
    return dict(outcome)


def answers(app: str, address: str, bundle: Path, *words: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the device and this machine say, without the times."""
    there = edgekit("predict", app, "--on", address, *words, "--json")
    assert there.returncode == 0, there.stderr
    here = edgekit("predict", bundle, *words, "--json")
    found, truth = json.loads(there.stdout), json.loads(here.stdout)
    for document in (found, truth):
        document.pop("timings")
    return found, truth


def numbers(value: Any) -> list[float]:
    """Every number in a document, in order of the keys."""
    if isinstance(value, dict):
        return [n for key in sorted(value) for n in numbers(value[key])]
    if isinstance(value, list):
        return [n for item in value for n in numbers(item)]
    return [float(value)] if isinstance(value, (int, float)) else []


def assert_close(found: dict[str, Any], truth: dict[str, Any], tolerance: float) -> None:
    """Each field within the tolerance of its own scale, and the same decision."""
    assert found.keys() == truth.keys()
    assert found.get("label") == truth.get("label")
    for key in truth:
        mine, theirs = numbers(found[key]), numbers(truth[key])
        scale = max((abs(n) for n in theirs), default=0.0)
        assert len(mine) == len(theirs)
        assert max((abs(a - b) for a, b in zip(mine, theirs)), default=0.0) <= tolerance * scale, key


def package(source: object, target: str, output: Path, *options: object) -> Path:
    done = edgekit("package", source, "--target", target, "-o", output, *options)
    assert done.returncode == 0, done.stderr
    return output


BOARDS = [
    pytest.param("arm64", {"cpu": "cortex-a72", "board": "pi4"}, "raspberry-pi-4", id="cortex-a72"),
    pytest.param("arm64", {"cpu": "cortex-a53", "board": "pi3"}, "raspberry-pi-3", id="cortex-a53"),
    pytest.param("arm64", {"cpu": "cortex-a76", "board": "pi5"}, "raspberry-pi-5", id="cortex-a76"),
    pytest.param("armhf", {"board": "zero2w"}, "raspberry-pi-zero-2w-32", id="armhf-cortex-a7"),
]


@pytest.mark.parametrize(("arch", "options", "target"), BOARDS)
def test_from_nothing_by_one_command(
    boot: Callable[..., tuple[LabDevice, str]], tmp_path: Path, arch: str, options: dict[str, str], target: str
) -> None:
    """Layer and model by one `edgekit deploy tridigit DEVICE`; doctor recognises the board; predict answers as here."""
    _, address = boot(arch, **options)
    diagnosis = json.loads(edgekit("doctor", address, "--json").stdout)
    assert diagnosis["target"] == target
    assert [f for f in diagnosis["findings"] if f["level"] == "problem"] == []
    outcome = bring(address, "tridigit")
    assert outcome["switched"]
    bundle = package("tridigit", target, tmp_path / "t.edgekit")
    found, truth = answers("tridigit", address, bundle, "--image", SEVEN_PNG, "--text", "seven", "--text", "two")
    assert found["label"] == "seven"
    assert_close(found, truth, RESULT_TOLERANCE["reduced"])
    print(f"\n{target}: {outcome['sent_bytes'] / 2**20:.0f} MiB, checked there")


def test_clip_and_silero_on_a_pi_4(boot: Callable[..., tuple[LabDevice, str]], tmp_path: Path, shared: Path) -> None:
    """A sound model with state, and the hub's CLIP in float32 and int8, give the host's answers on cortex-a72."""
    _, address = boot("arm64", cpu="cortex-a72", board="pi4")
    _silero(address, tmp_path)
    for variant in ("fp32", "quantized"):
        _clip(address, variant, tmp_path, shared)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "options", "target"), BOARDS[:3])
def test_every_clip_on_every_64_bit_board(
    boot: Callable[..., tuple[LabDevice, str]],
    tmp_path: Path,
    shared: Path,
    arch: str,
    options: dict[str, str],
    target: str,
) -> None:
    """float32, fp16, quantized and q4, and silero-vad, on cortex-a72, a53 and a76."""
    _, address = boot(arch, **options)
    _silero(address, tmp_path)
    for variant in ("fp32", "fp16", "quantized", "q4"):
        _clip(address, variant, tmp_path, shared)


def _silero(address: str, folder: Path) -> None:
    bundle = package("silero-vad", "raspberry-pi-4", folder / "silero.edgekit")
    bring(address, bundle)
    found, truth = answers("silero-vad", address, bundle, "--audio", SEVEN_WAV)
    assert_close(found, truth, RESULT_TOLERANCE["float32"])


def _clip(address: str, variant: str, folder: Path, shared: Path) -> None:
    model = shared / "zoo" / "clip" / "model"
    bundle = package(model, "raspberry-pi-4", folder / f"{variant}.edgekit", "--variant", variant)
    bring(address, bundle, "--app", f"clip-{variant}")
    words = ("--image", SEVEN_PNG, "--text", "a cat", "--text", "a dog")
    found, truth = answers(f"clip-{variant}", address, bundle, *words)
    assert_close(found, truth, RESULT_TOLERANCE["float32" if variant == "fp32" else "reduced"])


def test_profile_on_a_pi_survives_a_cut_link(
    boot: Callable[..., tuple[LabDevice, str]],
) -> None:
    """The agent goes on there, following goes on here: a whole report with the board's sensors in it."""
    device, address = boot("arm64", cpu="cortex-a72", board="pi4")
    bring(address, "tridigit")
    progress = device.root / HOME / "profiles" / "tridigit" / "progress.txt"

    def cut() -> None:
        while not (progress.exists() and b"load" in progress.read_bytes()):
            time.sleep(0.2)
        device.cut_link()
        time.sleep(25)  # longer than ssh waits for a sign of life
        device.restore_link()

    cutter = threading.Thread(target=cut)
    cutter.start()
    quick = ("--runs", 64, "--seconds", 5, "--cold-starts", 0, "--no-operators")
    done = edgekit("profile", "tridigit", "--on", address, *quick, "--json", "-")
    cutter.join()
    assert done.returncode == 0, done.stderr
    assert "the link is cut" in done.stderr
    report = json.loads(done.stdout)
    assert report["complete"] is True
    assert "Raspberry Pi 4" in report["environment"]["board"]
    assert report["cells"][0]["latency_ms"]["n"] >= 64
