"""Files that survive a power cut: written beside their place, synced, renamed, and the folder synced.

Everything here raises OSError: whoever calls knows what was being written and says so (`explain` has the
words). What a killed process left behind is removed by the next one that writes to the same place; a lock on
the unfinished file tells it from one that is still being written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

_PART = r"(?s)\.(.*)\.[0-9a-f]{16}\.part"
_NAME_KEPT = 100  # a name may have 255 bytes in all
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[int]:
    """The descriptor of a new file that takes the place of `path` when the block ends well.

    If the block or any later step fails, `path` is what it was before and nothing is left beside it. The one
    exception: when the folder cannot be synced at the very end, the new file is in place and OSError is raised.
    A device, a pipe or a folder is not replaced: OSError with EINVAL.
    """
    _refuse_special(path)
    sweep(path.parent, path.name)
    part, descriptor = _reserve(path, _create_file)
    try:
        try:
            yield descriptor
            os.fchmod(descriptor, mode)
            sync_descriptor(descriptor)
            os.replace(part, path)
        except BaseException:
            remove(part)
            raise
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` where `path` is: after a crash the file is the old one or the new one."""
    with replacing(path, mode=mode) as descriptor:
        write_all(descriptor, data)


@contextlib.contextmanager
def new_folder(path: Path, *, mode: int = 0o755) -> Iterator[Path]:
    """A folder to fill that becomes `path`, synced with all it holds, when the block ends well.

    If anything fails it is removed. `path` itself must be absent or an empty folder at the end (OSError with
    EEXIST or ENOTEMPTY otherwise: somebody else was first).
    """
    part, descriptor = _reserve(path, _create_folder)
    try:
        try:
            yield part
            sync_tree(part)
            os.chmod(part, mode)
            os.rename(part, path)
        except BaseException:
            remove(part)
            raise
    finally:
        close_read(descriptor)
    sync_folder(path.parent)


def set_aside(path: Path) -> None:
    """Take a file or folder away in one step, then delete it; absent is fine."""
    part = _part_name(path)
    try:
        os.rename(path, part)
    except FileNotFoundError:
        return
    sync_folder(path.parent)
    remove(part)


def make_folders(path: Path) -> None:
    """Create a folder and those above it, each synced into its parent."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
        sync_folder(folder.parent)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left unfinished in `folder` (for `name`, or for any); never fails."""
    wanted = None if name is None else name[:_NAME_KEPT]
    with contextlib.suppress(OSError):
        for entry in os.listdir(folder):
            match = re.fullmatch(_PART, entry)
            if match and wanted in (None, match[1]):
                _remove_if_abandoned(folder / entry)


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with all it holds; never fails."""
    with contextlib.suppress(OSError):
        os.unlink(path)
        return
    import shutil  # 2 ms of start-up (bz2, lzma) for what loading hardly ever needs

    shutil.rmtree(path, ignore_errors=True)


def close_read(descriptor: int) -> None:
    """Close a descriptor that was only read from: a failure means nothing then."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte at the descriptor's position."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write every byte at `offset`; the descriptor's position stays."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def sync_descriptor(descriptor: int) -> None:
    """Wait until the file is on the medium, not only in the drive's cache (macOS needs F_FULLFSYNC for that)."""
    import fcntl  # what only reads needs no locks, nor the time to import them

    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, full_sync)
            return
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; file systems that cannot sync a folder say EINVAL and are believed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        close_read(descriptor)


def sync_tree(folder: Path) -> None:
    """Sync every file and folder below `folder`, and itself; links are not followed."""
    for where, _, names in os.walk(folder, topdown=False):
        for name in names:
            descriptor = os.open(os.path.join(where, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                sync_descriptor(descriptor)
            finally:
                close_read(descriptor)
        sync_folder(Path(where))


def free_bytes(folder: Path) -> int | None:
    """Bytes that this user may still write there; None where the file system does not tell."""
    try:
        fact = os.statvfs(folder)
    except OSError:
        return None
    return fact.f_bavail * fact.f_frsize if fact.f_blocks else None


def need_space(folder: Path, size_bytes: int) -> None:
    """Raise ENOSPC before the first byte when `size_bytes` do not fit."""
    free = free_bytes(folder)
    if free is not None and free < size_bytes:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {size_bytes:,} bytes are needed")


def explain(error: OSError, path: Path) -> str:
    """What went wrong at `path`, with the free space where that is the reason."""
    reason = error.strerror or str(error)
    free = free_bytes(path.parent) if error.errno in _FULL else None
    return f"{path}: {reason}" + (f" ({free:,} bytes are free in {path.parent})" if free is not None else "")


def check_writable(path: Path) -> None:
    """Raise OSError where a file could not be put at `path`: to be known before long work, not after it."""
    _refuse_special(path)
    if not path.parent.is_dir():
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def way_out(error: OSError) -> str:
    """What to do about an error while writing."""
    if error.errno in _FULL:
        return "free some space, or write to another disk"
    return _WAYS_OUT.get(error.errno or 0, "write to another folder")


_WAYS_OUT = {
    errno.ENOENT: "make its folder first (mkdir -p)",
    errno.ENOTDIR: "its folder's name is a file's: give another",
    errno.EINVAL: "give a file's name",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EIO: "look at the disk: dmesg, smartctl",
}


def _refuse_special(path: Path) -> None:
    """Renaming over /dev/null or /dev/stdout would take it away from everybody."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "not a plain file")


def _part_name(path: Path) -> Path:
    return path.parent / f".{path.name[:_NAME_KEPT]}.{os.urandom(8).hex()}.part"


def _reserve(path: Path, create: Callable[[Path], int]) -> tuple[Path, int]:
    """An unfinished file or folder beside `path`, locked, so that `sweep` leaves it alone."""
    while True:
        part = _part_name(path)
        descriptor = create(part)
        try:
            if _lock(descriptor) is not False and _is_at(descriptor, part):
                return part, descriptor
        except BaseException:
            remove(part)
            close_read(descriptor)
            raise
        close_read(descriptor)  # a sweep came between creation and lock


def _create_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _create_folder(path: Path) -> int:
    while True:
        os.mkdir(path, 0o700)
        try:
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # swept before it could be opened
        except BaseException:
            remove(path)
            raise


def _lock(descriptor: int) -> bool | None:
    """True: locked; False: somebody else has it; None: this file system has no locks."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _remove_if_abandoned(part: Path) -> None:
    try:
        descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if _lock(descriptor) is True and _is_at(descriptor, part):
            remove(part)
    finally:
        close_read(descriptor)
