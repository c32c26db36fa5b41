"""`package`: from whatever a person names to a bundle; and what a bundle holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.container import check_output
from edgekit.errors import InputError
from edgekit.manifest import Manifest
from edgekit.operations.listing import Listing
from edgekit.records import Json, Record, dump
from edgekit.targets import Target, find_target, local_target

if TYPE_CHECKING:
    from edgekit.golden import CheckReport
    from edgekit.packaging.draft import Draft
    from edgekit.packaging.fetch import Progress

Note = Callable[[str], None]


class Packed(Record):
    """A bundle that was written. truth: where the golden samples' expectations came from."""

    path: str
    digest: str
    name: str
    version: str
    target: str
    size_bytes: int
    golden: int
    truth: str

    def to_dict(self) -> Json:
        """Plain JSON."""
        return dump(self)

    def __str__(self) -> str:
        return (
            f"{self.path}  {self.size_bytes:,} bytes\n"
            f"{self.name} {self.version} for {self.target}, digest {self.digest[:12]}\n"
            f"{self.golden} golden samples reproduced (truth: {self.truth})"
        )


def package(
    source: str,
    target: Target,
    variant: str | None,
    files: Sequence[Path],
    output: Path | None,
    *,
    answers: dict[str, str],
    progress: Progress,
    note: Note,
    task: str | None = None,
    sample: Path | None = None,
    decode: str | None = None,
    arithmetic: str | None = None,
) -> Packed:
    """Make the bundle of a source for a target, with a golden sample of the person's own where one is given.

    decode, arithmetic: how every picture is decoded and resized (`ImageSpec.decode`, `Resize.arithmetic`), where the
    source's own way is not wanted. Raises InputError, TargetError, BundleError, GateFailed.
    """
    from edgekit.packaging.android import inexpressible
    from edgekit.packaging.build import build
    from edgekit.packaging.pixels import Pixels, pixel_deviation, with_pixels

    draft = read_source(source, variant, target, files, answers, progress, task)
    if sample is not None:
        from edgekit.packaging.sampling import given_sample

        draft = given_sample(draft, sample)
    draft = with_pixels(draft, Pixels(decode, arithmetic))
    for line in (*draft.notes, *(inexpressible(draft) if target.supports is not None else ())):
        note(line)
    for line in pixel_deviation(draft):
        note(line)
    path = output or Path(f"{draft.name}.edgekit")
    check_output(path)
    manifest, digest = build(draft, target, path)
    if _is_hub_folder(Path(source)):
        from edgekit.packaging.deviation import deviation_from_float32

        for line in deviation_from_float32(Path(source), path, draft, target, task=task, answers=answers):
            note(line)
    return Packed(
        path=str(path),
        digest=digest,
        name=manifest.name,
        version=manifest.version,
        target=manifest.target,
        size_bytes=path.stat().st_size,
        golden=len(manifest.golden),
        truth=_truth(manifest),
    )


def choose_target(name: str | None, note: Note) -> Target:
    """The target of this name, or this machine's, said so."""
    if name is not None:
        return find_target(name)
    target = local_target()
    note(f"target: {target.name} (this machine; --target names another)")
    return target


def _truth(manifest: Manifest) -> str:
    return " and ".join(sorted({g.truth for g in manifest.golden})) or "none"


def read_source(
    source: str,
    variant: str | None,
    target: Target,
    files: Sequence[Path],
    answers: dict[str, str],
    progress: Progress,
    task: str | None = None,
) -> Draft:
    """The draft of whatever a person named: a recipe's name, file or folder, a hub folder or id, or a model file."""
    from edgekit.packaging.recipe import known_recipes, read_recipe

    path = Path(source)
    recipes = known_recipes()
    recipe = _recipe_of(source, recipes)
    if recipe is not None:
        if answers or task:
            given = f"--set {next(iter(answers))}" if answers else "--task"
            raise InputError(f"{given}: a recipe leaves nothing open", hint=f"to change it, edit a copy of {recipe}")
        return read_recipe(recipe, variant, target, list(files), progress)
    if source.startswith("hf:"):
        from edgekit.packaging.hub_download import download
        from edgekit.packaging.huggingface import read_huggingface

        folder = download(source, variant, target)
        return read_huggingface(folder, target, variant=variant, task=task, answers=answers, source=source)
    if _is_hub_folder(path):
        from edgekit.packaging.huggingface import read_huggingface

        return read_huggingface(path, target, variant=variant, task=task, answers=answers)
    if path.suffix == ".tflite" and path.is_file():
        from edgekit.packaging.tflite_metadata import read_tflite

        return read_tflite(path, answers)
    if path.suffix in (".onnx", ".ort") and path.is_file():
        from edgekit.packaging.plain_onnx import read_plain_onnx

        return read_plain_onnx(path, answers)
    if is_bundle(path):
        raise InputError(f"'{source}' is a bundle already", hint=f"edgekit deploy {source} DEVICE")
    raise InputError(f"'{source}' is no recipe, folder or model file", hint=f"a path, or one of: {', '.join(recipes)}")


def _recipe_of(source: str, recipes: Mapping[str, Path]) -> Path | None:
    """The recipe that a person named by its file, its folder or its name; None where it is something else."""
    path = Path(source)
    if path.suffix == ".toml" and path.is_file():
        return path
    if (path / "recipe.toml").is_file():
        return path / "recipe.toml"
    return recipes.get(source) if not path.exists() else None


def _is_hub_folder(path: Path) -> bool:
    return path.is_dir() and not (path / "recipe.toml").is_file()


def is_bundle(path: Path) -> bool:
    """Whether a path is a bundle already: a file that is no recipe or graph, or an unpacked folder."""
    return (path / "manifest.json").is_file() or path.suffix == ".edgekit"


def check(bundle: str) -> CheckReport:
    """Run the golden samples of a bundle, or of an app of this machine, here."""
    from edgekit import golden
    from edgekit.installed import BUNDLE_FOLDER, app_root
    from edgekit.predictor import load
    from edgekit.releases import hold_app

    if is_path(bundle):
        with load(bundle, text_memory=0) as predictor:
            return golden.check(predictor)
    with hold_app(bundle, app_root()) as held, load(held.folder / BUNDLE_FOLDER, text_memory=0) as predictor:
        return golden.check(predictor)


def is_path(bundle: str) -> bool:
    """Whether a person who wrote this means a file or folder; else it is an app's name."""
    return Path(bundle).exists() or "/" in bundle or bundle.endswith(".edgekit")


def inspect(bundle: str) -> Listing:
    """What a bundle holds, verified to the last byte."""
    from edgekit.bundle import open_bundle

    with open_bundle(bundle) as opened:
        manifest, digest = opened.manifest, opened.digest
    return Listing(
        {
            "name": f"{manifest.name} {manifest.version}",
            "digest": digest,
            "task": manifest.task,
            "target": manifest.target,
            "license": manifest.license,
            "source": manifest.source,
            "inputs": ", ".join(f"{keyword} ({spec.kind})" for keyword, spec in manifest.inputs.items()),
            "graphs": ", ".join(f"{g.name} ({g.runtime}, {g.precision})" for g in manifest.graphs),
            "golden": ", ".join(f"{g.name} (truth: {g.truth}, {g.origin})" for g in manifest.golden) or "none",
            "requires": ", ".join(f"{name}{versions}" for name, versions in manifest.requires.items()),
            "files": ", ".join(f"{name} {fact.size:,} B" for name, fact in manifest.files.items()),
        }
    )
