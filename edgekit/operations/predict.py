"""`predict` for a bundle of this machine, or for an app of a device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError
from edgekit.operations.package import is_path

if TYPE_CHECKING:
    from edgekit.results import Result


def predict(bundle: str, *, image: str | None, audio: str | None, texts: Sequence[str]) -> Result:
    """One predict; several texts are candidates, and so is one text beside an image or a sound."""
    from edgekit.predictor import load, load_app

    with load(bundle) if is_path(bundle) else load_app(bundle) as predictor:
        return predictor.predict(image=image, audio=audio, text=text_argument(texts))


def text_argument(texts: Sequence[str]) -> Any:
    """None for no text, the text itself for one, a list for several."""
    if not texts:
        return None
    return texts[0] if len(texts) == 1 else list(texts)


def named_files(image: str | None, audio: str | None) -> None:
    """Refuse paths that are not there, before anything is loaded or sent."""
    for kind, path in (("image", image), ("audio", audio)):
        if path is not None and not Path(path).is_file():
            found = "is a folder" if Path(path).is_dir() else "is no file"
            raise InputError(f"{kind}: {path!r} {found}", hint=f"--{kind} takes one file (from here: {Path.cwd()})")
