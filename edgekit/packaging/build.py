"""From a draft to a bundle: stage the files, run the golden samples with the packed bytes, write."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgekit import golden
from edgekit.bundle import write_bundle
from edgekit.errors import BundleError, GateFailed, InputError
from edgekit.manifest import (
    FORMAT,
    MANIFEST_NAME,
    FileFact,
    GoldenSample,
    GraphSpec,
    Manifest,
    RunSettings,
    dump_manifest,
)
from edgekit.packaging import android
from edgekit.packaging.draft import GRAPH_TOLERANCE, Content, Draft, Sample, preprocess_tolerance
from edgekit.predictor import Predictor, load
from edgekit.records import Json
from edgekit.specs.image import ImageSpec
from edgekit.targets import Target, check_fit


def build(draft: Draft, target: Target, output: Path) -> tuple[Manifest, str]:
    """Write the bundle of a draft for a target and return its manifest and digest.

    Refuses (GateFailed) unless the packed bytes reproduce what each sample expects; nothing is written then.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-package-") as scratch:
        stage = Path(scratch) / "bundle"
        stage.mkdir()
        if target.supports is not None:
            draft = android.prepare(draft, target, Path(scratch))
        check_fit(lay_out(draft, target, stage), target)
        with load(stage, verify="full", text_memory=0) as predictor:
            samples = tuple(_golden(predictor, draft, sample, stage) for sample in draft.samples)
        manifest = _manifest(draft, target, stage, samples)
        _write_manifest(manifest, stage)
        with load(stage, verify="full", text_memory=0) as predictor:
            report = golden.check(predictor)
        if not report.passed:
            raise GateFailed(f"the bundle does not reproduce its own golden samples\n{report}")

        def read_file(name: str) -> BinaryIO:
            return (stage / name).open("rb")

        return manifest, write_bundle(output, manifest, read_file)


def lay_out(draft: Draft, target: Target, stage: Path) -> Manifest:
    """The files and the manifest of a draft in a folder, its golden samples not yet run: `load` takes it."""
    for name, content in sorted(draft.files.items()):
        _place(content, stage / name)
    manifest = _manifest(draft, target, stage, ())
    _write_manifest(manifest, stage)
    return manifest


def _place(content: Content, path: Path) -> None:
    """A real copy: hub snapshots are made of links, which a release must not hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            shutil.copyfile(content, path)
    except OSError as error:
        raise BundleError(f"{path.name}: cannot be staged ({error.strerror})") from None
    path.chmod(0o644)


def _manifest(draft: Draft, target: Target, stage: Path, samples: tuple[GoldenSample, ...]) -> Manifest:
    run = RunSettings(
        threads=target.threads,
        spinning=target.spinning,
        providers=target.providers if any(g.runtime == "onnxruntime" for g in draft.graphs) else (),
        fallback=bool(target.providers),
    )
    return Manifest(
        format=FORMAT,
        name=draft.name,
        version=draft.version,
        task=draft.task,
        license=draft.license,
        source=draft.source,
        inputs=draft.inputs,
        graphs=draft.graphs,
        postprocess=draft.postprocess,
        generation=draft.generation,
        golden=samples,
        limits=draft.limits,
        target=target.name,
        run=run,
        requires=_requires(draft),
        files=_facts(stage),
    )


def _requires(draft: Draft) -> dict[str, str]:
    """The packages that this bundle needs on the device, and no others."""
    found = {"numpy": ">=1.23"}
    for spec in draft.inputs.values():
        if spec.kind == "image":
            found["pillow"] = ">=9.4"
        if spec.kind == "audio":
            found["soundfile"] = ">=0.12.1"
        if spec.kind == "text" and spec.tokenizer.type == "tokenizer_json":
            found["tokenizers"] = ">=0.15"
    if draft.generation is not None:
        found["tokenizers"] = ">=0.15"
    for graph in draft.graphs:
        found["ai-edge-litert" if graph.runtime == "litert" else "onnxruntime"] = (
            ">=2.1" if graph.runtime == "litert" else ">=1.18"
        )
    return found


def _facts(stage: Path) -> dict[str, FileFact]:
    facts = {}
    for path in sorted(p for p in stage.rglob("*") if p.is_file()):
        name = path.relative_to(stage).as_posix()
        if name != MANIFEST_NAME:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            facts[name] = FileFact(size=path.stat().st_size, sha256=digest.hexdigest())
    return facts


def _write_manifest(manifest: Manifest, stage: Path) -> None:
    (stage / MANIFEST_NAME).write_bytes(dump_manifest(manifest))


def _golden(predictor: Predictor, draft: Draft, sample: Sample, stage: Path) -> GoldenSample:
    """Run a sample, refuse it unless it gives what is expected, and record it with its tensors."""
    result, values = golden.run_sample(predictor, sample.inputs, predictor.read)
    _refuse_differences(draft, sample, result, values)
    precision = _loosest(draft.graphs)
    tensors = []
    for index, name in enumerate(sorted(values)):
        stage_name, tolerance = _stage_of(draft, name)
        expected = sample.expected.get(name)
        array = values[name] if expected is None else _fitted(draft, name, expected, values[name].shape)
        file = f"golden/{sample.name}.{index}.bin"
        record, data = golden.record_tensor(name, stage_name, file, array.astype(values[name].dtype), tolerance)
        _place(data, stage / file)
        tensors.append(record)
    return GoldenSample(
        name=sample.name,
        truth="external" if sample.truth == "external" else "self",
        origin=sample.origin,
        inputs=sample.inputs,
        tensors=tuple(tensors),
        result=result,
        tolerance=GRAPH_TOLERANCE[precision],
    )


def _loosest(graphs: Sequence[GraphSpec]) -> str:
    return max((g.precision for g in graphs), key=lambda p: GRAPH_TOLERANCE[p], default="float32")


def _stage_of(draft: Draft, name: str) -> tuple[str, float]:
    """A value's stage, and the tolerance it has on another device."""
    for spec in draft.inputs.values():
        if name in _values_of(spec):
            tolerance = preprocess_tolerance(spec, same_machine=False) if name == _values_of(spec)[0] else 0.0
            return "preprocess", tolerance
    made = {p.value: g for g in draft.graphs for p in g.outputs}
    upstream = [g for g in draft.graphs if made[name] in (g, *_consumers(draft, g))]
    return "graph", GRAPH_TOLERANCE[_loosest(upstream)]


def _consumers(draft: Draft, graph: GraphSpec) -> list[GraphSpec]:
    """The graphs that read, directly or not, what this one writes."""
    written, found = {p.value for p in graph.outputs}, list[GraphSpec]()
    for other in draft.graphs:
        if other is not graph and other not in found and written & {p.value for p in other.inputs}:
            found.append(other)
            written |= {p.value for p in other.outputs}
    return found


def _values_of(spec: Any) -> list[str]:
    names = [getattr(spec, key, None) for key in ("value", "ids", "mask", "type_ids")]
    return [name for name in names if name is not None]


def _fitted(draft: Draft, name: str, expected: Any, shape: tuple[int, ...]) -> Any:
    """An expected tensor in the layout of this variant: recipes give images as NCHW."""
    for spec in draft.inputs.values():
        if isinstance(spec, ImageSpec) and spec.value == name and spec.layout == "nhwc" and expected.ndim == 4:
            expected = np.moveaxis(expected, 1, -1)
    if expected.size == int(np.prod(shape)):
        return expected.reshape(shape)
    raise InputError(f"golden '{name}': expected {list(expected.shape)}, the flow gives {list(shape)}")


def _refuse_differences(draft: Draft, sample: Sample, result: Json, values: Mapping[str, Any]) -> None:
    """Raise GateFailed when this machine's run differs from what another implementation computed."""
    found = []
    for name, expected in sample.expected.items():
        if name not in values:
            raise InputError(f"golden sample '{sample.name}': the flow has no value '{name}'")
        stage, tolerance = _stage_of(draft, name)
        if stage == "preprocess":
            owner = next(spec for spec in draft.inputs.values() if name in _values_of(spec))
            tolerance = preprocess_tolerance(owner, same_machine=True)
        fitted = _fitted(draft, name, expected, values[name].shape)
        found.append(golden.compare_tensors(sample.name, name, stage, fitted, values[name], tolerance))
    failures = [
        f"{d.what}: off by {d.difference}, tolerance {d.tolerance:.3g} {d.detail}" for d in found if not d.passed
    ]
    for key, expected in sample.result.items():
        if result.get(key) != expected:
            failures.append(f"result.{key}: expected {expected!r}, got {result.get(key)!r}")
    if failures:
        raise GateFailed(
            f"golden sample '{sample.name}' is not reproduced: " + "; ".join(failures),
            hint=f"the truth is {sample.origin}; look at the preprocessing keys of the recipe",
        )
