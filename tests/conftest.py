"""What every test may ask for: the shared folder of real models and data, and a place to write."""

from __future__ import annotations

import os
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
