"""A release: a bundle, a layer and settings under one id; what it consists of and where it lives on a device."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from edgekit.bundle import open_bundle
from edgekit.container import local_header, open_container, verify
from edgekit.errors import InputError
from edgekit.manifest import MANIFEST_NAME, FileFact, check_file_name, parse_manifest
from edgekit.records import Record, dump_canonical, load_json, parse

RECORD_NAME = "release.json"
BUNDLE_FOLDER = "bundle"
"""A release folder holds these two: which bundle, layer and settings; and the verified folder that is loaded."""

NO_LAYER = "interpreter"
"""The layer of a release that runs in an interpreter which has edgekit already; the settings say which."""

_APP = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Content(Record):
    """A file to be on the device, and where its bytes are here: `data`, or `source` from byte `start` on."""

    path: str
    size: int
    sha256: str
    source: str | None
    start: int
    data: bytes | None


class Payload(Record):
    """The files of a bundle; `digest` is the bundle's."""

    digest: str
    name: str
    version: str
    contents: tuple[Content, ...]


class Layer(Record):
    """The packages a device needs; no contents when the device's interpreter has them (`NO_LAYER`)."""

    digest: str
    contents: tuple[Content, ...]


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


def release_id(bundle: str, layer: str, settings: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of the three."""
    three = {"bundle": bundle, "layer": layer, "settings": settings}
    return hashlib.sha256(dump_canonical(three)).hexdigest()


def parse_record(data: bytes) -> ReleaseRecord:
    """The record in these bytes; raises ManifestError."""
    return parse(ReleaseRecord, load_json(data))


def inline(path: str, data: bytes) -> Content:
    """A file whose bytes are made here."""
    digest = hashlib.sha256(data).hexdigest()
    return Content(path=path, size=len(data), sha256=digest, source=None, start=0, data=data)


def check_app(app: str) -> str:
    """The name itself; raises InputError when it is not one."""
    if not _APP.fullmatch(app) or app.endswith("."):
        raise InputError(f"{app[:80]!r} is not an app name: [a-z0-9][a-z0-9._-]*, at most 64 characters")
    return app


def read_payload(source: Path) -> Payload:
    """The files of a bundle file or folder, verified to the last byte. Raises BundleError, IntegrityError."""
    if source.is_dir():
        with open_bundle(source) as bundle:
            folder = Path(bundle.path)
            data = (folder / MANIFEST_NAME).read_bytes()
            places = {name: (folder / name, 0) for name in bundle.manifest.files}
            return payload_of(data, bundle.manifest.files, places)
    verify(source)
    with open_container(source) as container:
        starts = {e.name: e.offset + len(local_header(e, 0)) for e in container.entries}
        files = container.manifest.files
        return payload_of(container.manifest_bytes, files, {n: (source, starts[n]) for n in files})


def payload_of(data: bytes, files: Mapping[str, FileFact], places: Mapping[str, tuple[Path, int]]) -> Payload:
    """A manifest's bytes and its files, each at a byte of a local file; raises ManifestError."""
    manifest = parse_manifest(data)
    contents = tuple(
        Content(
            path=n, size=f.size, sha256=f.sha256, source=str(places[n][0].absolute()), start=places[n][1], data=None
        )
        for n, f in files.items()
    )
    digest = hashlib.sha256(data).hexdigest()
    return Payload(
        digest=digest, name=manifest.name, version=manifest.version, contents=(inline(MANIFEST_NAME, data), *contents)
    )


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


def restart_file(root: str, app: str) -> str:
    """Where the command that restarts an app is recorded."""
    return f"{app_folder(root, app)}/restart.json"


def incoming_folder(root: str, digest: str) -> str:
    """Where a transfer is collected until it is whole."""
    return f"{root}/incoming/{digest}"
