"""What is installed on a device, as files: an app's state, a release's record, and where both live.

    <root>/layers/<digest>/                  packages
    <root>/apps/<app>/releases/<id>/         release.json and the bundle's folder
    <root>/apps/<app>/state.json             which release runs, which ran before, which failed

Paths are text because they are paths of a device, which need not be this machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from edgekit.digest import sha256
from edgekit.errors import InputError, ManifestError
from edgekit.manifest import FileFact, check_file_name
from edgekit.records import Record, dump_canonical, load_json, parse

RECORD_NAME = "release.json"
BUNDLE_FOLDER = "bundle"
"""A release folder holds these two: which bundle, layer and settings; and the verified folder that is loaded."""

NO_LAYER = "interpreter"
"""The layer of a release that runs in an interpreter which has edgekit already; the settings say which."""

_APP = r"[a-z0-9][a-z0-9._-]{0,63}"
_ID = r"[0-9a-f]{64}"


class State(Record):
    """current, previous: release ids or null. bad: ids that failed their check here, oldest first."""

    current: str | None
    previous: str | None
    bad: tuple[str, ...]

    def check(self) -> None:
        for key, value in (("current", self.current), ("previous", self.previous), *(("bad", b) for b in self.bad)):
            if value is not None and not re.fullmatch(_ID, value):
                raise ManifestError(key, f"{value[:80]!r} is not a release id")


class ReleaseRecord(Record):
    """What `release.json` says: which bundle, layer and settings, and every file of the bundle, manifest included."""

    format: Literal[1]
    app: str
    bundle: str
    name: str
    version: str
    layer: str
    settings: dict[str, Any]
    files: dict[str, FileFact]

    def check(self) -> None:
        for name in self.files:
            check_file_name(name, "files")

    @property
    def id(self) -> str:
        """The release's id."""
        return release_id(self.bundle, self.layer, self.settings)


def parse_state(data: bytes) -> State:
    """The state in these bytes, which must be canonical; raises ManifestError."""
    state = parse(State, load_json(data))
    if dump_state(state) != data:
        raise ManifestError("", "not in canonical form")
    return state


def dump_state(state: State) -> bytes:
    """The canonical bytes; `parse_state` gives the state back."""
    return dump_canonical(state)


def parse_record(data: bytes) -> ReleaseRecord:
    """The record in these bytes; raises ManifestError."""
    return parse(ReleaseRecord, load_json(data))


def release_id(bundle: str, layer: str, settings: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of the three."""
    three = {"bundle": bundle, "layer": layer, "settings": settings}
    return sha256(dump_canonical(three)).hexdigest()


def check_app(app: str) -> str:
    """The name itself; raises InputError when it is not one."""
    if not isinstance(app, str) or not re.fullmatch(_APP, app) or app.endswith("."):
        raise InputError(f"{str(app)[:80]!r} is not an app name: [a-z0-9][a-z0-9._-]*, at most 64 characters")
    return app


def app_root(root: str | os.PathLike[str] | None = None) -> Path:
    """edgekit's folder on this machine: the argument, `$EDGEKIT_ROOT`, or `~/.local/share/edgekit`."""
    return Path(root or os.environ.get("EDGEKIT_ROOT") or Path.home() / ".local/share/edgekit")


def layer_folder(root: str, digest: str) -> str:
    """Where a layer lives."""
    return f"{root}/layers/{digest}"


def app_folder(root: str, app: str) -> str:
    """Where an app lives."""
    return f"{root}/apps/{check_app(app)}"


def release_folder(root: str, app: str, release: str) -> str:
    """Where a release lives."""
    return f"{app_folder(root, app)}/releases/{release}"


def state_file(root: str, app: str) -> str:
    """Where an app's state is."""
    return f"{app_folder(root, app)}/state.json"
