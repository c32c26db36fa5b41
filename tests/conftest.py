"""What every test may ask for: the shared folder of real models and data, and a place to write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models, data and goldens beside the project; `EDGEKIT_REQUIRE_SHARED=1` makes it a must."""
    folder = ROOT.parent / "shared"
    if not (folder / "DESIGN.md").is_file():
        if os.environ.get("EDGEKIT_REQUIRE_SHARED") == "1":
            pytest.fail(f"{folder} is required here and absent")
        pytest.skip(f"{folder} is absent: the real models and goldens live there")
    return folder


@pytest.fixture(scope="session")
def tridigit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tridigit bundle, ONNX float32."""
    from packing import TRIDIGIT, pack

    output = tmp_path_factory.mktemp("tridigit") / "tridigit.edgekit"
    pack(TRIDIGIT / "recipe.toml", output, "fp32")
    return output


@pytest.fixture(scope="session")
def tridigit_tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tridigit bundle, TFLite int8 with quantised inputs and outputs."""
    from packing import TRIDIGIT, pack

    output = tmp_path_factory.mktemp("tridigit-tflite") / "tridigit.edgekit"
    pack(TRIDIGIT / "recipe.toml", output, "tflite-int8")
    return output


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests unpack into a cache of their own; downloads stay in the user's, so that they are fetched once."""
    own = tmp_path_factory.mktemp("cache")
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit" / "downloads"
    users.mkdir(parents=True, exist_ok=True)
    (own / "downloads").symlink_to(users)
    before = os.environ.get("EDGEKIT_CACHE")
    os.environ["EDGEKIT_CACHE"] = str(own)
    yield
    if before is None:
        del os.environ["EDGEKIT_CACHE"]
    else:
        os.environ["EDGEKIT_CACHE"] = before


SLOW = {
    "test_audio_hostile",
    "test_bundle_container",
    "test_bundle_faults",
    "test_bundle_swaps",
    "test_deploy_crashdisk",
    "test_deploy_faults",
    "test_deploy_lock",
    "test_deploy_sabotage",
    "test_image_hostile",
    "test_models",
    "test_predictor",
    "test_profile_html",
    "test_profile_predictor",
    "test_runtime_memory",
}
"""Modules of thousands of cases or real time: they run once in CI, on one Python."""


TIMED = {"test_profile_measure", "test_profile_operators", "test_profile_predictor", "test_runtime_memory"}
"""Modules that compare times or memory with each other: they want a processor of their own, one after another."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow and the timed modules in one place."""
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
        if item.path.stem in TIMED:
            item.add_marker(pytest.mark.timed)
