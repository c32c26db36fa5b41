"""A bundle ready to load: a verified folder whose files are hashed and loaded through open descriptors.

    FILE    verified and unpacked once into the cache, then used as a folder
    FOLDER  used in place: `manifest.json` and exactly the files that it lists

What is hashed is what is loaded: each file is opened once, without following links, relative to the folder's
descriptor, and hashed through its own; a runtime gets a path below the folder's descriptor; `confirm` after
loading tells whether the name still led to the hashed file and nothing wrote to it meanwhile. What remains
open is a write into a file after it was loaded: files in the cache and in releases are 0444.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal

from edgekit import storage
from edgekit.container import (
    BUFFER_BYTES,
    COPY_AGAIN,
    Container,
    check_folders,
    identity,
    open_container,
    read_manifest,
    stream_payloads,
    verify,
    write_bundle,
)
from edgekit.digest import sha256
from edgekit.errors import BundleError, ClosedError, IntegrityError, ManifestError
from edgekit.manifest import MANIFEST_LIMIT_BYTES, MANIFEST_NAME, Manifest, parse_manifest
from edgekit.records import Record
from edgekit.stamps import Identity, cache_folder, settle, stamp_holds, unsettled_ns, write_stamp

__all__ = ["BundleDirectory", "open_bundle", "read_manifest", "verify", "write_bundle"]

_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: a pipe must not hang us
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_ATTEMPTS = 3  # two processes may repair the same cache entry at once


class _Kept(Record):
    """An open file and what it was when it was hashed; `folders`: the folders between it and the root."""

    descriptor: int
    fact: Identity
    folders: tuple[Identity, ...]


class BundleDirectory:
    """A verified bundle folder, open until `close`; safe to use from several threads.

    Attributes: manifest; digest (sha256 of the manifest's bytes); path; descriptor (of the folder).
    """

    def __init__(self, path: Path, descriptor: int, manifest: Manifest, digest: str, files: dict[str, _Kept]) -> None:
        self.path = path
        self.descriptor = descriptor
        self.manifest = manifest
        self.digest = digest
        self._files = files
        self._closed = False

    def path_for_loading(self, name: str) -> str:
        """What to hand to a runtime: the verified folder itself by descriptor where the system has /proc."""
        self._kept(name)
        return f"/proc/self/fd/{self.descriptor}/{name}" if _has_proc() else str(self.path / name)

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a file of at most `limit` bytes, hashed again. Raises BundleError, IntegrityError."""
        kept, expected = self._kept(name), self.manifest.files[name]
        if expected.size > limit:
            raise BundleError(f"{self.path}: {name} has {expected.size:,} bytes, at most {limit:,} are read here")
        data = b"".join(_pieces(kept.descriptor, expected.size, self.path / name))
        if sha256(data).hexdigest() != expected.sha256:
            raise IntegrityError(f"{self.path}: {name} was changed while the bundle was open", hint=COPY_AGAIN)
        return data

    def confirm(self, name: str) -> None:
        """Call after a runtime loaded `name`: IntegrityError unless it was the hashed file all the time."""
        kept = self._kept(name)
        fresh: int | None = None
        try:
            same = identity(os.fstat(kept.descriptor)) == kept.fact
            fresh, folders = _open_below(self.descriptor if _has_proc() else self.path, name)
            same = same and folders == kept.folders and identity(os.fstat(fresh)) == kept.fact
        except OSError:
            same = False
        finally:
            if fresh is not None:
                storage.close_read(fresh)
        if not same:
            raise IntegrityError(
                f"{self.path}: {name} was replaced or written to while it was loaded",
                hint="something else writes to this folder; stop it and load again",
            )

    def close(self) -> None:
        """Close every descriptor; a second call does nothing."""
        if not self._closed:
            self._closed = True
            _close_all(self.descriptor, self._files)

    def __enter__(self) -> BundleDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _kept(self, name: str) -> _Kept:
        if self._closed:
            raise ClosedError(f"the bundle {self.path} is closed")
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: the manifest lists no file {name[:80]!r}")
        return self._files[name]


def open_bundle(path: str | os.PathLike[str], *, verify: Literal["stamp", "full"] = "stamp") -> BundleDirectory:
    """Open a bundle file or folder, verified to the last byte.

    verify: `stamp` does not hash again what a stamp in the cache says was hashed and has not changed since;
    `full` hashes everything. Raises BundleError, ManifestError, IntegrityError.
    """
    if verify not in ("stamp", "full"):
        raise BundleError(f"verify is 'stamp' or 'full', not {verify!r}")
    place = Path(path)
    return _open_folder(place, verify) if _is_folder(place) else _open_file(place, verify)


def _has_proc() -> bool:
    return sys.platform.startswith("linux") and os.path.isdir("/proc/self/fd")


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        raise BundleError(f"there is no bundle at {path}", hint="`edgekit package` makes one") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot open the bundle {path}: {getattr(error, 'strerror', None) or error}") from None


def _open_file(path: Path, verify: str) -> BundleDirectory:
    """Verify a bundle file, unpack it into the cache unless it is there, and open that."""
    with open_container(path) as container:
        digest, real, facts = container.digest, os.path.realpath(path), {"": identity(container.fact)}
        entry = cache_folder() / "bundles" / digest
        verified = verify == "stamp" and stamp_holds(real, digest, facts)
        stampable = unsettled_ns(facts.values()) == 0
        problem = ""
        for _ in range(_ATTEMPTS):
            if not os.path.lexists(entry):
                _unpack(container, entry)
            elif not verified:
                stream_payloads(container, lambda name, chunk: None)
            if not verified and stampable:
                write_stamp(real, digest, facts)
            verified = True
            inode = _inode(entry)
            try:
                return _open_folder(entry, verify, digest=digest)
            except (IntegrityError, ManifestError) as error:
                problem = error.message
            _discard(entry, inode)
        raise BundleError(f"the cache cannot keep {path}: {problem}", hint=f"look at {entry.parent}")


def _inode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None


def _discard(entry: Path, inode: int | None) -> None:
    """Take a damaged cache entry away, unless another process has replaced it meanwhile."""
    if _inode(entry) != inode:
        return
    try:
        storage.set_aside(entry)
    except OSError as error:
        raise BundleError(f"cannot repair the cache: {storage.explain(error, entry)}") from None


def _unpack(container: Container, entry: Path) -> None:
    """Copy the payloads into the cache while they are verified; nothing stays there unless all are."""
    try:
        storage.make_folders(entry.parent)
        storage.sweep(entry.parent)
        storage.need_space(entry.parent, container.fact.st_size)
        with storage.new_folder(entry) as folder:
            _Unpacking(folder).run(container)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and _inode(entry) is not None:
            return  # another process was first; what it wrote is verified like anything else
        raise BundleError(
            f"cannot unpack {container.path} into the cache: {storage.explain(error, entry)}",
            hint="free some space, or set EDGEKIT_CACHE to a folder elsewhere",
        ) from None


class _Unpacking:
    """Writes each file of a container as its chunks arrive."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = ""
        self._descriptor: int | None = None

    def run(self, container: Container) -> None:
        try:
            self._take(MANIFEST_NAME, memoryview(container.manifest_bytes))
            stream_payloads(container, self._take)
        finally:
            self._finish()

    def _take(self, name: str, chunk: memoryview) -> None:
        if name != self._name:
            self._finish()
            path = self._folder / name
            self._make_folder(path.parent)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._name = name
        if self._descriptor is not None:
            storage.write_all(self._descriptor, chunk)

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir()
            folder.chmod(0o755)  # whatever the umask says: a service may run as another user

    def _finish(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                os.fchmod(descriptor, 0o444)
            finally:
                os.close(descriptor)


def _open_folder(path: Path, verify: str, *, digest: str | None = None) -> BundleDirectory:
    """Open a folder in place; `digest` is the one it must have, if known."""
    try:
        root = os.open(path, _OPEN_FOLDER)
    except OSError as error:
        raise _open_error(error, f"cannot open the bundle {path}: {error.strerror}") from None
    files: dict[str, _Kept] = {}
    try:
        data = _read_manifest_file(root, path, files)
        try:
            manifest = parse_manifest(data)
            check_folders(manifest.files)
        except ManifestError as error:
            raise ManifestError(error.key, f"{error.problem} (in {path})", hint=error.hint) from None
        found = sha256(data).hexdigest()
        if digest is not None and found != digest:
            raise IntegrityError(f"{path}: expected the bundle {digest}, got {found}")
        _check_listing(root, path, manifest)
        for name, fact in manifest.files.items():
            files[name] = _keep(root, path, name)
            if files[name].fact[2] != fact.size:
                raise IntegrityError(
                    f"{path}: {name}: expected {fact.size:,} bytes, got {files[name].fact[2]:,}", hint=COPY_AGAIN
                )
        _verify_files(path, manifest, found, files, verify)
        return BundleDirectory(path, root, manifest, found, files)
    except BaseException:
        _close_all(root, files)
        raise


def _verify_files(path: Path, manifest: Manifest, digest: str, files: Mapping[str, _Kept], verify: str) -> None:
    """Hash every file through its descriptor, unless a stamp says that it was done."""
    real, facts = os.path.realpath(path), {name: kept.fact for name, kept in files.items()}
    if verify == "stamp" and stamp_holds(real, digest, facts):
        return
    settle(facts.values())
    for name, fact in manifest.files.items():
        seen = sha256()
        for piece in _pieces(files[name].descriptor, fact.size, path / name):
            seen.update(piece)
        if seen.hexdigest() != fact.sha256:
            raise IntegrityError(
                f"{path}: {name} is altered: expected sha256 {fact.sha256}, got {seen.hexdigest()}", hint=COPY_AGAIN
            )
    for name, kept in files.items():
        if identity(os.fstat(kept.descriptor)) != kept.fact:
            raise IntegrityError(f"{path}: {name} was written to while it was verified", hint=COPY_AGAIN)
    write_stamp(real, digest, facts)


def _read_manifest_file(root: int, path: Path, files: dict[str, _Kept]) -> bytes:
    kept = files[MANIFEST_NAME] = _keep(root, path, MANIFEST_NAME)
    size = kept.fact[2]
    if size > MANIFEST_LIMIT_BYTES:
        raise IntegrityError(f"{path}: expected a manifest of at most {MANIFEST_LIMIT_BYTES:,} bytes, got {size:,}")
    return b"".join(_pieces(kept.descriptor, size, path / MANIFEST_NAME))


def _check_listing(root: int, path: Path, manifest: Manifest) -> None:
    """The folder holds what the manifest lists and nothing else (missing files show when they are opened)."""
    expected: dict[str, set[str]] = {"": {MANIFEST_NAME}}
    for name in manifest.files:
        above, _, last = name.rpartition("/")
        expected.setdefault(above, set()).add(last)
        while above:
            above, _, last = above.rpartition("/")
            expected.setdefault(above, set()).add(last)
    for folder, names in expected.items():
        descriptor = -1
        try:
            descriptor = _open_below(root, folder or ".", flags=_OPEN_FOLDER | os.O_NOFOLLOW)[0]
            extra = sorted(set(os.listdir(descriptor)) - names)
        except OSError as error:
            raise _open_error(error, f"{path}: cannot open the folder {folder}: {error.strerror}") from None
        finally:
            if descriptor >= 0:
                storage.close_read(descriptor)
        if extra:
            where = path / folder
            raise IntegrityError(
                f"{where} holds {extra[0]!r}, which is not in the manifest" + (" (and more)" if extra[1:] else ""),
                hint="a bundle's folder holds its files and nothing else; move it away",
            )


def _keep(root: int, path: Path, name: str) -> _Kept:
    """Open a plain file below the folder. Raises IntegrityError for anything else."""
    try:
        descriptor, folders = _open_below(root, name)
    except FileNotFoundError:
        raise IntegrityError(f"{path}: {name} is missing", hint=COPY_AGAIN) from None
    except OSError as error:
        link = f"{name} is a link or lies behind one: a bundle is made of plain files" if _is_link(path, name) else None
        raise _open_error(error, f"{path}: {link or f'cannot open {name}: {error.strerror}'}") from None
    fact = os.fstat(descriptor)
    if not stat.S_ISREG(fact.st_mode):
        storage.close_read(descriptor)
        raise IntegrityError(f"{path}: {name} is not a plain file", hint=COPY_AGAIN)
    return _Kept(descriptor=descriptor, fact=identity(fact), folders=folders)


def _open_error(error: OSError, message: str) -> BundleError:
    """Damage, or (too many open files, a failing disk) a state of this machine that says nothing of the bundle."""
    damage = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENXIO, errno.EISDIR)
    return IntegrityError(message, hint=COPY_AGAIN) if error.errno in damage else BundleError(message)


def _is_link(path: Path, name: str) -> bool:
    segments = name.split("/")
    return any(path.joinpath(*segments[: i + 1]).is_symlink() for i in range(len(segments)))


def _open_below(root: int | Path, name: str, *, flags: int = _OPEN_FILE) -> tuple[int, tuple[Identity, ...]]:
    """Open `name` segment by segment without following a link; also what the folders on the way were."""
    at = os.open(root, _OPEN_FOLDER) if isinstance(root, Path) else os.dup(root)
    folders = []
    *above, last = name.split("/")
    try:
        for segment in above:
            inner = os.open(segment, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=at)
            storage.close_read(at)
            at = inner
            folders.append(identity(os.fstat(at)))
        return os.open(last, flags, dir_fd=at), tuple(folders)
    finally:
        storage.close_read(at)


def _pieces(descriptor: int, size: int, path: Path) -> Iterator[bytes]:
    """The `size` bytes of a file in order; the descriptor's position is not used."""
    at = 0
    while at < size:
        try:
            piece = os.pread(descriptor, min(BUFFER_BYTES, size - at), at)
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error.strerror}") from None
        if not piece:
            raise IntegrityError(f"{path}: expected {size:,} bytes, got {at:,}: it is cut off", hint=COPY_AGAIN)
        at += len(piece)
        yield piece


def _close_all(root: int, files: Mapping[str, _Kept]) -> None:
    for descriptor in (root, *(kept.descriptor for kept in files.values())):
        storage.close_read(descriptor)
