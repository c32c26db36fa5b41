"""Bundles for tests: the tridigit recipe, packaged once per variant and changed on request."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

from edgekit.manifest import Manifest
from edgekit.packaging.build import build
from edgekit.packaging.recipe import read_recipe
from edgekit.targets import Target, find_target

ROOT = Path(__file__).resolve().parent.parent
TRIDIGIT = ROOT / "models" / "tridigit"
SEVEN_PNG = TRIDIGIT / "golden" / "seven.png"
SEVEN_WAV = TRIDIGIT / "golden" / "seven.wav"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def quiet(what: str, done: int, total: int) -> None:
    """A progress function that shows nothing."""


@cache
def host_target() -> Target:
    """A target on which every graph of the tests runs."""
    return find_target("linux-x86_64")


def pack(recipe: Path, output: Path, variant: str | None = None, folders: tuple[Path, ...] = ()) -> Manifest:
    """Package a recipe file."""
    draft = read_recipe(recipe, variant, host_target(), list(folders), quiet)
    return build(draft, host_target(), output)[0]


def changed_recipe(folder: Path, change: Callable[[str], str]) -> Path:
    """A copy of tridigit whose recipe text went through `change`."""
    copy = folder / "tridigit"
    shutil.copytree(TRIDIGIT, copy, dirs_exist_ok=True)
    recipe = copy / "recipe.toml"
    before = recipe.read_text("utf-8")
    after = change(before)
    if after == before:
        raise AssertionError("the change changed nothing")
    recipe.write_text(after, "utf-8")
    return recipe
