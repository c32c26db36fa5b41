"""Bundles around the benchmark's graphs, written without packaging: manifest and files as they are."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

from edgekit.bundle import write_bundle
from edgekit.manifest import FORMAT, FileFact, GraphSpec, Limits, Manifest, RunSettings, dump_manifest, parse_manifest
from edgekit.specs.post import Raw

LIMITS = Limits(
    pixels=50_000_000,
    image_bytes=64 << 20,
    audio_seconds=600.0,
    audio_bytes=1 << 28,
    audio_channels=8,
    text_bytes=1 << 20,
    candidates=1000,
)


def graph(file: str, runtime: str, inputs: Any, outputs: Any, **changes: Any) -> GraphSpec:
    """The record of a graph; its name and role are `model`."""
    fields: dict[str, Any] = {
        "name": "model",
        "file": file,
        "data": None,
        "runtime": runtime,
        "role": "model",
        "precision": "float32",
        "inputs": tuple(inputs),
        "outputs": tuple(outputs),
        "state": (),
        "constants": (),
    }
    return GraphSpec(**{**fields, **changes})


def write(
    path: Path, inputs: dict[str, Any], graphs: tuple[GraphSpec, ...], files: dict[str, bytes], **changes: Any
) -> Path:
    """A bundle whose result is the graphs' outputs as they are, unless `changes` says otherwise; one thread."""
    facts = {n: FileFact(size=len(d), sha256=hashlib.sha256(d).hexdigest()) for n, d in sorted(files.items())}
    fields: dict[str, Any] = {
        "format": FORMAT,
        "name": "bench",
        "version": "1.0.0",
        "task": "feature-extraction",
        "license": "Apache-2.0",
        "source": "made for the benchmark",
        "inputs": inputs,
        "graphs": graphs,
        "postprocess": Raw(task="raw", values=tuple(p.value for g in graphs for p in g.outputs)),
        "golden": (),
        "limits": LIMITS,
        "target": "linux-x86_64",
        "run": RunSettings(threads=1, spinning=False, providers=(), fallback=False),
        "requires": {},
        "files": facts,
    }
    for name in Manifest.fields_:  # keys that a later format adds and that say nothing here
        fields.setdefault(name, None)
    manifest = Manifest(**{**fields, **changes})
    parse_manifest(dump_manifest(manifest))
    write_bundle(path, manifest, lambda name: BytesIO(files[name]))
    return path
