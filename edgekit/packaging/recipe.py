"""Recipes: a person's description of a model, `models/<name>/recipe.toml`, turned into a draft."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgekit.errors import InputError, ManifestError, TargetError
from edgekit.manifest import Constant, GraphSpec, InputSpec, Limits, State
from edgekit.packaging.decoder_wiring import Wiring, complete_generation, wire_graph
from edgekit.packaging.draft import LIMITS, Content, Draft, Sample
from edgekit.packaging.fetch import Progress, Source, fetch
from edgekit.packaging.ports import read_ports, read_tensors, runtime_of
from edgekit.packaging.sampling import generated_sample
from edgekit.records import Json, Record, dump, parse
from edgekit.specs.generation import GenerationSpec
from edgekit.specs.post import Postprocess
from edgekit.targets import Target, data_folder, load_toml


class RecipeGraph(Record):
    """A graph and its wiring: graph name of a tensor -> value name; the rest is read from the graph itself."""

    name: str
    file: str
    role: str
    rounding: Literal["none", "nearest_even", "nearest_away", "trunc"]
    inputs: dict[str, str]
    outputs: dict[str, str]
    state: tuple[State, ...]
    constants: tuple[Constant, ...]


class Variant(Record):
    """One way the model comes: its graphs, the files they need, and the input keys that differ."""

    name: str
    runtime: Literal["onnxruntime", "litert", "mixed"]
    precision: Literal["float32", "float16", "int8", "int4"]
    files: dict[str, str]
    inputs: dict[str, Any]
    graphs: tuple[RecipeGraph, ...]


class RecipeSample(Record):
    """A golden sample: files are paths beside the recipe; `tensors` maps a value to a key of the `expected` npz."""

    name: str
    origin: str
    inputs: tuple[dict[str, Any], ...]
    expected: str
    tensors: dict[str, str]
    result: dict[str, Any]


class Recipe(Record):
    """The whole file. `files`: name in the bundle -> path beside the recipe, or `source:ID`.

    generation: a GenerationSpec without what the decoder's graph says by itself (ids, logits, branch, caches, ...).
    """

    name: str
    version: str
    task: str
    license: str
    source: str
    sources: dict[str, Source]
    files: dict[str, str]
    inputs: dict[str, InputSpec]
    variants: tuple[Variant, ...]
    postprocess: Postprocess
    generation: dict[str, Any] | None
    golden: tuple[RecipeSample, ...]
    limits: Limits


_MAY_BE_ABSENT: dict[str, Json] = {"sources": {}, "files": {}, "golden": [], "limits": dump(LIMITS)}
_MAY_BE_ABSENT_IN_A_VARIANT: dict[str, Json] = {"files": {}, "inputs": {}}
_MAY_BE_ABSENT_IN_A_GRAPH: dict[str, Json] = {"state": [], "constants": [], "rounding": "none"}


def known_recipes() -> dict[str, Path]:
    """The recipes that edgekit ships, by name."""
    return {path.parent.name: path for path in sorted(data_folder("models").glob("*/recipe.toml"))}


def read_recipe(path: Path, variant: str | None, target: Target, folders: list[Path], progress: Progress) -> Draft:
    """The draft of a recipe's variant for a target; sources are fetched. Raises InputError naming the key."""
    document = _filled(load_toml(path))
    chosen = _choose(document.get("variants"), variant, target, path)
    document["inputs"] = _merged(document.get("inputs", {}), chosen.get("inputs", {}))
    document["variants"] = [chosen]
    try:
        recipe = parse(Recipe, document, by_hand=True)
    except ManifestError as error:
        raise InputError(f"{path}: '{error.key}' {error.problem}") from None
    return _draft(recipe, path.parent, folders, progress)


def _filled(document: dict[str, Any]) -> dict[str, Any]:
    """The document with what a recipe may leave out; facts about the model are not among it."""
    return {
        **_MAY_BE_ABSENT,
        **document,
        "limits": {**_MAY_BE_ABSENT["limits"], **document.get("limits", {})},
        "variants": [
            {
                **_MAY_BE_ABSENT_IN_A_VARIANT,
                **v,
                "graphs": [{**_MAY_BE_ABSENT_IN_A_GRAPH, **g} for g in v.get("graphs", [])],
            }
            for v in document.get("variants", [])
        ],
    }


def _choose(variants: Any, name: str | None, target: Target, path: Path) -> dict[str, Any]:
    """The variant of this name, or the first that the target's order of runtimes and precisions finds."""
    if not isinstance(variants, list) or not variants:
        raise InputError(f"{path}: 'variants' is missing")
    names = ", ".join(str(v.get("name")) for v in variants)
    if name is not None:
        for variant in variants:
            if variant.get("name") == name:
                return dict(variant)
        raise InputError(f"{path.parent.name} has no variant '{name}'", hint=f"one of: {names}")
    for precision in target.precisions:
        for runtime in (*target.runtimes, "mixed"):
            for variant in variants:
                wanted = "litert" if runtime == "tflite-runtime" else runtime
                if (variant.get("precision"), variant.get("runtime")) == (precision, wanted):
                    return dict(variant)
    raise TargetError(
        f"no variant of {path.parent.name} ({names}) runs on {target.name} ({', '.join(target.runtimes)})"
    )


def _merged(base: Any, changes: Any) -> Any:
    """`changes` over `base`, table by table."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return {key: _merged(base.get(key), changes[key]) if key in changes else base[key] for key in (*base, *changes)}


def _draft(recipe: Recipe, folder: Path, folders: list[Path], progress: Progress) -> Draft:
    variant = recipe.variants[0]
    searched = [*folders, *(Path(p) for p in os.environ.get("EDGEKIT_FILES", "").split(os.pathsep) if p)]

    def locate(place: str) -> Path:
        if place.startswith("source:"):
            source = recipe.sources.get(place.removeprefix("source:"))
            if source is None:
                raise InputError(f"{recipe.name}: '{place}' is not among its sources")
            return fetch(source, searched, progress)
        path = folder / place
        if not path.is_file():
            raise InputError(f"{recipe.name}: {place} is not beside the recipe ({folder})")
        return path

    files: dict[str, Content] = {name: locate(p) for name, p in {**recipe.files, **variant.files}.items()}
    samples = tuple(_sample(sample, files, locate) for sample in recipe.golden)
    if not samples:
        samples = (generated_sample(recipe.inputs, files),)
    graphs, wirings = _graphs(recipe, variant, files)
    return Draft(
        name=recipe.name,
        version=recipe.version,
        task=recipe.task,
        license=recipe.license,
        source=recipe.source,
        inputs=recipe.inputs,
        graphs=graphs,
        postprocess=recipe.postprocess,
        files=files,
        samples=samples,
        limits=recipe.limits,
        notes=(f"variant {variant.name} ({variant.runtime}, {variant.precision})",),
        generation=None if recipe.generation is None else _generation(recipe.generation, wirings),
    )


def _generation(table: Mapping[str, Any], wirings: list[Wiring]) -> GenerationSpec:
    if not wirings:
        raise InputError(f"'generation.decoder' {table.get('decoder')!r} is none of the variant's graphs")
    try:
        return complete_generation(table, wirings)
    except ManifestError as error:
        raise InputError(f"'{error.key}' {error.problem}") from None


def _graphs(
    recipe: Recipe, variant: Variant, files: Mapping[str, Content]
) -> tuple[tuple[GraphSpec, ...], list[Wiring]]:
    """The graphs, and the wiring of those that generate: it follows from their tensors' names."""
    decoders = [(recipe.generation or {}).get(key) for key in ("decoder", "decoder_with_past")]
    mask = next((g.inputs["attention_mask"] for g in variant.graphs if "attention_mask" in g.inputs), None)
    graphs, wirings = [], []
    for graph in variant.graphs:
        spec = _graph(graph, variant, files)
        if graph.name in decoders:
            wiring = wire_graph(read_tensors(_path(graph, files), spec.runtime), graph.file, mask)
            wirings.append(wiring)
            spec = spec.replace(inputs=wiring.inputs, outputs=wiring.outputs, constants=wiring.constants)
        graphs.append(spec)
    return tuple(graphs), wirings


def _path(graph: RecipeGraph, files: Mapping[str, Content]) -> Path:
    path = files.get(graph.file)
    if not isinstance(path, Path):
        raise InputError(f"graph '{graph.name}': {graph.file} is not among the variant's files")
    return path


def _graph(graph: RecipeGraph, variant: Variant, files: Mapping[str, Content]) -> GraphSpec:
    path = _path(graph, files)
    rounding = None if graph.rounding == "none" else graph.rounding
    runtime = runtime_of(graph.file)
    inputs, outputs = read_ports(path, runtime, graph.name, graph.inputs, graph.outputs, rounding)
    return GraphSpec(
        name=graph.name,
        file=graph.file,
        data=None,
        runtime=runtime,
        role=graph.role,
        precision=variant.precision,
        inputs=inputs,
        outputs=outputs,
        state=graph.state,
        constants=graph.constants,
    )


def _pick(arrays: Any, key: str, sample: RecipeSample) -> Any:
    """An array of the npz, or one row of it: `name` or `name[3]`."""
    match = re.fullmatch(r"(.+?)(?:\[(\d{1,6})\])?", key)
    name, row = (match[1], match[2]) if match else (key, None)
    if name not in arrays or (row is not None and int(row) >= len(arrays[name])):
        raise InputError(f"golden sample '{sample.name}': {sample.expected} has no '{key}'")
    return arrays[name] if row is None else arrays[name][int(row) : int(row) + 1]


def _sample(sample: RecipeSample, files: dict[str, Content], locate: Any) -> Sample:
    inputs = []
    for entry in sample.inputs:
        packed: dict[str, Json] = {}
        for keyword, item in entry.items():
            packed[keyword] = item
            if "file" in item:
                path = locate(item["file"])
                name = f"golden/{sample.name}.{path.name.lower()}"
                files[name] = path
                packed[keyword] = {"file": name}
        inputs.append(packed)
    expected: dict[str, Any] = {}
    if sample.tensors:
        with np.load(locate(sample.expected), allow_pickle=False) as arrays:
            expected = {value: _pick(arrays, key, sample) for value, key in sample.tensors.items()}
    truth = "external" if sample.tensors or sample.result else "self"
    return Sample(sample.name, truth, sample.origin, tuple(inputs), expected, sample.result)
