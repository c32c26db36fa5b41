"""Where on a device the release to profile is, and how long a link may be cut meanwhile."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from edgekit.devices import InstalledApp
from edgekit.errors import InputError, TransportError
from edgekit.installed import NO_LAYER, ReleaseRecord, layer_folder, release_folder
from edgekit.operations.package import Note
from edgekit.records import Record, dump_canonical

Answer = TypeVar("Answer")

POLL_S = 1.0
CUT_S = 180.0
"""How long a link may be cut before following is given up."""


class Placed(Record):
    """A release on the device to profile: its app, its folder and its layer there, absolute; layer null for none."""

    app: str
    release: str
    folder: str
    layer: str | None


def temporary_app(source: str, variants: Sequence[str]) -> str:
    """The app name for a source that is not deployed: the same for the same words, so that it can be resumed."""
    word = os.path.abspath(source) if os.path.exists(source) else source
    return "profile-" + hashlib.sha256(dump_canonical([word, list(variants)])).hexdigest()[:12]


def placed_app(app: InstalledApp, root: str) -> Placed:
    current = app.state.current
    record: ReleaseRecord | None = next((r.record for r in app.releases if r.id == current), None)
    if current is None or record is None:
        raise InputError(f"the app {app.app} has no release to profile", hint="deploy it again")
    layer = None if record.layer == NO_LAYER else layer_folder(root, record.layer)
    return Placed(app=app.app, release=current, folder=release_folder(root, app.app, current), layer=layer)


def refuse_to_bring(app: str, variants: Sequence[str], supplies: Sequence[object]) -> None:
    """Raise InputError for wishes that an app that is deployed cannot follow."""
    if variants:
        raise InputError(f"{app} is one variant already", hint="profile the recipe: --variant a --variant b")
    if supplies:
        raise InputError(
            f"{app} is deployed there with its files and its layer",
            hint="--files, --set, --wheel and --offline belong to `edgekit deploy`, or to the profile of a bundle",
        )


def through_cuts(name: str, attempt: Callable[[], Answer], note: Note, limit_s: float) -> Answer:
    """What `attempt` gives, tried again while the link to the device `name` is cut, for at most `limit_s`.

    Raises TransportError when it stays cut.
    """
    cut_s: float | None = None
    while True:
        try:
            answer = attempt()
        except TransportError as error:
            now_s = time.monotonic()
            cut_s = now_s if cut_s is None else cut_s
            if now_s - cut_s > limit_s:
                raise
            note(f"{name}: the link is cut ({error.message}); trying again")
            time.sleep(POLL_S)
            continue
        if cut_s is not None:
            note(f"{name}: the link is back after {time.monotonic() - cut_s:.0f} s")
        return answer
