"""The container of a bundle: one canonical byte string for a manifest and its files.

A zip that any tool can list: STORED, `manifest.json` first, then the files in the order of their names (the
manifest's order), times fixed at 1980-01-01, modes 0644, no comment, zip64 fields only where a size or an
offset does not fit 32 bits. `verify` accepts exactly the bytes that `write_bundle` emits: the framing is
computed from the manifest and compared, each payload is compared by size, sha256 and CRC, so every byte of the
file is accounted for. Nothing is decompressed and no name is taken from the archive.

Field layouts: PKWARE APPNOTE 6.3.10, sections 4.3 (records) and 4.5.3 (zip64).
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Union

from edgekit import storage
from edgekit.digest import sha256
from edgekit.errors import BundleError, IntegrityError, ManifestError
from edgekit.manifest import MANIFEST_LIMIT_BYTES, MANIFEST_NAME, Manifest, dump_manifest, parse_manifest
from edgekit.records import Record

BUFFER_BYTES = 1 << 20
COPY_AGAIN = "copy or download it again; `edgekit package` makes a new one"

Source = Union[BinaryIO, str, "os.PathLike[str]"]
"""Where a file's bytes are: an open binary stream (it is closed after) or a path."""

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_MAX32 = 0xFFFFFFFF
_DATE_1980 = 1 << 5 | 1
_MODE = (stat.S_IFREG | 0o644) << 16
_UNIX = 3 << 8


class Entry(Record):
    """A member of the container: where its local header starts and how many payload bytes follow it."""

    name: str
    size: int
    offset: int


def plan_entries(manifest_size: int, sizes: Mapping[str, int]) -> tuple[Entry, ...]:
    """Every member in order, from the sizes alone."""
    entries, offset = [], 0
    for name, size in ((MANIFEST_NAME, manifest_size), *sorted(sizes.items())):
        entries.append(Entry(name=name, size=size, offset=offset))
        offset += len(local_header(entries[-1], 0)) + size
    return tuple(entries)


def local_header(entry: Entry, crc: int) -> bytes:
    """What stands before a member's payload."""
    name, wide = entry.name.encode("ascii"), entry.size >= _MAX32
    extra = struct.pack("<2H2Q", 1, 16, entry.size, entry.size) if wide else b""
    size = _MAX32 if wide else entry.size
    fields = (45 if wide else 20, 0, 0, 0, _DATE_1980, crc, size, size, len(name), len(extra))
    return _LOCAL.pack(b"PK\3\4", *fields) + name + extra


def directory(entries: tuple[Entry, ...], crcs: tuple[int, ...]) -> bytes:
    """What stands after the last payload: the central directory and its end records."""
    listing = b"".join(map(_central_header, entries, crcs))
    last = entries[-1]
    start = last.offset + len(local_header(last, 0)) + last.size
    count, end64 = len(entries), b""
    if start >= _MAX32:
        end64 = _END64.pack(b"PK\6\6", 44, _UNIX | 45, 45, 0, 0, count, count, len(listing), start)
        end64 += _LOCATOR64.pack(b"PK\6\7", 0, start + len(listing), 1)
    return listing + end64 + _END.pack(b"PK\5\6", 0, 0, count, count, len(listing), min(start, _MAX32), 0)


def _central_header(entry: Entry, crc: int) -> bytes:
    name = entry.name.encode("ascii")
    wide = [entry.size, entry.size] if entry.size >= _MAX32 else []
    wide += [entry.offset] if entry.offset >= _MAX32 else []
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    version, size = 45 if wide else 20, min(entry.size, _MAX32)
    fields = (_UNIX | version, version, 0, 0, 0, _DATE_1980, crc, size, size)
    tail = (len(name), len(extra), 0, 0, 0, _MODE, min(entry.offset, _MAX32))
    return _CENTRAL.pack(b"PK\1\2", *fields, *tail) + name + extra


def write_bundle(path: str | os.PathLike[str], manifest: Manifest, read_file: Callable[[str], Source]) -> str:
    """Write a bundle and return its digest; the same manifest and files give the same bytes everywhere.

    `read_file(name)` is called once for each of the manifest's files, in order; the bytes are streamed and must
    have the recorded size and sha256. At every instant `path` is the old file or the whole new one. Raises
    ManifestError (the manifest is not one that can be read back), IntegrityError (a file is not the recorded
    one), BundleError (it cannot be written; the old file is untouched).
    """
    target = Path(path)
    data = dump_manifest(manifest)
    files = parse_manifest(data).files
    check_folders(files)
    entries = plan_entries(len(data), {name: fact.size for name, fact in files.items()})
    check_output(target)
    try:
        storage.need_space(target.parent, sum(e.size for e in entries))
        with storage.replacing(target, mode=0o644) as descriptor:
            crcs = [_write_entry(descriptor, entries[0], iter((data,)), sha256(data).hexdigest())]
            for entry in entries[1:]:
                chunks = _chunks(entry.name, read_file)
                crcs.append(_write_entry(descriptor, entry, chunks, files[entry.name].sha256))
            storage.write_all(descriptor, directory(entries, tuple(crcs)))
    except OSError as error:
        raise _unwritable(error, target) from None
    return sha256(data).hexdigest()


def check_output(path: Path) -> None:
    """Refuse a place where no bundle can be written, before the work that leads to it. Raises BundleError."""
    if os.path.isdir(path) or "\0" in str(path):
        raise BundleError(f"cannot write the bundle {path}: not the name of a file", hint="give a file's name")
    try:
        storage.check_writable(path)
    except OSError as error:
        raise _unwritable(error, path) from None


def _unwritable(error: OSError, path: Path) -> BundleError:
    return BundleError(f"cannot write the bundle {storage.explain(error, path)}", hint=storage.way_out(error))


def _write_entry(descriptor: int, entry: Entry, chunks: Iterator[bytes], expected: str) -> int:
    """Stream one member; its header is written again when the CRC is known."""
    storage.write_all(descriptor, local_header(entry, 0))
    crc, size, seen = 0, 0, sha256()
    for chunk in chunks:
        size += len(chunk)
        if size > entry.size:
            break
        crc = zlib.crc32(chunk, crc)
        seen.update(chunk)
        storage.write_all(descriptor, chunk)
    if size != entry.size or seen.hexdigest() != expected:
        got = f"{'more' if size > entry.size else f'{size:,} bytes'}, sha256 {seen.hexdigest()}"
        raise IntegrityError(
            f"{entry.name} is not the file that the manifest records: "
            f"expected {entry.size:,} bytes, sha256 {expected}, got {got}",
            hint="it changed while it was being packaged; package again",
        )
    storage.write_at(descriptor, local_header(entry, crc), entry.offset)
    return crc


def _chunks(name: str, read_file: Callable[[str], Source]) -> Iterator[bytes]:
    """The bytes of a source; what fails here is the source, not the bundle."""
    try:
        source = read_file(name)
        with open(source, "rb") if isinstance(source, (str, os.PathLike)) else source as stream:
            while chunk := stream.read(BUFFER_BYTES):
                yield chunk
    except OSError as error:
        raise BundleError(f"cannot read {name} for the bundle: {error.strerror or error}") from None


class Container(Record):
    """An open bundle file whose manifest is read and whose size is the one that the manifest demands."""

    path: Path
    descriptor: int
    fact: os.stat_result
    manifest: Manifest
    manifest_bytes: bytes
    entries: tuple[Entry, ...]

    @property
    def digest(self) -> str:
        """sha256 of the manifest's bytes: the bundle's name everywhere."""
        return sha256(self.manifest_bytes).hexdigest()


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """The manifest of a bundle file; payloads are not looked at. Raises BundleError."""
    with open_container(path) as container:
        return container.manifest


def verify(path: str | os.PathLike[str]) -> Manifest:
    """Read every byte of a bundle file and return its manifest. Raises BundleError, IntegrityError."""
    with open_container(path) as container:
        stream_payloads(container, lambda name, chunk: None)
        return container.manifest


@contextlib.contextmanager
def open_container(path: str | os.PathLike[str]) -> Iterator[Container]:
    """Open a bundle file and check all that its manifest tells, before a payload is read."""
    path = Path(path)
    try:
        # O_NONBLOCK: a named pipe must be refused, not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot open the bundle {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        fact = os.fstat(descriptor)
        if not stat.S_ISREG(fact.st_mode):
            kind = "a folder" if stat.S_ISDIR(fact.st_mode) else "not a plain file"
            raise BundleError(f"cannot read the bundle {path}: it is {kind}")
        data = _read_manifest_entry(descriptor, path, fact.st_size)
        try:
            manifest = parse_manifest(data)
            check_folders(manifest.files)
        except ManifestError as error:
            raise ManifestError(error.key, f"{error.problem} (in {path})", hint=error.hint) from None
        sizes = {name: f.size for name, f in manifest.files.items()}
        _check_size(path, len(data), sizes, fact.st_size)
        yield Container(
            path=path,
            descriptor=descriptor,
            fact=fact,
            manifest=manifest,
            manifest_bytes=data,
            entries=plan_entries(len(data), sizes),
        )
    finally:
        storage.close_read(descriptor)


def check_folders(files: Mapping[str, object]) -> None:
    """Refuse a name that is both a file and the folder of another. Raises ManifestError."""
    for name in files:
        above = name.rpartition("/")[0]
        while above:
            if above in files:
                raise ManifestError("files", f"{above!r} is a file and the folder of {name!r}")
            above = above.rpartition("/")[0]


def stream_payloads(container: Container, take: Callable[[str, memoryview], None]) -> None:
    """Compare the whole file with what the writer would emit; `take(name, chunk)` gets each payload on the way.

    The bytes given to `take` are proven only when this returns. At most BUFFER_BYTES are held.
    """
    path, descriptor = container.path, container.descriptor
    buffer, crcs = memoryview(bytearray(BUFFER_BYTES)), []
    crcs.append(zlib.crc32(container.manifest_bytes))
    for entry in container.entries[1:]:
        start = entry.offset + len(local_header(entry, 0))
        seen, crc, at = sha256(), 0, start
        while at < start + entry.size:
            chunk = buffer[: _read_into(descriptor, buffer[: start + entry.size - at], at, path)]
            seen.update(chunk)
            crc = zlib.crc32(chunk, crc)
            take(entry.name, chunk)
            at += len(chunk)
        expected = container.manifest.files[entry.name].sha256
        if seen.hexdigest() != expected:
            raise IntegrityError(
                f"{path}: {entry.name} is altered: expected sha256 {expected}, got {seen.hexdigest()}",
                hint=COPY_AGAIN,
            )
        _compare(descriptor, path, entry.offset, local_header(entry, crc), f"header of {entry.name}")
        if entry.size == 0:
            take(entry.name, buffer[:0])
        crcs.append(crc)
    tail = directory(container.entries, tuple(crcs))
    _compare(descriptor, path, container.fact.st_size - len(tail), tail, "directory")
    if identity(os.fstat(descriptor)) != identity(container.fact):
        raise IntegrityError(f"{path}: changed while it was read", hint=COPY_AGAIN)


def identity(fact: os.stat_result) -> tuple[int, int, int, int, int]:
    """(device, inode, size, mtime, ctime), times in ns: two equal ones, the same unchanged file."""
    return fact.st_dev, fact.st_ino, fact.st_size, fact.st_mtime_ns, fact.st_ctime_ns


def _read_manifest_entry(descriptor: int, path: Path, file_size: int) -> bytes:
    """The manifest's bytes; their length is bounded before they are read."""
    header = Entry(name=MANIFEST_NAME, size=0, offset=0)
    length = len(local_header(header, 0))
    if file_size == 0:
        raise BundleError(f"{path} is empty: not a bundle", hint=COPY_AGAIN)
    if file_size < length:
        raise BundleError(f"{path} is not a bundle: {file_size} bytes are too few", hint=COPY_AGAIN)
    found = _read_exactly(descriptor, length, 0, path)
    size = _LOCAL.unpack_from(found)[7]
    if found[:4] != b"PK\3\4":
        raise BundleError(f"{path} is not a bundle: it starts with {found[:4]!r}", hint=_MAKE_ONE)
    if found[_LOCAL.size :] != MANIFEST_NAME.encode() or not size:
        raise BundleError(f"{path} is not a bundle: a zip whose first member is not {MANIFEST_NAME}", hint=_MAKE_ONE)
    if size > MANIFEST_LIMIT_BYTES:
        raise BundleError(f"{path}: expected a manifest of at most {MANIFEST_LIMIT_BYTES:,} bytes, got {size:,}")
    if length + size > file_size:
        raise IntegrityError(
            f"{path}: expected at least {length + size:,} bytes, got {file_size:,}: it is cut off", hint=COPY_AGAIN
        )
    data = _read_exactly(descriptor, size, length, path)
    if found != local_header(header.replace(size=size), zlib.crc32(data)):
        raise IntegrityError(f"{path}: header of {MANIFEST_NAME} is altered", hint=COPY_AGAIN)
    return data


_MAKE_ONE = "`edgekit package` makes a bundle from a model"


def _check_size(path: Path, manifest_size: int, sizes: Mapping[str, int], file_size: int) -> None:
    """The file has the size that its manifest demands."""
    expected = sum(sizes.values())
    if expected <= file_size:  # else offsets may not even fit 64 bits
        entries = plan_entries(manifest_size, sizes)
        last = entries[-1]
        end = last.offset + len(local_header(last, 0)) + last.size
        expected = end + len(directory(entries, (0,) * len(entries)))
    if file_size != expected:
        what = "it is cut off" if file_size < expected else "something was added"
        raise IntegrityError(f"{path}: expected {expected:,} bytes, got {file_size:,}: {what}", hint=COPY_AGAIN)


def _compare(descriptor: int, path: Path, offset: int, expected: bytes, what: str) -> None:
    if _read_exactly(descriptor, len(expected), offset, path) != expected:
        raise IntegrityError(f"{path}: {what} is altered (at byte {offset:,})", hint=COPY_AGAIN)


def _read_exactly(descriptor: int, size: int, offset: int, path: Path) -> bytes:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        at += _read_into(descriptor, view[at:], offset + at, path)
    return bytes(data)


def _read_into(descriptor: int, view: memoryview, offset: int, path: Path) -> int:
    """Fill some of `view`; at least one byte."""
    try:
        count = os.preadv(descriptor, [view], offset)
    except OSError as error:
        raise BundleError(f"cannot read the bundle {path}: {error.strerror}") from None
    if count == 0:
        raise IntegrityError(f"{path}: ends at byte {offset:,}: cut off while it was read", hint=COPY_AGAIN)
    return count
