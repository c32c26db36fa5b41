"""A Gradle library module of a bundle: its files as assets, the Java library, an instrumented test, a sample."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgekit.arrays import Array
from edgekit.bundle import BundleDirectory
from edgekit.errors import BundleError, InputError
from edgekit.manifest import MANIFEST_NAME, Manifest, dump_manifest
from edgekit.records import Json, Record, dump
from edgekit.specs.tensor import DATATYPES

LITERT_VERSION = "1.4.2"
"""The newest release whose Interpreter is not limited to the CPU (2.x runs it there only)."""

READ_LIMIT_BYTES = 64 << 20
_SOURCES = Path(__file__).resolve().parent / "java"
_RESULTS = {
    "classification": "Classification",
    "embedding": "Embedding",
    "similarity": "Similarity (or Embedding for one input alone)",
    "detections": "Detections",
    "raw": "Raw",
}
_FOLDERS = {
    "core": "src/main/java",
    "litert": "src/litert/java",
    "android": "src/android/java",
    "androidtest": "src/androidTest/java",
    "sample": "sample",
}
"""Sources here -> where they lie in the module."""


class Exported(Record):
    """A module that was written. decoded: golden pictures and sounds that came along as pixels and samples."""

    path: str
    name: str
    version: str
    digest: str
    files: int
    size_bytes: int
    decoded: int

    def to_dict(self) -> Json:
        """Plain JSON."""
        return dump(self)

    def __str__(self) -> str:
        return (
            f"{self.path}  {self.files} files, {self.size_bytes:,} bytes\n"
            f"{self.name} {self.version}, digest {self.digest[:12]}, {self.decoded} golden inputs decoded\n"
            f"add it to settings.gradle.kts; README.md says how to call predict"
        )


def write_module(bundle: BundleDirectory, folder: Path) -> Exported:
    """Write the module into a folder that is empty or not there. Raises InputError, BundleError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: expected an empty folder, or none", hint="remove it, or name another one")
    manifest = bundle.manifest
    try:
        folder.mkdir(parents=True, exist_ok=True)
        decoded = _write_assets(bundle, folder)
        _write_sources(manifest, bundle.digest, folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    written = [p for p in folder.rglob("*") if p.is_file()]
    return Exported(
        path=str(folder),
        name=manifest.name,
        version=manifest.version,
        digest=bundle.digest,
        files=len(written),
        size_bytes=sum(p.stat().st_size for p in written),
        decoded=decoded,
    )


def _write_assets(bundle: BundleDirectory, folder: Path) -> int:
    """The bundle's files for the app, and the golden samples for its test; how many inputs were decoded."""
    manifest = bundle.manifest
    assets = folder / "src/main/assets/edgekit" / manifest.name
    golden = folder / "src/androidTest/assets/edgekit-golden" / manifest.name
    index: dict[str, Json] = {}
    assets.mkdir(parents=True)
    (assets / MANIFEST_NAME).write_bytes(dump_manifest(manifest))
    wanted = {e.file for sample in manifest.golden for e in sample.tensors}
    given = _golden_inputs(manifest)
    for name in manifest.files:
        if name in wanted:
            _put(golden / name, bundle, name)
        elif name not in given:
            _put(assets / name, bundle, name)
    for name, keyword in given.items():
        facts, array = _decode(manifest, keyword, name, bundle.read(name, READ_LIMIT_BYTES))
        (golden / f"{name}.bin").parent.mkdir(parents=True, exist_ok=True)
        (golden / f"{name}.bin").write_bytes(array.astype(array.dtype.newbyteorder("<")).tobytes())
        index[name] = {
            **facts,
            "file": f"{name}.bin",
            "datatype": DATATYPES[array.dtype.name],
            "shape": list(array.shape),
        }
    golden.mkdir(parents=True, exist_ok=True)
    (golden / "decoded.json").write_text(json.dumps(index, indent=1, sort_keys=True), "utf-8")
    return len(index)


def _golden_inputs(manifest: Manifest) -> dict[str, str]:
    """The files that golden samples take as inputs, and under which keyword."""
    return {
        item["file"]: keyword
        for sample in manifest.golden
        for entry in sample.inputs
        for keyword, item in entry.items()
        if "file" in item
    }


def _put(path: Path, bundle: BundleDirectory, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bundle.path_for_loading(name), path)
    bundle.confirm(name)


def _decode(manifest: Manifest, keyword: str, name: str, data: bytes) -> tuple[dict[str, Json], Array]:
    """What a golden input is once decoded: a picture in the spec's colours, a sound's samples, or an array."""
    spec = manifest.inputs[keyword]
    if spec.kind == "image":
        from edgekit.preprocess import picture

        pixels = np.asarray(picture.decode(spec, data, manifest.limits).pixels)
        return {"kind": "image"}, pixels if pixels.ndim == 3 else pixels[:, :, None]
    if spec.kind == "audio":
        from edgekit.preprocess import sound

        heard = sound.decode(spec, data, manifest.limits)
        return {"kind": "audio", "rate_hz": heard.rate_hz}, heard.samples
    try:
        return {"kind": "tensor"}, np.load(io.BytesIO(data), allow_pickle=False)
    except ValueError as error:
        raise BundleError(f"{name}: not an .npy array ({error})") from None


def _write_sources(manifest: Manifest, digest: str, folder: Path) -> None:
    words = _words(manifest, digest)
    for source, place in _FOLDERS.items():
        for path in sorted((_SOURCES / source).rglob("*.java")):
            _fill(path, folder / place / path.relative_to(_SOURCES / source), words)
    _fill(_SOURCES / "module/build.gradle.kts", folder / "build.gradle.kts", words)
    _fill(_SOURCES / "module/AndroidManifest.xml", folder / "src/main/AndroidManifest.xml", words)
    _fill(_SOURCES / "module/README.md", folder / "README.md", words)


def _words(manifest: Manifest, digest: str) -> dict[str, str]:
    return {
        "NAME": manifest.name,
        "NAMESPACE": "dev.edgekit.bundle." + re.sub(r"[^a-z0-9]", "_", manifest.name),
        "VERSION": manifest.version,
        "TASK": manifest.task,
        "LICENSE": manifest.license,
        "DIGEST": digest[:12],
        "INPUTS": ", ".join(f"{keyword} ({spec.kind})" for keyword, spec in manifest.inputs.items()),
        "GRAPHS": ", ".join(f"{g.file} ({g.precision})" for g in manifest.graphs),
        "RESULT": _RESULTS[manifest.postprocess.task],
        "LITERT": LITERT_VERSION,
    }


def _fill(source: Path, output: Path, words: Mapping[str, str]) -> None:
    """A copy with @WORD@ replaced."""
    text = re.sub(r"@([A-Z]+)@", lambda match: words.get(match[1], match[0]), source.read_text("utf-8"))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, "utf-8")
