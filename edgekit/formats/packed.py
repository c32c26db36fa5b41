"""The files that TFLite's metadata tools append to a model, as a zip after the flatbuffer: labels, vocabularies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgekit.errors import GraphRefused

if TYPE_CHECKING:
    from zipfile import ZipFile

FILES_LIMIT = 64
FILE_LIMIT_BYTES = 16 << 20


def packed_files(path: str | os.PathLike[str]) -> dict[str, int]:
    """Size in bytes of each file appended to the model, by name; empty when there are none. Raises GraphRefused."""
    with _archive(path) as archive:
        return {} if archive is None else {info.filename: info.file_size for info in archive.infolist()}


def read_packed(path: str | os.PathLike[str], name: str) -> bytes:
    """The contents of one appended file; at most FILE_LIMIT_BYTES. Raises GraphRefused."""
    file = os.path.basename(os.fspath(path))
    with _archive(path) as archive:
        names = [] if archive is None else archive.namelist()
        if archive is None or name not in names:
            raise GraphRefused(f"{file}: expected an appended file {name[:80]!r}, it has {names}")
        size = archive.getinfo(name).file_size
        if size > FILE_LIMIT_BYTES:
            raise GraphRefused(f"{file}: appended file {name[:80]!r} has {size} bytes, at most {FILE_LIMIT_BYTES}")
        with archive.open(name) as stream:
            return stream.read(FILE_LIMIT_BYTES)


@contextmanager
def _archive(path: str | os.PathLike[str]) -> Iterator[ZipFile | None]:
    import zipfile
    import zlib

    file = os.path.basename(os.fspath(path))
    broken = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError, OSError)
    try:
        with open(path, "rb") as stream:
            if not zipfile.is_zipfile(stream):
                yield None
                return
            stream.seek(0)
            with zipfile.ZipFile(stream) as archive:
                names = archive.namelist()
                if len(names) > FILES_LIMIT or len(set(names)) != len(names):
                    raise GraphRefused(
                        f"{file}: {len(names)} appended files, expected at most {FILES_LIMIT}, each once"
                    )
                yield archive
    except broken as error:
        raise GraphRefused(f"{file}: the files appended to it cannot be read ({error})") from None
