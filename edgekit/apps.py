"""Apps of this machine: the release that runs under a name, opened so that nobody takes it away meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import BundleError, ManifestError
from edgekit.predictor import load
from edgekit.records import load_json

if TYPE_CHECKING:
    from edgekit.predictor import Predictor


def app_root(root: str | os.PathLike[str] | None = None) -> Path:
    """edgekit's folder on this device: the argument, `$EDGEKIT_ROOT`, or `~/.local/share/edgekit`."""
    return Path(root or os.environ.get("EDGEKIT_ROOT") or Path.home() / ".local/share/edgekit")


def current_release(app: str, root: Path) -> Path:
    """The folder of the release that an app runs. Raises BundleError where there is none."""
    folder = root / "apps" / app
    try:
        state = load_json((folder / "state.json").read_bytes())
        release = folder / "releases" / str(state["current"])
    except (OSError, ManifestError, KeyError, TypeError):
        raise BundleError(
            f"no app '{app}' in {root}", hint=f"edgekit deploy BUNDLE local:{root} --app {app}; or set EDGEKIT_ROOT"
        ) from None
    if not release.is_dir():
        raise BundleError(f"the current release of '{app}' is not in {release.parent}", hint="deploy it again")
    return release


def load_app(name: str, *, root: str | os.PathLike[str] | None = None, threads: int | None = None) -> Predictor:
    """The predictor of the release that the app `name` runs on this device; a later switch does not touch it.

    Raises BundleError where there is no such app, and what `load` raises.
    """
    return load(current_release(name, app_root(root)) / "bundle", threads=threads)
