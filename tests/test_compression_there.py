"""Proves: models are compared by what a device measures, scores stay here, and nothing stays there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from lab.device import Device as LabDevice
from lab.fixtures import amd64_device, lab, new_device  # noqa: F401
from packing import TRIDIGIT, WORDS, pack
from PIL import Image
from test_cli import run

QUICK = ("--runs", 20, "--seconds", 0)


@pytest.fixture(scope="module")
def digits(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 of the test pictures as FOLDER/<word>/<n>.png."""
    data = np.load(shared / "data" / "tridigit" / "mnist_t10k_first8000.npz")
    folder = tmp_path_factory.mktemp("digits")
    for i in range(7000, 7040):
        place = folder / WORDS[int(data["labels"][i])]
        place.mkdir(exist_ok=True)
        Image.fromarray(data["images"][i]).save(place / f"{i}.png")
    return folder


def test_compared_on_a_device(tridigit: Path, digits: Path, tmp_path: Path) -> None:
    """A bundle and two variants of a recipe: latency of each in turn and a fresh process's memory from the device,
    scores as without one; the page draws both fronts; apps there are what they were."""
    address, page = f"local:{tmp_path / 'device'}", tmp_path / "front.html"
    assert run("deploy", tridigit, address).exit_code == 0
    before = run("status", address, "--json").stdout
    words = ("compare", tridigit, f"{TRIDIGIT}@int8", f"{TRIDIGIT}@tflite-int8", "--data", digits)
    done = run(*words, "--on", address, *QUICK, "--json", "--html", page, "--max-drop", "50%")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["device"], found["samples"], found["measure"]) == (address, 40, "accuracy")
    assert found["board"]
    here = json.loads(run(*words, "--no-latency", "--json").stdout)
    assert here["device"] is None
    assert [c["score"] for c in found["candidates"]] == [c["score"] for c in here["candidates"]]
    assert [c["latency"] for c in here["candidates"]] == [None, None, None]
    assert found["candidates"][0]["latency"]["ratio"] == 1.0
    for one in found["candidates"]:
        assert one["latency"]["runs"] >= 20
        assert one["latency"]["ratio_low"] <= one["latency"]["ratio"] <= one["latency"]["ratio_high"]
        assert "graph:image" in one["latency"]["stages_ms"]
        assert one["peak_bytes"] > 20 << 20  # an interpreter with numpy and a runtime
    text = page.read_text("utf-8")
    assert "Latency and score" in text
    assert re.search(rf"latency and memory: {re.escape(address)} \([^)]+\); scores: this machine", text)
    assert any(f"golden samples on {address}" in note for note in found["notes"])
    assert run("status", address, "--json").stdout == before
    assert list((tmp_path / "device" / "profiles").iterdir()) == []


def test_devices_that_cannot_measure(tridigit: Path, digits: Path, tmp_path: Path) -> None:
    """Unreachable is 7, a bundle that does not fit is 6 and is named, contradictions are 4: before anything is run."""
    other = tmp_path / "tflite.edgekit"
    pack(TRIDIGIT / "recipe.toml", other, "tflite-int8")
    words = ("compare", tridigit, other, "--data", digits, *QUICK)
    gone = run(*words, "--on", "ssh:nobody@127.0.0.1:9")
    assert gone.exit_code == 7, gone.stderr
    assert gone.stdout == ""
    address = f"local:{tmp_path / 'device'}"
    unfit = run(*words, "--on", address, "--target", "raspberry-pi-4-32")
    assert unfit.exit_code == 6, unfit.stderr
    assert "tridigit does not fit" in unfit.stderr
    assert "needs onnxruntime" in unfit.stderr
    for wrong in (("--no-latency",), ("--target", "no-such-board")):
        assert run(*words, "--on", address, *wrong).exit_code == 4
    assert run(*words, "--on", "no-such-name").exit_code == 4
    assert run(*words, "--offline", tmp_path).exit_code == 4
    assert "samples" not in gone.stderr + unfit.stderr
    assert not (tmp_path / "device" / "apps").exists() or not list((tmp_path / "device" / "apps").iterdir())


@pytest.mark.lab
def test_compared_over_ssh(
    amd64_device: LabDevice,  # noqa: F811
    tridigit: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over a real sshd, to a device where nothing is installed: both runtimes come with the layer and go with it."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(amd64_device.ssh_config))
    address = f"ssh:{amd64_device.host}"
    words = ("compare", tridigit, f"{TRIDIGIT}@tflite-int8", "--data", digits, "--on", address, *QUICK)
    done = run(*words, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["device"] == address
    assert all(c["latency"]["runs"] >= 20 and c["peak_bytes"] > 20 << 20 for c in found["candidates"])
    assert json.loads(run("status", address, "--json").stdout)["apps"] == []
