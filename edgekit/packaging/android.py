"""Bundles for phones: graphs that no phone runs are refused, the others get the metadata that Android's tools read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.errors import TargetError
from edgekit.formats.packed import read_packed
from edgekit.formats.tflite import TfliteModel, read_tflite
from edgekit.manifest import GraphSpec, InputSpec
from edgekit.packaging import metadata_writer as writer
from edgekit.packaging.draft import Content, Draft
from edgekit.packaging.support import check_supported, read_tokenizer
from edgekit.specs.audio import AudioSpec
from edgekit.specs.image import Crop, ImageSpec, Pad, Resize
from edgekit.specs.post import Classification
from edgekit.specs.text import TextSpec
from edgekit.targets import Target

SIZE_LIMIT_BYTES = 1 << 31
MEDIAPIPE_RESIZE = (
    "MediaPipe Tasks stretches a picture by itself, one bilinear sample at each pixel's corner, never averaged: "
    "labels may differ from predict unless it is given pictures of the model's own size"
)
"""Measured with mediapipe 1.2.2 on seven photos and mobilenet-v1-128: with Pillow's bilinear 4 labels are predict's."""

_NO_PHONE = ("FP64", "COMPLEX64", "COMPLEX128", "BYTES")
_TEXT_NAMES = {"ids": "ids", "mask": "mask", "type_ids": "segment_ids"}
"""What MediaPipe calls the inputs of a BERT model."""


def prepare(draft: Draft, target: Target, folder: Path) -> Draft:
    """The draft with metadata in its graphs, which are written to `folder`. Raises TargetError."""
    check_supported(
        target, draft.inputs, draft.graphs, draft.postprocess, getattr(draft, "generation", None), _reader(draft)
    )
    files: dict[str, Content] = dict(draft.files)
    for graph in draft.graphs:
        if graph.runtime != "litert":  # refused with the target's runtimes by check_fit
            continue
        source = draft.files[graph.file]
        if not isinstance(source, Path):
            source = folder / f"before-{Path(graph.file).name}"
            source.write_bytes(_bytes(draft, graph.file))
        model = check_graph(source, graph, draft.inputs)
        output = folder / Path(graph.file).name
        notes, appended = describe(draft, graph, model, source)
        writer.write_metadata(source, notes, appended, output)
        files[graph.file] = output
    return draft._replace(files=files)


def _bytes(draft: Draft, name: str) -> bytes:
    content = draft.files[name]
    return content if isinstance(content, bytes) else content.read_bytes()


def _reader(draft: Draft) -> Any:
    return lambda name: _bytes(draft, name)


def check_graph(path: Path, graph: GraphSpec, inputs: Mapping[str, InputSpec]) -> TfliteModel:
    """What the graph file contains. Raises TargetError for one that phones cannot run, naming what is in the way."""
    size_bytes = path.stat().st_size
    if size_bytes >= SIZE_LIMIT_BYTES:
        raise TargetError(f"{graph.file}: {size_bytes:,} bytes, a phone maps less than {SIZE_LIMIT_BYTES:,}")
    model = read_tflite(path)
    custom = [op.name for op in model.ops if op.domain == "custom"]
    flex = [name for name in custom if name.startswith("Flex")]
    if custom:
        kind, names = ("Flex (TensorFlow) operator", flex) if flex else ("custom operator", custom)
        raise TargetError(
            f"{graph.file}: {kind} {', '.join(names)}, LiteRT on a phone has builtin operators only",
            hint="convert the model without it",
        )
    ends = [(value.name, value.datatype) for value in (*model.inputs, *model.outputs)]
    for name, datatype in (*ends, *((tensor.name, tensor.datatype) for tensor in model.tensors)):
        if datatype in _NO_PHONE:
            shown = {"FP64": "float64", "BYTES": "string"}.get(datatype, datatype)
            raise TargetError(f"{graph.file}: tensor '{name[:80]}' is {shown}, which phones do not compute")
    _check_axes(graph, inputs)
    return model


def _check_axes(graph: GraphSpec, inputs: Mapping[str, InputSpec]) -> None:
    """A free axis (not the rows) needs something that bounds it."""
    bounded = {name: _is_bounded(spec) for spec in inputs.values() for name in values_of(spec)}
    for port in graph.inputs:
        if -1 in port.shape[1:] and not bounded.get(port.value, True):
            raise TargetError(
                f"{graph.file}: input '{port.name}' has the shape {list(port.shape)} and nothing bounds its free axes",
                hint="give the input a fixed size (image: stretch, crop or pad; audio: length, windows or frames)",
            )


def values_of(spec: InputSpec) -> list[str]:
    """The names of the values that an input makes."""
    names = [getattr(spec, key, None) for key in ("value", "ids", "mask", "type_ids")]
    return [name for name in names if name is not None]


def _is_bounded(spec: InputSpec) -> bool:
    if isinstance(spec, AudioSpec):
        frames = spec.features.frames if spec.features is not None else 0
        return spec.length is not None or spec.windows is not None or frames > 0
    if isinstance(spec, ImageSpec):
        fixed = False
        for step in spec.steps:
            if isinstance(step, Resize):
                fixed = step.mode == "stretch" or (fixed and not step.shrink_only)
            elif isinstance(step, Crop):
                fixed = step.height > 0 or fixed
            elif isinstance(step, Pad):
                fixed = step.to == "size" or fixed
        return fixed
    return isinstance(spec, TextSpec) or -1 not in spec.shape[1:]


def describe(
    draft: Draft, graph: GraphSpec, model: TfliteModel, source: Path
) -> tuple[writer.ModelNotes, dict[str, bytes]]:
    """The metadata of a graph, and the files it names."""
    appended: dict[str, bytes] = {}
    values = {port.name: port.value for port in (*graph.inputs, *graph.outputs)}
    shapes = {value.name: value.shape or () for value in model.inputs}
    inputs = [_input(draft, v.name, values.get(v.name, ""), shapes[v.name]) for v in model.inputs]
    calibrations = writer.read_calibrations(source)
    outputs = []
    for index, value in enumerate(model.outputs):
        labels = _labels(draft, values.get(value.name, ""))
        if labels:
            appended["labels.txt"] = _bytes(draft, labels)
        calibration = calibrations.get(index)
        if calibration is not None:
            appended[calibration.file] = read_packed(source, calibration.file)
        outputs.append(
            _tensor(
                "probability" if labels else values.get(value.name) or value.name,
                labels="labels.txt" if labels else "",
                calibration=calibration,
            )
        )
    vocabulary = _vocabulary(draft, graph)
    if vocabulary:
        appended["vocab.txt"] = vocabulary
    notes = writer.ModelNotes(
        name=draft.name if len(draft.graphs) == 1 else f"{draft.name} ({graph.name})",
        description=f"{draft.task}: {draft.source}",
        version=draft.version,
        author="",
        license=draft.license,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        vocabulary="vocab.txt" if vocabulary else "",
    )
    return notes, appended


def _tensor(name: str, **facts: Any) -> writer.TensorNotes:
    nothing: dict[str, Any] = {
        "description": "",
        "content": "feature",
        "grey": False,
        "size": (0, 0),
        "rate_hz": 0,
        "mean": (),
        "std": (),
        "labels": "",
        "calibration": None,
    }
    return writer.TensorNotes(name=name, **{**nothing, **facts})


def _input(draft: Draft, name: str, value: str, shape: Sequence[int]) -> writer.TensorNotes:
    for keyword, spec in draft.inputs.items():
        if value not in values_of(spec):
            continue
        if isinstance(spec, ImageSpec) and value == spec.value:
            mean, std = level_normalization(spec)
            sizes = tuple(shape[1:3] if spec.layout == "nhwc" else shape[2:4])
            size = (sizes[1], sizes[0]) if len(sizes) == 2 and min(sizes) > 0 else (0, 0)
            grey = spec.colour == "grey"
            return _tensor(keyword, content="image", grey=grey, size=size, mean=mean, std=std)
        if isinstance(spec, AudioSpec) and spec.features is None and value == spec.value:
            return _tensor(keyword, content="audio", rate_hz=spec.rate_hz)
        if isinstance(spec, TextSpec):
            field = next(f for f in _TEXT_NAMES if getattr(spec, f) == value)
            return _tensor(_TEXT_NAMES[field])
    return _tensor(value or name)


def level_normalization(spec: ImageSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """mean and std of (x - mean) / std on levels 0-255: what the spec's scale, offset, mean and std come to."""
    channels = len(spec.mean)
    mean = tuple((m - spec.offset) / spec.scale for m in spec.mean)
    again = spec.std[channels:] or (1.0,) * channels
    return mean, tuple(s * a / spec.scale for s, a in zip(spec.std, again))


def _labels(draft: Draft, value: str) -> str:
    post = draft.postprocess
    return post.labels if isinstance(post, Classification) and post.value == value else ""


def _vocabulary(draft: Draft, graph: GraphSpec) -> bytes:
    """The tokens of the graph's text input by id, one a line; empty where there is no WordPiece tokenizer."""
    read = {port.value for port in graph.inputs}
    for spec in draft.inputs.values():
        if isinstance(spec, TextSpec) and spec.ids in read and spec.tokenizer.type == "tokenizer_json":
            model = read_tokenizer(_bytes(draft, spec.tokenizer.file)).get("model")
            vocabulary = model.get("vocab") if isinstance(model, dict) and model.get("type") == "WordPiece" else None
            if isinstance(vocabulary, dict) and sorted(vocabulary.values()) == list(range(len(vocabulary))):
                return "\n".join(sorted(vocabulary, key=lambda token: vocabulary[token])).encode()
    return b""


def inexpressible(draft: Draft) -> tuple[str, ...]:
    """What the standard metadata has no words for, and only the manifest keeps."""
    said = []
    for keyword, spec in draft.inputs.items():
        steps = _steps(spec)
        if steps:
            said.append(f"the TFLite metadata cannot express {keyword}: {', '.join(steps)}; the manifest keeps it")
        if isinstance(spec, ImageSpec) and not _is_mediapipes(spec):
            said.append(MEDIAPIPE_RESIZE)
    post = draft.postprocess
    steps = [f"{key} {getattr(post, key)}" for key in ("activation", "aggregate") if _says(post, key)]
    if not isinstance(post, Classification):
        steps.insert(0, post.task)
    if steps:
        said.append(f"the TFLite metadata cannot express the result's {', '.join(steps)}; the manifest keeps it")
    return tuple(said)


def _is_mediapipes(spec: ImageSpec) -> bool:
    """Whether a picture becomes what MediaPipe Tasks makes of it, which stretches it to the graph's size."""
    resizes = [step for step in spec.steps if isinstance(step, Resize)]
    return not resizes or (
        len(spec.steps) == 1 and resizes[0].mode == "stretch" and resizes[0].coordinates == "asymmetric"
    )


def _says(post: Any, key: str) -> bool:
    return getattr(post, key, "none") != "none"


def _steps(spec: InputSpec) -> list[str]:
    if isinstance(spec, ImageSpec):
        words = [step.step + (f" {step.mode} {step.filter}" if isinstance(step, Resize) else "") for step in spec.steps]
        words += ["channel order bgr"] if spec.colour == "bgr" else []
        return words + (["layout nchw"] if spec.layout == "nchw" and spec.colour != "grey" else [])
    if isinstance(spec, AudioSpec):
        words = ["windows"] if spec.windows is not None else ["length"] if spec.length is not None else []
        words += [f"normalize {spec.normalize}"] if spec.normalize != "none" else []
        return words + ([f"features {spec.features.type}"] if spec.features is not None else [])
    return ["tokenizer characters"] if isinstance(spec, TextSpec) and spec.tokenizer.type == "characters" else []
