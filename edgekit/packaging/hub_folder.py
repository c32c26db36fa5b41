"""What lies in a Hugging Face folder: its configs, its files, and its graphs by role and variant.

Both layouts: graphs in the root (optimum) or in `onnx/`; TFLite twins beside the configs, in `tflite/` or `../tflite`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from edgekit.errors import EdgekitError, InputError, ManifestError, TargetError
from edgekit.formats.onnx import read_onnx
from edgekit.records import Json, load_json
from edgekit.runtimes.graph import RuntimeName
from edgekit.targets import Target

Precision = Literal["float32", "float16", "int8", "int4"]
Config = Mapping[str, Json]

ROLES = (
    "decoder_model_merged",
    "decoder_with_past_model",
    "decoder_model",
    "encoder_model",
    "vision_encoder",
    "embed_tokens",
    "vision_model",
    "audio_model",
    "text_model",
    "model",
)
"""Roles by the beginning of an ONNX file's name, the longer names first."""

PRECISIONS: dict[str, Precision] = {
    "fp32": "float32",
    "fp16": "float16",
    "quantized": "int8",
    "int8": "int8",
    "uint8": "int8",
    "q4": "int4",
    "q4f16": "int4",
    "bnb4": "int4",
    "float32": "float32",
    "float16": "float16",
    "dynamic_int8": "int8",
    "dynamic_range_quant": "int8",
    "full_integer_quant": "int8",
    "integer_quant": "int8",
}
"""The tolerance class of each suffix, in the order in which one is preferred to the next of its class."""

GRAPH_SUFFIXES = (".onnx", ".ort", ".tflite")
CONFIG_LIMIT_BYTES = 16 << 20
_CONFIGS = {
    "preprocessor": "preprocessor_config.json",
    "processor": "processor_config.json",
    "tokenizer_config": "tokenizer_config.json",
    "special_tokens": "special_tokens_map.json",
    "generation": "generation_config.json",
}
_TFLITE_ROLES = {
    "text": "text_model",
    "vision": "vision_model",
    "image": "vision_model",
    "audio": "audio_model",
    "encoder": "encoder_model",
    "decoder": "decoder_model",
}


class HubGraph(NamedTuple):
    """One graph file; `variant` is its suffix (`fp32` for none), with `tflite` before it for a .tflite."""

    role: str
    variant: str
    runtime: RuntimeName
    precision: Precision
    path: Path


class HubFolder(NamedTuple):
    """A folder as it is. Configs that are absent are empty; `text_files` are the plain files by name.

    modules: sentence-transformers' `modules.json`; pooling: the config of its pooling module.
    """

    path: Path
    name: str
    config: Config
    preprocessor: Config
    processor: Config
    tokenizer_config: Config
    special_tokens: Config
    generation: Config
    modules: tuple[Config, ...]
    pooling: Config
    text_files: Mapping[str, Path]
    graphs: tuple[HubGraph, ...]

    def variants(self) -> dict[str, dict[str, HubGraph]]:
        """variant -> role -> graph. Raises InputError when two files have the same role and variant."""
        found: dict[str, dict[str, HubGraph]] = {}
        for graph in self.graphs:
            roles = found.setdefault(graph.variant, {})
            if graph.role in roles:
                both = f"{_shown(self, roles[graph.role].path)} and {_shown(self, graph.path)}"
                raise InputError(
                    f"{self.name}: two candidates for '{graph.role}' of variant '{graph.variant}': {both}",
                    hint="keep one of them in the folder, or name it: --set graph=PATH",
                )
            roles[graph.role] = graph
        return found


def is_hub_folder(path: Path) -> bool:
    """Whether this is a folder with a `config.json`, or one that holds graphs like one."""
    return path.is_dir() and ((path / "config.json").is_file() or any(_graph_files(path)))


def read_hub_folder(path: Path, name: str | None = None, graph: str | None = None) -> HubFolder:
    """Everything in the folder that packaging may need; graphs are listed, not read.

    name: instead of the folder's own. graph: the one graph file to look at, beside others with its role.
    Raises InputError for a folder without configs or graphs, and for a config that is no JSON object.
    """
    if not (path / "config.json").is_file():
        inner = path / "model" / "config.json"
        hint = f"the configs are in {inner.parent}" if inner.is_file() else "download the model's *.json files too"
        raise InputError(f"{path}: a hub folder without config.json", hint=hint)
    configs = {key: _read_object(path / file) for key, file in _CONFIGS.items()}
    modules = _read_modules(path / "modules.json")
    folder = HubFolder(
        path=path,
        name=_bundle_name(name or _folder_name(path)),
        config=_read_object(path / "config.json"),
        modules=modules,
        pooling=_read_pooling(path, modules),
        text_files={
            p.name: p for p in sorted(path.iterdir()) if p.is_file() and p.suffix in (".json", ".txt", ".model")
        },
        graphs=tuple(_graphs(path, graph)),
        **configs,
    )
    if not folder.graphs:
        listed = ", ".join(sorted(p.name for p in path.iterdir())[:20])
        raise InputError(
            f"{path}: no .onnx, .ort or .tflite file in it, in onnx/ or in tflite/",
            hint=f"it holds: {listed}; export the model first (optimum-cli export onnx)",
        )
    return folder


def choose_variant(
    folder: str, variants: Mapping[str, Mapping[str, HubGraph]], name: str | None, target: Target
) -> tuple[str, str]:
    """The variant of this name, else the first by the target's order, and a note that says why.

    A class (`float32`, `float16`, `int8`, `int4`) names the first of that class. Raises InputError listing those there
    are, TargetError when none runs on the target.
    """
    listed = ", ".join(variants) or "none"
    if name is not None:
        if name in variants:
            return name, f"variant {name}: asked for"
        if not any(_class_of(roles) == name for roles in variants.values()):
            raise InputError(f"{folder} has no variant '{name}'", hint=f"one of: {listed}")
    order = list(PRECISIONS)
    for precision in target.precisions if name is None else (name,):
        for runtime in target.runtimes:
            wanted = "litert" if runtime == "tflite-runtime" else runtime
            fitting = [
                v
                for v, roles in variants.items()
                if _class_of(roles) == precision and all(g.runtime == wanted for g in roles.values())
            ]
            fitting.sort(key=lambda v: order.index(s) if (s := _suffix(v)) in order else len(order))
            if fitting:
                why = f"{target.name} prefers {', '.join(target.precisions)} on {', '.join(target.runtimes)}"
                return fitting[0], f"variant {fitting[0]} ({precision}, {wanted}): {why}; there are {listed}"
    runtimes = ", ".join(target.runtimes)
    raise TargetError(f"no variant of {folder} ({listed}) runs on {target.name} ({runtimes})")


def external_files(path: Path) -> tuple[Path, ...]:
    """The files beside an ONNX graph that hold its weights. Raises InputError when one is missing or elsewhere."""
    if path.suffix != ".onnx":
        return ()
    found: dict[str, Path] = {}
    for item in read_onnx(path).external:
        location = dict(item.entries).get("location", "")
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}", location):
            raise InputError(f"{path.name}: weights of '{item.tensor[:80]}' are said to be in {location[:80]!r}")
        if not (path.parent / location).is_file():
            raise InputError(
                f"{path.name}: its weights are in {location}, which is not beside it", hint=f"download {location} too"
            )
        found[location] = path.parent / location
    return tuple(found.values())


def _class_of(roles: Mapping[str, HubGraph]) -> str:
    """The loosest class among a variant's graphs."""
    order = ("float32", "float16", "int8", "int4")
    return max((g.precision for g in roles.values()), key=order.index, default="float32")


def _suffix(variant: str) -> str:
    return variant.removeprefix("tflite").removeprefix("ort").removeprefix("_") or "fp32"


def _shown(folder: HubFolder, path: Path) -> str:
    return (
        path.relative_to(folder.path).as_posix()
        if path.is_relative_to(folder.path)
        else f"../{path.parent.name}/{path.name}"
    )


def graph_of_name(path: Path) -> HubGraph | None:
    """The graph that a file of this name is, the file itself unread; None for a name that says no role."""
    named = _parse_name(path)
    if named is None:
        return None
    precision = PRECISIONS.get(_suffix(named[1]))
    return HubGraph(*named, "litert" if path.suffix == ".tflite" else "onnxruntime", precision or "float32", path)


def _graph_files(path: Path) -> Iterator[Path]:
    for folder in (path, path / "onnx", path / "tflite", path.parent / "tflite"):
        if folder.is_dir():
            yield from sorted(p for p in folder.iterdir() if p.suffix in GRAPH_SUFFIXES and p.is_file())


def _graphs(path: Path, only: str | None) -> list[HubGraph]:
    files = list(_graph_files(path))
    if only is not None:
        chosen = path / only
        if chosen not in files:
            raise InputError(f"graph: no '{only}' in {path}")
        alike = _parse_name(chosen)
        files = [f for f in files if f == chosen or _parse_name(f) != alike]
    strangers = [f for f in files if f.suffix != ".tflite" and _parse_name(f) is None]
    parsed = [(f, named) for f in files if (named := _parse_name(f)) is not None]
    if not parsed and len(strangers) > 1:
        listed = ", ".join(f.relative_to(path).as_posix() for f in strangers)
        raise InputError(f"{path}: several candidate graphs: {listed}", hint="keep one, or rename it model.onnx")
    if not parsed:
        parsed = [(f, ("model", "fp32")) for f in strangers]
    return [_graph(f, role, variant) for f, (role, variant) in parsed]


def _graph(path: Path, role: str, variant: str) -> HubGraph:
    precision = PRECISIONS.get(_suffix(variant))
    runtime: RuntimeName = "litert" if path.suffix == ".tflite" else "onnxruntime"
    return HubGraph(role, variant, runtime, precision or stored_precision(path), path)


def _parse_name(path: Path) -> tuple[str, str] | None:
    """(role, variant) by the file's name, None for an ONNX file that is named otherwise."""
    if path.suffix == ".tflite":
        return _parse_tflite_name(path.stem)
    for role in ROLES:
        if path.stem == role or path.stem.startswith(f"{role}_"):
            suffix = path.stem[len(role) + 1 :] or "fp32"
            if path.suffix == ".ort":
                suffix = "ort" if suffix == "fp32" else f"ort_{suffix}"
            return role, suffix
    return None


def _parse_tflite_name(stem: str) -> tuple[str, str]:
    """A converter's names are free: the precision is how they end, the role a word in them."""
    for suffix in sorted(PRECISIONS, key=len, reverse=True):
        if stem.endswith((f"_{suffix}", f"-{suffix}")):
            stem = stem[: -len(suffix) - 1]
            break
    else:
        suffix = "fp32"
    role = next((r for word in re.split(r"[_.-]", stem.lower()) if (r := _TFLITE_ROLES.get(word))), "model")
    return role, "tflite" if suffix in ("fp32", "float32") else f"tflite_{suffix}"


def stored_precision(path: Path) -> Precision:
    """The class of a file whose name does not say it: that of the datatype most of its weight bytes have."""
    if path.suffix != ".onnx":
        return "int8" if "int8" in path.name else "float32"
    try:
        model = read_onnx(path)
    except EdgekitError:
        return "float32"  # refused with its reason when the graph is loaded
    sizes: dict[str, int] = {}
    for tensor in model.tensors:
        sizes[tensor.datatype] = sizes.get(tensor.datatype, 0) + tensor.size_bytes
    if any(op.name in ("MatMulNBits", "MatMulBnb4", "GatherBlockQuantized") for op in model.ops):
        return "int4"
    largest = max(sizes, key=lambda d: sizes[d], default="FP32")
    table: dict[str, Precision] = {"FP16": "float16", "INT8": "int8", "UINT8": "int8", "INT4": "int4", "UINT4": "int4"}
    return table.get(largest, "float32")


def read_object(path: Path) -> dict[str, Json]:
    """The object of a JSON file. Raises InputError naming the file."""
    try:
        if path.stat().st_size > CONFIG_LIMIT_BYTES:
            raise InputError(f"{path.name}: larger than {CONFIG_LIMIT_BYTES} bytes")
        document = load_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ManifestError as error:
        where = f"'{error.key}' " if error.key else ""
        raise InputError(f"{path}: {where}{error.problem}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a JSON object")
    return document


def _read_object(path: Path) -> dict[str, Json]:
    return read_object(path) if path.is_file() else {}


def _read_modules(path: Path) -> tuple[Config, ...]:
    if not path.is_file():
        return ()
    try:
        document = load_json(path.read_bytes())
    except (OSError, ManifestError) as error:
        raise InputError(f"{path}: {error}") from None
    if not isinstance(document, list) or not all(
        isinstance(m, dict) and isinstance(m.get("type"), str) for m in document
    ):
        raise InputError(f"{path}: expected a list of modules with a type each")
    return tuple(document)


def _read_pooling(path: Path, modules: tuple[Config, ...]) -> Config:
    for module in modules:
        if str(module["type"]).endswith(".Pooling"):
            inner = str(module.get("path", ""))
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", inner) or inner.startswith("."):
                raise InputError(f"{path / 'modules.json'}: {inner!r} is no folder of this model")
            return read_object(path / inner / "config.json")
    return _read_object(path / "1_Pooling" / "config.json")


def _folder_name(path: Path) -> str:
    """The folder's name; a generic one takes its parent's, a hub snapshot the repository's."""
    resolved = path.absolute()
    parts = [p for p in resolved.parts if p.startswith("models--")]
    if parts:
        return parts[-1].split("--")[-1]
    return resolved.parent.name if resolved.name in ("model", "onnx", "") else resolved.name


def _bundle_name(name: str) -> str:
    """The name as a bundle may have it: [a-z0-9][a-z0-9._-]*."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:64].rstrip("-._")
    if not plain:
        raise InputError(f"{name!r} gives no name for a bundle", hint="rename the folder")
    return plain
