"""Releases of this machine's apps: the one that runs under a name, held so that nobody takes it away meanwhile."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import TracebackType

from edgekit.errors import BundleError, ManifestError
from edgekit.installed import (
    BUNDLE_FOLDER,
    NO_LAYER,
    RECORD_NAME,
    app_folder,
    layer_folder,
    parse_record,
    parse_state,
    release_folder,
    state_file,
)

_ATTEMPTS = 50
"""A release may be collected between reading its name and locking it, but only after two more deployments."""


class Held:
    """A release that nobody removes until `close`: a shared lock on its folder, and on its layer where it has one.

    folder: the release's. bundle: its bundle's. release: its id. in_layer: whether this interpreter
        imports from the layer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = folder / BUNDLE_FOLDER
        self.release = folder.name
        self.in_layer = False
        self._descriptors = [_lock_shared(folder)]
        try:
            layer = _layer_of(folder)
            if layer is not None:
                self.in_layer = str(layer) in map(os.path.realpath, sys.path)
                self._descriptors.append(_lock_shared(layer))
        except BaseException:
            self.close()
            raise

    def is_current(self) -> bool:
        """Whether the app's state still names this release; False too when the app is gone."""
        try:
            return parse_state((self.folder.parent.parent / "state.json").read_bytes()).current == self.release
        except (OSError, ManifestError):
            return False

    def close(self) -> None:
        """Let go; a second call does nothing."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def hold_app(name: str, root: Path) -> Held:
    """The current release of an app, held. Raises BundleError."""
    problem = ""
    for _ in range(_ATTEMPTS):
        folder = current_release(name, root)
        try:
            return Held(folder)
        except (OSError, ManifestError) as error:
            problem = getattr(error, "strerror", None) or str(error)
    raise BundleError(f"release {folder.name[:12]} of '{name}' cannot be opened: {problem}", hint="deploy it again")


def current_release(app: str, root: Path) -> Path:
    """The folder of the release that an app runs. Raises BundleError where there is none."""
    try:
        current = parse_state(Path(state_file(str(root), app)).read_bytes()).current
    except FileNotFoundError:
        current = None
    except OSError as error:
        raise BundleError(f"the state of '{app}' cannot be read: {error.strerror}") from None
    except ManifestError as error:
        raise BundleError(f"the state of '{app}' cannot be read: {error.message}", hint="deploy it again") from None
    if current is None:
        raise BundleError(
            f"no app '{app}' in {root}", hint=f"edgekit deploy BUNDLE local:{root} --app {app}; or set EDGEKIT_ROOT"
        )
    return Path(release_folder(str(root.absolute()), app, current))


def is_app(name: str, root: Path) -> bool:
    """Whether there is a folder for an app of this name."""
    with contextlib.suppress(Exception):
        return Path(app_folder(str(root), name)).is_dir()
    return False


def _layer_of(release: Path) -> Path | None:
    """The folder of the layer that a release's record names; None where it runs in an interpreter that has edgekit."""
    layer = parse_record((release / RECORD_NAME).read_bytes()).layer
    return None if layer == NO_LAYER else Path(os.path.realpath(layer_folder(str(release.parents[3]), layer)))


def _lock_shared(folder: Path) -> int:
    """A descriptor with a shared lock on a folder that is still in its place. Raises OSError.

    The one who collects garbage locks a folder alone and moves it away, so what was locked may be gone by now.
    """
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: then the collector cannot lock either
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            raise FileNotFoundError(2, "it was replaced meanwhile")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
