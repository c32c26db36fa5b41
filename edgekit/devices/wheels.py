"""Wheels unpacked strictly: exactly the files that their RECORD lists, with its hashes, as plain files."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import struct
import zipfile
import zlib
from pathlib import Path

from edgekit.errors import IntegrityError
from edgekit.records import Record

_UNSOUND = (
    *(zipfile.BadZipFile, zlib.error, csv.Error, struct.error, OSError, EOFError),
    *(ValueError, KeyError, RuntimeError, OverflowError),
)
"""What zipfile raises for damaged archives."""

FILE_LIMIT = 20_000
SIZE_LIMIT_BYTES = 4 << 30
_PIECE_BYTES = 1 << 20

# What nothing imports at run time: stubs and numpy's own tests.
_UNUSED = re.compile(r".*\.(pyc|pyi)|numpy/(.*/)?tests/.*")

_SEGMENT = re.compile(r"[^\x00-\x1f\x7f/\\]{1,200}")


class WheelFile(Record):
    """A file of a layer: where it goes, and what it is."""

    path: str
    size: int
    sha256: str


def unpack_wheel(wheel: Path, folder: Path) -> tuple[WheelFile, ...]:
    """Unpack a wheel into `folder`; scripts and headers stay out, nothing is run.

    Raises IntegrityError when it is not a wheel, has a file that RECORD does not list, or one that differs.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = _members(wheel, archive)
            record = _record(wheel, archive, members)
            return tuple(
                _extract(wheel, archive, member, record[name], folder / target, target)
                for name, member in members.items()
                if (target := _target(name)) is not None
            )
    except _UNSOUND as error:
        raise IntegrityError(f"{wheel.name} is not a sound wheel: {error}") from None


def wheel_name(wheel: Path) -> tuple[str, str]:
    """Name (normalised) and version that a wheel's file name states."""
    parts = wheel.name.split("-")
    if wheel.suffix != ".whl" or len(parts) not in (5, 6):
        raise IntegrityError(f"{wheel.name} is not the name of a wheel")
    return re.sub(r"[-_.]+", "-", parts[0]).lower(), parts[1]


def _members(wheel: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for member in archive.infolist():
        name = member.filename
        if name.endswith("/"):
            continue
        segments = name.split("/")
        total += member.file_size
        if not all(_SEGMENT.fullmatch(s) and s not in (".", "..") for s in segments):
            raise IntegrityError(f"{wheel.name}: {name[:80]!r} is not a plain name")
        if name in members or member.external_attr >> 28 == 0xA:
            raise IntegrityError(f"{wheel.name}: {name[:80]!r} stands twice or is a link")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise IntegrityError(f"{wheel.name}: {name[:80]!r} is packed in an unknown way")
        if member.flag_bits & 1 or total > SIZE_LIMIT_BYTES or len(members) >= FILE_LIMIT:
            raise IntegrityError(f"{wheel.name} is encrypted or too large")
        members[name] = member
    return members


def _record(wheel: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> dict[str, tuple[str, int]]:
    """Hash and size of every file, as RECORD says; RECORD and signatures cannot list themselves."""
    places = [n for n in members if re.fullmatch(r"[^/]+\.dist-info/RECORD", n)]
    if len(places) != 1:
        raise IntegrityError(f"{wheel.name} has {len(places)} RECORD files")
    rows = csv.reader(io.StringIO(archive.read(places[0]).decode("utf-8")))
    listed = {row[0]: (row[1], int(row[2])) for row in rows if len(row) == 3 and row[1] and row[2].isdigit()}
    for name in members:
        if name == places[0] or name in (f"{places[0]}.jws", f"{places[0]}.p7s"):
            listed[name] = ("", members[name].file_size)
        elif name not in listed:
            raise IntegrityError(f"{wheel.name}: {name[:80]!r} is not in its RECORD")
    return listed


def _target(name: str) -> str | None:
    """Where a member goes, relative to the layer; None for what a layer has no use for."""
    data = re.fullmatch(r"[^/]+\.data/([^/]+)/(.+)", name)
    if data:
        return data[2] if data[1] in ("purelib", "platlib") else None
    return None if _UNUSED.fullmatch(name) else name


def _extract(
    wheel: Path,
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    expected: tuple[str, int],
    path: Path,
    target: str,
) -> WheelFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    sha256, size = hashlib.sha256(), 0
    with archive.open(member) as source, path.open("xb") as file:
        while piece := source.read(_PIECE_BYTES):
            size += len(piece)
            if size > member.file_size:
                break
            sha256.update(piece)
            file.write(piece)
    algorithm, _, digest = expected[0].partition("=")
    found = base64.urlsafe_b64encode(sha256.digest()).rstrip(b"=").decode()
    if size != expected[1] or (expected[0] and (algorithm, digest) != ("sha256", found)):
        raise IntegrityError(f"{wheel.name}: {member.filename} is not what its RECORD says")
    return WheelFile(path=target, size=size, sha256=sha256.hexdigest())
