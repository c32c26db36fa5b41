"""The cache of this user, and stamps in it: what lets a later load skip hashing.

A stamp says: these files, with exactly these device numbers, inodes, sizes and times, had the hashes of this
bundle. One that is absent, malformed, unreadable or unwritable only means that files are hashed again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgekit import storage
from edgekit.digest import sha256
from edgekit.errors import BundleError
from edgekit.records import dump_canonical

Identity = tuple[int, int, int, int, int]
"""(device, inode, size in bytes, mtime in ns, ctime in ns)"""

CLOCK_TICK_NS = 20_000_000
"""Two changes within one tick of the kernel's clock (10 ms at HZ=100) may bear the same time."""

_STAMP_FORMAT = 1
_STAMP_LIMIT_BYTES = 1 << 16


def cache_folder() -> Path:
    """`$EDGEKIT_CACHE`, else `$XDG_CACHE_HOME/edgekit`, else `~/.cache/edgekit`. Raises BundleError."""
    if own := os.environ.get("EDGEKIT_CACHE"):
        return Path(os.path.abspath(own))
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):  # the XDG specification: a relative one is to be ignored
        return Path(shared, "edgekit")
    try:
        return Path.home() / ".cache" / "edgekit"
    except RuntimeError:
        raise BundleError("there is no home folder for the cache", hint="set EDGEKIT_CACHE to a folder") from None


def graph_cache(bundle: Path, digests: Iterable[str]) -> str:
    """Where the names of what runtimes keep of one graph begin; digests: of its files.

    In `<root>/caches` for the bundle of a release, `<root>/apps/<app>/releases/<id>/bundle`, else in the user's cache.
    Raises BundleError where there is no home folder.
    """
    above = bundle.resolve().parents
    release = len(above) > 4 and (above[1].name, above[3].name) == ("releases", "apps")
    folder = above[4] / "caches" if release else cache_folder() / "graphs"
    return str(folder / sha256(" ".join(digests).encode()).hexdigest()[:32])


def stamp_holds(path: str, digest: str, files: Mapping[str, Identity]) -> bool:
    """Whether the files at this real path were hashed before and are the same ones, unchanged."""
    expected = _content(digest, files)
    try:
        with open(_stamp_path(path), "rb") as stream:
            return stream.read(_STAMP_LIMIT_BYTES) == expected
    except (OSError, BundleError):
        return False


def write_stamp(path: str, digest: str, files: Mapping[str, Identity]) -> None:
    """Remember that these files have their hashes; never fails."""
    try:
        stamp = _stamp_path(path)
        storage.make_folders(stamp.parent)
        storage.write_file(stamp, _content(digest, files))
    except (OSError, BundleError):
        return


def settle(files: Iterable[Identity]) -> None:
    """Wait until a change of these files would show in their times; at most one clock tick.

    A file changed in the very tick in which it is hashed could be changed once more without a trace.
    """
    time.sleep(unsettled_ns(files) / 1e9)


def unsettled_ns(files: Iterable[Identity]) -> int:
    """How long until a change of these files would show in their times; 0 for files that rest."""
    now = time.time_ns()
    youngest = min((abs(now - t) for _, _, _, mtime, ctime in files for t in (mtime, ctime)), default=CLOCK_TICK_NS)
    return max(0, CLOCK_TICK_NS - youngest)


def _content(digest: str, files: Mapping[str, Identity]) -> bytes:
    return dump_canonical({"stamp": _STAMP_FORMAT, "digest": digest, "files": files})


def _stamp_path(path: str) -> Path:
    return cache_folder() / "stamps" / f"{sha256(os.fsencode(path)).hexdigest()}.json"
