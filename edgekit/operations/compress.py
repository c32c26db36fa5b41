"""`compress`: a recipe's graphs through methods of compression; the result is a recipe and is compared at once."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.arrays import Array
from edgekit.compression.methods import METHODS, Feeds, Method, compress_onnx, parse_method, precision_after
from edgekit.compression.tflite_methods import check_tflite_methods, compress_tflite, rounding_of
from edgekit.errors import GateFailed, InputError
from edgekit.manifest import Manifest
from edgekit.operations.compare import compare, graph_feed
from edgekit.operations.compare_data import Sample, golden_samples, read_samples
from edgekit.operations.compare_records import Compared
from edgekit.operations.package import Note, choose_target, package
from edgekit.packaging.recipe import known_recipes
from edgekit.predictor import load
from edgekit.profiling.workload import keywords
from edgekit.targets import load_toml

CALIBRATION_LIMIT = 200
"""Inputs per data source; ranges by minimum and maximum hardly move beyond."""


def compress(
    source: str,
    methods: Sequence[str],
    *,
    output: Path,
    data: Sequence[Path],
    runs: int,
    seconds: float,
    latency: bool,
    note: Note,
) -> Compared:
    """Write a recipe folder whose first variant is the compressed one, and compare it with the original.

    source: a recipe, or recipe@variant. data: to calibrate int8-static and to compare on; none for
    the golden samples. Raises InputError, GraphRefused, RuntimeMissing.
    """
    chosen = [parse_method(text) for text in methods]
    if not chosen:
        raise InputError("compress needs a method", hint=f"one of: {', '.join(METHODS)}")
    recipe, variant = _find(source)
    if output.exists():
        raise InputError(f"{output} exists already", hint="name a new folder: -o FOLDER")
    document = load_toml(recipe)
    original = _pick(document, variant, recipe)
    if original.get("runtime") == "litert":
        check_tflite_methods(chosen)
    name = "+".join(str(m).replace(":", "-") for m in chosen)
    with tempfile.TemporaryDirectory(prefix="edgekit-compress-") as scratch:
        before = Path(scratch) / "original.edgekit"
        target = choose_target(None, lambda _: None)
        _package(recipe, str(original["name"]), before, target)
        feeds = _feeds(before, data, note) if any(m.name == "int8-static" for m in chosen) else {}
        shutil.copytree(recipe.parent, output)
        try:
            changed = _compressed_variant(original, name, chosen, recipe.parent, output, feeds, note)
            after = Path(scratch) / f"{name}.edgekit"
            _write_recipe(output / "recipe.toml", document, changed, original, keep_truth=True)
            try:
                _package(output / "recipe.toml", name, after, target)
            except GateFailed as error:
                note(f"{error.message}; its golden samples hold its own answers instead")
                _write_recipe(output / "recipe.toml", document, changed, original, keep_truth=False)
                _package(output / "recipe.toml", name, after, target)
        except BaseException:
            shutil.rmtree(output, ignore_errors=True)
            raise
        note(f"{output}: edgekit package {output} --variant {name}")
        return compare(
            [str(before), str(after)],
            data=data[0] if data else None,
            limit=None,
            runs=runs,
            seconds=seconds,
            latency=latency,
            qualities=(),
            scales=(),
            note=note,
        )


def _find(source: str) -> tuple[Path, str | None]:
    name, _, variant = source.partition("@")
    path = Path(name)
    recipe = path / "recipe.toml" if (path / "recipe.toml").is_file() else known_recipes().get(name, path)
    if recipe.suffix != ".toml" or not recipe.is_file():
        raise InputError(
            f"'{name}' is no recipe", hint=f"a folder with recipe.toml, or one of: {', '.join(known_recipes())}"
        )
    return recipe, variant or None


def _pick(document: Mapping[str, Any], name: str | None, recipe: Path) -> dict[str, Any]:
    """The variant to compress: the named one, else the first float32 one, one for ONNX Runtime before others."""
    listed = document.get("variants")
    variants = [v for v in listed if isinstance(v, dict)] if isinstance(listed, list) else []
    fitting = [v for v in variants if (v.get("name") == name if name is not None else v.get("precision") == "float32")]
    if not fitting:
        names = ", ".join(str(v.get("name")) for v in variants) or "none"
        raise InputError(f"{recipe}: no variant {name or 'in float32'} to compress", hint=f"it has: {names}")
    chosen = next((v for v in fitting if v.get("runtime") == "onnxruntime"), fitting[0])
    if chosen.get("precision") != "float32" and chosen.get("runtime") == "litert":
        raise InputError(
            f"{recipe}: variant {name} is {chosen.get('precision')} already",
            hint="compress the float32 one: a TFLite file keeps what was done to it",
        )
    return chosen


def _package(recipe: Path, variant: str, output: Path, target: Any) -> None:
    package(str(recipe), target, variant, [], output, answers={}, progress=lambda *_: None, note=lambda _: None)


def _feeds(bundle: Path, data: Sequence[Path], note: Note) -> dict[str, list[dict[str, Array]]]:
    """What each graph was given for the user's data, through the bundle's own preprocessing."""
    found: dict[str, list[dict[str, Array]]] = {}
    with load(bundle, text_memory=0) as predictor:
        manifest: Manifest = predictor.manifest
        samples: list[Sample] = []
        for path in data:
            samples += read_samples(path, manifest, CALIBRATION_LIMIT)
        samples += golden_samples(manifest) if not data else []
        note(f"calibrating on {len(samples)} samples")
        given = [keywords(sample.item, predictor.read) for sample in samples]
        # Of a list of candidates a trace keeps the last one's values: each is given alone as well.
        texts = dict.fromkeys(t for item in given if isinstance(item.get("text"), list) for t in item["text"])
        for item in (*given, *({"text": text} for text in list(texts)[:CALIBRATION_LIMIT])):
            _, values = predictor.trace(**item)
            for graph in manifest.graphs:
                feed = graph_feed(graph, values)
                if feed is not None:
                    found.setdefault(graph.name, []).append(feed)
    return found


def _compressed_variant(
    original: Mapping[str, Any],
    name: str,
    methods: Sequence[Method],
    folder: Path,
    output: Path,
    feeds: Mapping[str, list[dict[str, Array]]],
    note: Note,
) -> dict[str, Any]:
    """Compress every graph of a variant into the output folder; the variant that describes them."""
    files = dict(original.get("files") or {})
    graphs: list[dict[str, Any]] = []
    tflite = original.get("runtime") == "litert"
    for graph in original.get("graphs") or ():
        file = str(graph["file"])
        written = str(files.get(file, ""))
        if not written or written.startswith("source:"):
            raise InputError(f"graph '{graph['name']}': its file is not beside the recipe", hint="download it first")
        path = folder / written
        made = Path(written).with_name(f"{path.stem}_{name}{path.suffix}")
        own = list(methods)
        given = feeds.get(str(graph["name"]))
        if any(m.name == "int8-static" for m in own) and not given:
            note(f"graph '{graph['name']}' got no data to calibrate on: it is left as it was there")
            own = [m for m in own if m.name != "int8-static"]
        if own:
            read = _reader(given) if given else None
            if tflite:
                compress_tflite(path, output / made, own, read)
            else:
                compress_onnx(path, output / made, own, read, partial(_say, note, str(graph["name"])))
            files[file] = made.as_posix()
        graphs.append(rounding_of(graph, own) if tflite else dict(graph))
    precision = precision_after(methods, str(original["precision"]))
    return {**original, "name": name, "precision": precision, "files": files, "graphs": graphs}


def _say(note: Note, graph: str, text: str) -> None:
    note(f"{graph}: {text}")


def _reader(feeds: Sequence[Mapping[str, Array]]) -> Feeds:
    def read() -> Iterator[Mapping[str, Array]]:
        return iter([{name: np.ascontiguousarray(array) for name, array in feed.items()} for feed in feeds])

    return read


def _write_recipe(
    path: Path,
    document: Mapping[str, Any],
    changed: Mapping[str, Any],
    original: Mapping[str, Any],
    *,
    keep_truth: bool,
) -> None:
    """The recipe with these two variants; without the truth of other implementations where it is not reproduced."""
    golden = document.get("golden")
    samples = [dict(g) for g in golden if isinstance(g, dict)] if isinstance(golden, list) else []
    if not keep_truth:
        samples = [{**g, "tensors": {}, "result": {}, "origin": f"compressed: {changed['name']}"} for g in samples]
    made = {**document, "variants": [changed, original], "golden": samples}
    lines = [f"# Made by edgekit compress: {changed['name']}", ""]
    plain = {k: v for k, v in made.items() if not _is_block(v)}
    lines += [f"{_key(k)} = {inline_toml(v)}" for k, v in plain.items()]
    for key, value in made.items():
        if isinstance(value, dict):
            lines += ["", *(f"{_key(key)}.{_key(k)} = {inline_toml(v)}" for k, v in value.items())]
    for key, value in made.items():
        if _is_block(value) and isinstance(value, list):
            for item in value:
                lines += ["", f"[[{_key(key)}]]", *(f"{_key(k)} = {inline_toml(v)}" for k, v in item.items())]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)
    )


def _key(name: str) -> str:
    plain = name.replace("_", "").replace("-", "")
    return name if plain.isascii() and plain.isalnum() else json.dumps(name)


def inline_toml(value: Any) -> str:
    """A value on one line (TOML 1.0: basic strings are JSON's, but for DEL)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(inline_toml, value)) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {inline_toml(v)}" for k, v in value.items()) + " }" if value else "{}"
    raise InputError(f"a recipe cannot hold a {type(value).__name__}")
