"""An app on its device: switched under load without a mixed answer, held against removal, clear about what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploying import local_device
from packing import SEVEN_PNG, TRIDIGIT, changed_recipe, pack

import edgekit
from edgekit.devices import NO_LAYER, Checks, Layer, Request, deploy, read_payload, remove, status
from edgekit.devices import state as states
from edgekit.errors import BundleError, DeployError, RuntimeMissing
from edgekit.requirements import allows, installed_versions, refuse_unmet

APP = "tridigit"
QUICK = Checks(golden=lambda folder: ["true"], golden_timeout_s=20, warm=None, warm_timeout_s=1)
WORDS = ["seven", "two"]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three bundles of one model whose image and text towers give different numbers in each."""
    folder = tmp_path_factory.mktemp("bundles")
    recipe = changed_recipe(folder, lambda text: text.replace('version = "1.0"', 'version = "1.1"', 1))
    made = [folder / f"{name}.edgekit" for name in ("fp32", "int8", "tflite")]
    pack(TRIDIGIT / "recipe.toml", made[0], "fp32")
    pack(TRIDIGIT / "recipe.toml", made[1], "int8")
    pack(recipe, made[2], "tflite-int8")
    return made


def request(bundle: Path) -> Request:
    return Request(
        app=APP,
        payload=read_payload(bundle),
        layer=Layer(digest=NO_LAYER, contents=()),
        settings={"interpreter": sys.executable},
        restart=None,
        disk_floor_bytes=1 << 20,
        machines=(),
        ram_bytes=None,
        allow_downgrade=True,
        force=False,
    )


def bring(root: Path, bundle: Path) -> str:
    return deploy(local_device(root), request(bundle), QUICK).release


def answer(predictor: Any) -> np.ndarray:
    """Numbers of both towers in one."""
    result = predictor.predict(image=str(SEVEN_PNG), text=WORDS)
    return np.concatenate([result.image_embedding.ravel(), result.text_embedding.ravel()])


def test_switching_every_100_ms_under_load(bundles: list[Path], tmp_path: Path) -> None:
    """L8: while two threads predict and reload on request, every answer is one release's: 0 errors, 0 mixed outputs."""
    root = tmp_path / "device"
    ids = [bring(root, bundle) for bundle in bundles[:2]]
    truth: dict[str, np.ndarray] = {}
    for number, bundle in enumerate(bundles[:2]):
        with edgekit.load(bundle) as predictor:
            truth[ids[number]] = answer(predictor)
    assert np.abs(truth[ids[0]] - truth[ids[1]]).max() > 1e-3
    stop, errors, mixed, counts = threading.Event(), [], [], {"answers": 0, "reloads": 0}

    def use() -> None:
        predictor = edgekit.load_app(APP, root=root)
        try:
            while not stop.is_set():
                if not predictor.is_current():
                    predictor.close()
                    predictor = edgekit.load_app(APP, root=root)
                    counts["reloads"] += 1
                found = answer(predictor)
                counts["answers"] += 1
                if np.abs(found - truth[str(predictor.release)]).max() > 1e-5:
                    mixed.append(predictor.release)
        except BaseException as error:
            errors.append(error)
        finally:
            predictor.close()

    users = [threading.Thread(target=use) for _ in range(2)]
    for user in users:
        user.start()
    file = root / "apps" / APP / "state.json"
    for number in range(60):
        state = states.State(current=ids[number % 2], previous=ids[1 - number % 2], bad=())
        file.with_suffix(".new").write_bytes(states.dump_state(state))
        os.replace(file.with_suffix(".new"), file)  # as the device does: one rename
        time.sleep(0.1)
    stop.set()
    for user in users:
        user.join()
    print(f"\nL8: 60 switches, {counts['answers']} answers, {counts['reloads']} reloads: {errors=} {mixed=}")
    assert (errors, mixed) == ([], [])
    assert counts["reloads"] > 20


def test_deployments_while_programs_load_and_hold(bundles: list[Path], tmp_path: Path) -> None:
    """Real deployments collect garbage meanwhile: what is open stays whole, what is opened is there."""
    root = tmp_path / "device"
    for bundle in bundles[:2]:
        bring(root, bundle)
    stop, errors, answers = threading.Event(), [], [0]

    def use() -> None:
        try:
            while not stop.is_set():
                with edgekit.load_app(APP, root=root) as predictor:
                    held = root / "apps" / APP / "releases" / str(predictor.release)
                    for _ in range(3):
                        answer(predictor)
                        answers[0] += 1
                    assert (held / "bundle" / "manifest.json").is_file()
        except BaseException as error:
            errors.append(error)

    user = threading.Thread(target=use)
    user.start()
    releases = [bring(root, bundles[number % 3]) for number in range(12)]
    stop.set()
    user.join()
    assert errors == []
    assert answers[0] > 10
    assert len(set(releases)) == 3


def test_what_is_open_is_not_collected_and_the_old_one_answers_on(bundles: list[Path], tmp_path: Path) -> None:
    """The release that a program holds outlives two deployments, is told to be old, and goes when it is closed."""
    root = tmp_path / "device"
    first = bring(root, bundles[0])
    folder = root / "apps" / APP / "releases" / first
    predictor = edgekit.load_app(APP, root=root)
    before = answer(predictor)
    assert (predictor.release, predictor.is_current()) == (first, True)
    for bundle in bundles[1:]:
        bring(root, bundle)
    assert not predictor.is_current()
    assert folder.is_dir()
    assert np.array_equal(answer(predictor), before)
    with pytest.raises(DeployError, match="in use"):
        remove(local_device(root), APP)
    predictor.close()
    bring(root, bundles[1])
    assert not folder.exists()
    remove(local_device(root), APP)
    assert status(local_device(root)) == ()
    with pytest.raises(BundleError, match="no app"):
        edgekit.load_app(APP, root=root)


def test_a_bundle_loaded_by_path_is_of_no_release(bundles: list[Path]) -> None:
    with edgekit.load(bundles[0]) as predictor:
        assert (predictor.release, predictor.is_current()) == (None, True)


FOREIGN = """
import sys
import edgekit
before = list(sys.path)
with edgekit.load_app("tridigit", root=sys.argv[1]) as predictor:
    print(predictor.predict(image=sys.argv[2], text=["seven", "two"]).label, sys.path == before)
"""


def test_in_the_apps_own_environment_sys_path_is_left_alone(bundles: list[Path], tmp_path: Path) -> None:
    """DESIGN: inside a foreign interpreter edgekit reads the release only and never touches sys.path."""
    bring(tmp_path / "device", bundles[0])
    command = [sys.executable, "-c", FOREIGN, str(tmp_path / "device"), str(SEVEN_PNG)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["seven", "True"]


def fake_site(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).mkdir(parents=True)
    return [str(folder)]


def test_missing_and_wrong_versions_are_named_with_the_install_line(tmp_path: Path) -> None:
    site = fake_site(tmp_path, "numpy-1.20.0.dist-info", "Pillow-9.4.0.egg-info", "tflite_runtime-2.14.0.dist-info")
    assert installed_versions(("numpy", "pillow", "click"), site) == {"numpy": "1.20.0", "pillow": "9.4.0"}
    refuse_unmet({"pillow": ">=9.4", "ai-edge-litert": ">=2.1"}, folders=site)
    with pytest.raises(RuntimeMissing) as caught:
        refuse_unmet({"numpy": ">=1.23", "pillow": ">=9.4", "onnxruntime": ">=1.18"}, folders=site)
    assert "numpy>=1.23 (has 1.20.0), onnxruntime>=1.18 (absent)" in str(caught.value)
    assert "pip install 'numpy>=1.23' 'onnxruntime>=1.18'" in str(caught.value)


def test_a_release_that_requires_more_than_there_is_is_refused(
    bundles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 5, before a prediction; and nothing keeps the release held."""
    bring(tmp_path / "device", bundles[0])
    empty = tmp_path / "site"
    empty.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "path", [str(empty)])
        with pytest.raises(RuntimeMissing, match="lacks what the release requires"):
            edgekit.load_app(APP, root=tmp_path / "device")
    remove(local_device(tmp_path / "device"), APP)


@pytest.mark.parametrize(
    ("clauses", "version", "allowed"),
    [
        (">=1.18", "1.18", True),
        (">=1.18", "1.9.5", False),
        (">=1.18,!=1.24.*,!=1.25.*", "1.24.3", False),
        (">=1.18,!=1.24.*,!=1.25.*", "1.26.0", True),
        ("==2.14.0", "2.14", True),
        ("<2", "2.0.1", False),
        ("<2", "1.26.4", True),
        ("~=1.4.2", "1.4.9", True),
        ("~=1.4.2", "1.5.0", False),
        (">=2.1", "2.2.0.dev20240101", True),
        ("", "anything", False),
        ("", "1.0", True),
        ("===1.0", "1.0", False),
    ],
)
def test_version_clauses(clauses: str, version: str, allowed: bool) -> None:
    """PEP 440's comparisons on release numbers; what is not understood refuses."""
    assert allows(clauses, version) is allowed
