"""`inspect`: what a model file, a bundle or a folder contains, and what compression there is."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from edgekit.bundle import open_bundle
from edgekit.compression.facts import GraphFacts
from edgekit.compression.inspected import Inspection
from edgekit.compression.inspection import inspect_model
from edgekit.compression.reading import read_network
from edgekit.errors import InputError
from edgekit.manifest import Manifest
from edgekit.operations.package import inspect as bundle_facts
from edgekit.operations.package import is_bundle
from edgekit.targets import Target, find_target

SUFFIXES = (".onnx", ".ort", ".tflite")
FOLDER_LIMIT = 64
CPU_INFO = Path("/proc/cpuinfo")

Shapes = Mapping[str, tuple[int, ...]]


def inspect(source: str, *, target: str | None, shapes: Shapes) -> Inspection:
    """What a source contains, every graph of it. Raises InputError, BundleError, GraphRefused."""
    kind = find_target(target) if target is not None else None
    features = cpu_features() if kind is None or kind.name.startswith("linux-") else None
    path = Path(source)
    if is_bundle(path):
        return inspect_bundle(path, kind, features, shapes)
    if path.is_dir():
        return _inspect_folder(path, kind, features, shapes)
    if not path.is_file():
        raise InputError(f"there is no file or folder {source}", hint="a model file, a bundle, or a folder of them")
    facts = inspect_model(path, shapes=shapes, target=kind, features=features)
    return Inspection(source=source, about={}, graphs={path.name: facts})


def inspect_bundle(path: Path, target: Target | None, features: frozenset[str] | None, shapes: Shapes) -> Inspection:
    """A bundle's facts and graphs; free axes take the sizes of its golden samples' tensors."""
    about = bundle_facts(str(path))
    graphs: dict[str, GraphFacts] = {}
    with open_bundle(path) as bundle:
        known = golden_shapes(bundle.manifest)
        for graph in bundle.manifest.graphs:
            file = bundle.path_for_loading(graph.file)
            data = bundle.path_for_loading(graph.data) if graph.data else None
            declared = {value.name: value.shape for value in read_network(file).main.inputs}
            given = {p.name: known[p.value] for p in graph.inputs if p.value in known and p.name in declared}
            given = {name: shape for name, shape in given.items() if len(shape) == len(declared[name] or ())}
            given.update({name: shape for name, shape in shapes.items() if name in declared})
            graphs[graph.name] = inspect_model(file, shapes=given, data=data, target=target, features=features)
            bundle.confirm(graph.file)
    return Inspection(source=str(path), about={k: str(v) for k, v in about.items()}, graphs=graphs)


def golden_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """The shapes that values of the flow had for the golden samples, the first one's where they differ."""
    found: dict[str, tuple[int, ...]] = {}
    for sample in manifest.golden:
        for tensor in sample.tensors:
            found.setdefault(tensor.value, tensor.shape)
    return found


def _inspect_folder(path: Path, target: Target | None, features: frozenset[str] | None, shapes: Shapes) -> Inspection:
    """Every model file below a folder; a shape goes to the graphs that have an input of that name."""
    files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    if not files:
        raise InputError(f"{path}: no model file below it", hint=f"expected {', '.join(SUFFIXES)} or a bundle")
    if len(files) > FOLDER_LIMIT:
        raise InputError(f"{path}: {len(files)} model files, at most {FOLDER_LIMIT}")
    graphs = {}
    for file in files:
        names = {value.name for value in read_network(file).main.inputs}
        own = {name: shape for name, shape in shapes.items() if name in names}
        graphs[file.relative_to(path).as_posix()] = inspect_model(file, shapes=own, target=target, features=features)
    return Inspection(source=str(path), about={}, graphs=graphs)


def cpu_features() -> frozenset[str] | None:
    """What this machine's processor says it can do, in the kernel's words; None where it does not say."""
    if platform.system() != "Linux":
        return None
    try:
        text = CPU_INFO.read_text("ascii", "replace")
    except OSError:
        return None
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else None


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME=1x3x224x224 as a name and a shape. Raises InputError."""
    name, equals, sizes = text.rpartition("=")
    if not equals or not name or not re.fullmatch(r"\d{1,9}(x\d{1,9}){0,15}", sizes):
        raise InputError(f"expected NAME=1x3x224x224, got {os.fspath(text)!r}")
    return name, tuple(int(size) for size in sizes.split("x"))
