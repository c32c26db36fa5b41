"""A release: a bundle, a layer and settings under one id; what it consists of and where it lives on a device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from edgekit.bundle import open_bundle
from edgekit.container import local_header, open_container, verify
from edgekit.installed import BUNDLE_FOLDER as BUNDLE_FOLDER
from edgekit.installed import NO_LAYER as NO_LAYER
from edgekit.installed import RECORD_NAME as RECORD_NAME
from edgekit.installed import ReleaseRecord as ReleaseRecord
from edgekit.installed import app_folder as app_folder
from edgekit.installed import check_app as check_app
from edgekit.installed import layer_folder as layer_folder
from edgekit.installed import parse_record as parse_record
from edgekit.installed import release_folder as release_folder
from edgekit.installed import release_id as release_id
from edgekit.installed import state_file as state_file
from edgekit.manifest import MANIFEST_NAME, FileFact, parse_manifest
from edgekit.records import Record


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


def inline(path: str, data: bytes) -> Content:
    """A file whose bytes are made here."""
    digest = hashlib.sha256(data).hexdigest()
    return Content(path=path, size=len(data), sha256=digest, source=None, start=0, data=data)


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


def restart_file(root: str, app: str) -> str:
    """Where the command that restarts an app is recorded."""
    return f"{app_folder(root, app)}/restart.json"


def incoming_folder(root: str, digest: str) -> str:
    """Where a transfer is collected until it is whole."""
    return f"{root}/incoming/{digest}"
