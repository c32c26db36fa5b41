"""Targets: kinds of device, one TOML file each; and whether a manifest fits one."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any, Literal

from edgekit.errors import InputError, ManifestError, TargetError
from edgekit.manifest import Manifest
from edgekit.records import Record, parse

Runtime = Literal["onnxruntime", "litert", "tflite-runtime"]


class Target(Record):
    """A kind of device.

    arch: as `uname -m` says (`arm64-v8a` for Android). boards: beginnings of the device tree's model string.
    python: versions of the system's interpreter; empty where there is none. glibc: the oldest release's version.
    ram_mb: sizes the board is sold with. runtimes, precisions: in order of preference. providers: execution
    providers in order. threads: per graph. spinning: whether idle workers spin. sensors: what profile can read.
    supports: dotted key of a spec -> the values that the device's own library carries out; null where that is edgekit.
    """

    name: str
    title: str
    arch: Literal["x86_64", "aarch64", "armv7l", "arm64-v8a"]
    boards: tuple[str, ...]
    python: tuple[str, ...]
    glibc: str
    ram_mb: tuple[int, ...]
    runtimes: tuple[Runtime, ...]
    precisions: tuple[Literal["float32", "float16", "int8", "int4"], ...]
    providers: tuple[str, ...]
    threads: int
    spinning: bool
    sensors: tuple[str, ...]
    cpu_features: tuple[str, ...]
    notes: str
    supports: dict[str, tuple[Any, ...]] | None

    def runs(self, runtime: str) -> bool:
        """Whether a graph of this runtime runs here (a LiteRT graph also runs on tflite-runtime)."""
        return runtime in self.runtimes or (runtime == "litert" and "tflite-runtime" in self.runtimes)


def data_folder(name: str) -> Path:
    """`targets` or `models`: inside the installed package, or at the root of a checkout."""
    here = Path(__file__).resolve().parent
    packed = here / "_data" / name
    return packed if packed.is_dir() else here.parent / name


def load_toml(path: Path) -> dict[str, object]:
    """The document of a TOML file; raises InputError naming the file and the line."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # ends with Python 3.10
        import tomli as tomllib
    try:
        with path.open("rb") as file:
            document: dict[str, object] = tomllib.load(file)
            return document
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from None


def known_targets() -> dict[str, Target]:
    """Every target that edgekit ships, by name."""
    return {path.stem: _load(path) for path in sorted(data_folder("targets").glob("*.toml"))}


def _load(path: Path) -> Target:
    try:
        target = parse(Target, load_toml(path), by_hand=True)
    except ManifestError as error:
        raise InputError(f"{path.name}: '{error.key}' {error.problem}") from None
    if target.name != path.stem:
        raise InputError(f"{path.name}: name is {target.name!r}, expected {path.stem!r}")
    return target


def find_target(name: str) -> Target:
    """The target of this name; raises InputError listing those there are."""
    targets = known_targets()
    if name not in targets:
        raise InputError(f"no target '{name}'", hint=f"one of: {', '.join(targets)}")
    return targets[name]


def local_target() -> Target:
    """The target that this machine is. Raises TargetError where none matches."""
    arch = platform.machine().replace("arm64", "aarch64")
    model = _board_model()
    fitting = [t for t in known_targets().values() if t.arch == arch]
    for target in fitting:
        if any(model.startswith(board) for board in target.boards):
            return target
    for target in fitting:
        if not target.boards:
            return target
    raise TargetError(f"no target for this machine ({arch})", hint="name one: --target; `edgekit targets` lists them")


def _board_model() -> str:
    for path in ("/sys/firmware/devicetree/base/model", "/proc/device-tree/model"):
        try:
            return Path(path).read_bytes().rstrip(b"\0\n").decode("ascii", "replace")
        except OSError:
            continue
    return ""


def check_fit(manifest: Manifest, target: Target) -> None:
    """Refuse a manifest whose graphs no runtime of the target runs; the message says need and have."""
    for graph in manifest.graphs:
        if not target.runs(graph.runtime):
            raise TargetError(
                f"graph '{graph.name}' needs {graph.runtime}; {target.name} has {', '.join(target.runtimes)}",
                hint="package another variant: --variant",
            )
