"""The layer of a device: the packages that a bundle needs there, built here from wheels for its tags.

The device needs no pip, no network and no root: a layer is a folder of plain files, named by what it holds. Wheels
are resolved once per set of needs by this interpreter's pip and kept with their hashes; edgekit in a layer is the
one that is running.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import edgekit
from edgekit import storage
from edgekit.devices.facts import Facts
from edgekit.devices.release import Content, Layer, inline
from edgekit.devices.transports.process import run_process
from edgekit.devices.wheels import WheelFile, unpack_wheel, wheel_name
from edgekit.errors import InputError, IntegrityError, ManifestError, TargetError
from edgekit.records import Record, dump, dump_canonical, load_json, parse
from edgekit.requirements import STANDS_IN
from edgekit.stamps import cache_folder
from edgekit.targets import data_folder

LAYER_RECORD = "layer.json"
DOWNLOAD_S = 1800.0

_OLDEST_GLIBC = {"x86_64": 5}
_LEGACY = {"x86_64": {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}}
_FROM_SYSTEM = ("numpy", "pillow", "soundfile")
"""32-bit Pi OS has these in apt; the index has no armv7l wheels of them."""

_WITHOUT_THEIRS = frozenset({"tokenizers"})
"""Packages whose dependencies serve downloads only (tokenizers: huggingface-hub)."""


class Needs(Record):
    """What a layer is built for and from.

    python: `3.11`. machine: as `uname -m`. glibc: minor version of glibc 2. requirements: what pip resolves;
    alone: what it takes without dependencies. wheels: files taken as they are, before the index.
    wheelhouse: a folder instead of the index, or null. system: packages that the device itself has.
    """

    python: str
    machine: str
    glibc: int
    requirements: tuple[str, ...]
    alone: tuple[str, ...]
    wheels: tuple[str, ...]
    wheelhouse: str | None
    system: tuple[str, ...]


class Unpacked(Record):
    """The files of all wheels of one set of needs, and which wheels they came from."""

    packages: dict[str, str]
    wheels: dict[str, str]
    files: tuple[WheelFile, ...]


def find_needs(
    facts: Facts, requires: Mapping[str, str], *, wheels: tuple[Path, ...] = (), wheelhouse: Path | None = None
) -> Needs:
    """What the layer for a bundle's `requires` must be on a device; raises TargetError when there can be none."""
    version = re.match(r"3\.(\d+)", facts.python)
    libc = re.fullmatch(r"glibc 2\.(\d+)", facts.libc)
    if not version or int(version[1]) < 10:
        raise TargetError(f"needs Python 3.10 or later, the device has {facts.python or 'none'}")
    if not libc:
        raise TargetError(f"needs glibc, the device has {facts.libc}")
    machine, packages = facts.machine, dict(requires)
    if facts.bits == 32:
        machine, packages = _needs_32(facts, packages, int(version[1]))
    packages.setdefault("click", ">=8.1")
    if int(version[1]) < 11:
        packages.setdefault("tomli", ">=2.0")
    given = {wheel_name(w)[0] for w in wheels}
    given |= {name for name, others in STANDS_IN.items() if given.intersection(others)}
    system = tuple(n for n in packages if n in _FROM_SYSTEM) if facts.bits == 32 else ()
    resolved = {n: v for n, v in packages.items() if n not in given and n not in system}
    no_deps = _WITHOUT_THEIRS | ({"tflite-runtime"} if facts.bits == 32 else set())
    return Needs(
        python=f"3.{version[1]}",
        machine=machine,
        glibc=int(libc[1]),
        requirements=tuple(sorted(_requirement(n, v) for n, v in resolved.items() if n not in no_deps)),
        alone=tuple(sorted(_requirement(n, v) for n, v in resolved.items() if n in no_deps)),
        wheels=tuple(sorted(str(w.absolute()) for w in wheels)),
        wheelhouse=str(wheelhouse.absolute()) if wheelhouse else None,
        system=system,
    )


def _requirement(name: str, version: str) -> str:
    # onnxruntime 1.24 to 1.26 leak memory on ARM (microsoft/onnxruntime KleidiAI convolution cache; fixed in 1.27).
    bad = ",!=1.24.*,!=1.25.*,!=1.26.*" if name == "onnxruntime" else ""
    return f"{name}{version}{bad}"


def _needs_32(facts: Facts, packages: dict[str, str], minor: int) -> tuple[str, dict[str, str]]:
    if facts.machine not in ("armv7l", "armv8l", "aarch64"):
        raise TargetError(f"needs a 64-bit system or 32-bit ARM, the device has 32-bit {facts.machine}")
    if "onnxruntime" in packages:
        raise TargetError("needs onnxruntime, which exists for no 32-bit ARM system", hint="use the 64-bit Pi OS")
    if "ai-edge-litert" in packages:
        del packages["ai-edge-litert"]
        packages["tflite-runtime"] = "==2.14.0"
        if minor > 11:
            raise TargetError(f"needs tflite-runtime, which exists up to Python 3.11, the device has 3.{minor}")
    return "armv7l", packages


def platform_tags(machine: str, glibc: int) -> tuple[str, ...]:
    """The platform tags that glibc 2.`glibc` on a machine accepts, newest first (PEP 600)."""
    legacy = _LEGACY.get(machine, {17: "manylinux2014"})
    tags: list[str] = []
    for minor in range(glibc, _OLDEST_GLIBC.get(machine, 17) - 1, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in legacy:
            tags.append(f"{legacy[minor]}_{machine}")
    return tuple(tags)


def build_layer(needs: Needs) -> Layer:
    """The layer for these needs; wheels come from the cache when they were resolved before.

    Raises TargetError when there is no wheel for the device, InputError without pip, IntegrityError.
    """
    home = cache_folder() / "layers" / _key(needs)
    unpacked = _read_unpacked(home) or _build(needs, home)
    contents = [
        Content(path=f.path, size=f.size, sha256=f.sha256, source=str(home / "files" / f.path), start=0, data=None)
        for f in unpacked.files
    ]
    contents += own_files()
    described = {
        "python": needs.python,
        "machine": needs.machine,
        "packages": unpacked.packages,
        "wheels": unpacked.wheels,
    }
    contents.append(inline(LAYER_RECORD, dump_canonical(described)))
    return layer_of(tuple(contents))


def _key(needs: Needs) -> str:
    """Names the needs with what the given wheels and the folder of wheels hold now."""
    try:
        given = [_sha256(Path(w)) for w in needs.wheels]
        house = sorted(Path(needs.wheelhouse).iterdir()) if needs.wheelhouse else []
        held = [[w.name, w.stat().st_size, w.stat().st_mtime_ns] for w in house]
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from None
    return hashlib.sha256(dump_canonical([dump(needs), given, held])).hexdigest()


def layer_of(contents: tuple[Content, ...]) -> Layer:
    """A layer over these files; its digest is the sha256 over their paths, sizes and hashes."""
    ordered = tuple(sorted(contents, key=lambda c: c.path))
    if len({c.path for c in ordered}) != len(ordered):
        raise IntegrityError("two packages of the layer have a file of the same name")
    listed = [[c.path, c.size, c.sha256] for c in ordered]
    return Layer(digest=hashlib.sha256(dump_canonical(listed)).hexdigest(), contents=ordered)


def own_files() -> list[Content]:
    """edgekit itself, the one that is running, with its targets."""
    home = Path(edgekit.__file__).resolve().parent
    found = [
        (path, f"edgekit/{path.relative_to(home).as_posix()}")
        for path in sorted(home.rglob("*"))
        if path.suffix in (".py", ".typed") and "_data" not in path.relative_to(home).parts
    ]
    found += [(p, f"edgekit/_data/targets/{p.name}") for p in sorted(data_folder("targets").glob("*.toml"))]
    return [inline(name, path.read_bytes()) for path, name in found]


def launcher() -> bytes:
    """The bytes of `<root>/bin/edgekit`."""
    return b"#!/usr/bin/env python3\n" + Path(__file__).with_name("launcher.py").read_bytes()


def _read_unpacked(home: Path) -> Unpacked | None:
    """What was unpacked before, if every file still has its size."""
    try:
        unpacked = parse(Unpacked, load_json((home / "unpacked.json").read_bytes()))
        whole = all((home / "files" / f.path).stat().st_size == f.size for f in unpacked.files)
    except (OSError, ManifestError):
        return None
    return unpacked if whole else None


def _build(needs: Needs, home: Path) -> Unpacked:
    try:
        storage.set_aside(home)
        storage.make_folders(home.parent)
        with storage.new_folder(home) as folder:
            (folder / "wheels").mkdir()
            _download(needs, folder / "wheels")
            wheels = [*sorted((folder / "wheels").iterdir()), *map(Path, needs.wheels)]
            files = tuple(f for w in wheels for f in unpack_wheel(w, folder / "files"))
            unpacked = Unpacked(
                packages=dict(wheel_name(w) for w in wheels), wheels={w.name: _sha256(w) for w in wheels}, files=files
            )
            (folder / "unpacked.json").write_bytes(dump_canonical(unpacked))
            return unpacked
    except FileExistsError as error:
        raise IntegrityError(f"two packages of the layer have a file of the same name: {error.filename}") from None
    except OSError as error:
        raise InputError(f"cannot build the layer: {storage.explain(error, home)}") from None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _download(needs: Needs, folder: Path) -> None:
    if needs.requirements:
        _pip(needs, folder, needs.requirements, ())
    if needs.alone:
        _pip(needs, folder, needs.alone, ("--no-deps",))


def _pip(needs: Needs, folder: Path, requirements: tuple[str, ...], more: tuple[str, ...]) -> None:
    tag = "cp" + needs.python.replace(".", "")
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    words += ["--only-binary=:all:", "--implementation", "cp", "--python-version", needs.python, *more]
    words += [word for abi in (tag, "abi3", "none") for word in ("--abi", abi)]
    words += [word for t in platform_tags(needs.machine, needs.glibc) for word in ("--platform", t)]
    words += ["--dest", str(folder)]
    if needs.wheelhouse:
        words += ["--no-index", "--find-links", needs.wheelhouse]
    for wheel in needs.wheels:
        words += ["--find-links", str(Path(wheel).parent)]
    done = run_process([*words, *requirements], timeout_s=DOWNLOAD_S, what="pip download")
    if done.returncode == 0:
        return
    said = done.stderr.decode("utf-8", "replace")
    if "No module named pip" in said:
        raise InputError("this interpreter has no pip to fetch wheels with", hint=f"{sys.executable} -m ensurepip")
    missing = re.search(r"No matching distribution found for (\S+)", said)
    if missing:
        where = f" in {needs.wheelhouse}" if needs.wheelhouse else ""
        raise TargetError(
            f"no wheel of {missing[1]} for Python {needs.python}, {needs.machine}, glibc 2.{needs.glibc}{where}",
            hint="give one with --wheel FILE",
        )
    raise InputError(f"pip could not fetch the wheels: {said.strip()[-600:]}")
