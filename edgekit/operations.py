"""What joins packaging, devices and profiling: each verb of the command line, without printing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError
from edgekit.manifest import Manifest
from edgekit.records import Json, Record, dump
from edgekit.targets import Target, find_target, known_targets, local_target

if TYPE_CHECKING:
    from edgekit.golden import CheckReport
    from edgekit.packaging.draft import Draft
    from edgekit.packaging.fetch import Progress
    from edgekit.results import Result

Note = Callable[[str], None]


class Packed(Record):
    """A bundle that was written."""

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
    target: str | None,
    variant: str | None,
    files: Sequence[Path],
    output: Path | None,
    *,
    progress: Progress,
    note: Note,
) -> Packed:
    """Make the bundle of a source for a target. Raises InputError, TargetError, BundleError, GateFailed."""
    from edgekit.packaging.build import build

    kind = _target(target, note)
    draft = read_source(source, variant, kind, files, progress)
    for line in draft.notes:
        note(line)
    path = output or Path(f"{draft.name}.edgekit")
    manifest, digest = build(draft, kind, path)
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


def _target(name: str | None, note: Note) -> Target:
    if name is not None:
        return find_target(name)
    target = local_target()
    note(f"target: {target.name} (this machine; --target names another)")
    return target


def _truth(manifest: Manifest) -> str:
    kinds = sorted({g.truth for g in manifest.golden})
    return " and ".join(kinds) if kinds else "none"


def read_source(source: str, variant: str | None, target: Target, files: Sequence[Path], progress: Progress) -> Draft:
    """The draft of whatever a person named: a recipe, a hub folder, a model file."""
    from edgekit.packaging.recipe import known_recipes, read_recipe

    path = Path(source)
    recipes = known_recipes()
    if path.suffix == ".toml" and path.is_file():
        return read_recipe(path, variant, target, list(files), progress)
    if (path / "recipe.toml").is_file():
        return read_recipe(path / "recipe.toml", variant, target, list(files), progress)
    if source in recipes and not path.exists():
        return read_recipe(recipes[source], variant, target, list(files), progress)
    raise InputError(f"'{source}' is no recipe, folder or model file", hint=f"recipes: {', '.join(recipes)}; or a path")


def predict(bundle: str, device: str | None, *, image: str | None, audio: str | None, texts: Sequence[str]) -> Result:
    """One predict by a bundle here; several texts are candidates, one is a text."""
    from edgekit.predictor import load

    if device is not None:
        raise InputError(f"predict --on {device}: not yet")
    with load(bundle) as predictor:
        return predictor.predict(image=image, audio=audio, text=text_argument(predictor.manifest, texts))


def text_argument(manifest: Manifest, texts: Sequence[str]) -> Any:
    """None, the one text, or the candidates; a similarity task takes even one text as a candidate set."""
    if not texts:
        return None
    return texts[0] if len(texts) == 1 else list(texts)


def check(bundle: str) -> CheckReport:
    """Run the golden samples of a bundle here."""
    from edgekit import golden
    from edgekit.predictor import load

    with load(bundle, text_memory=0) as predictor:
        return golden.check(predictor)


def targets() -> Json:
    """Name and title of every target."""
    return Listing({name: target.title for name, target in known_targets().items()})


def models() -> Json:
    """Name and source of every recipe that comes with edgekit."""
    from edgekit.packaging.recipe import known_recipes
    from edgekit.targets import load_toml

    return Listing({name: str(load_toml(path).get("source", "")) for name, path in known_recipes().items()})


class Listing(dict[str, str]):
    """Names with what they are, printed as two columns."""

    def __str__(self) -> str:
        width = max((len(name) for name in self), default=0)
        return "\n".join(f"{name:<{width}}  {what}" for name, what in self.items())
