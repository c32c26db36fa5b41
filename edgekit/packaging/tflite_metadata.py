"""TFLite's standard metadata (schema 1.5) of a model file, and the draft it gives.

Field numbers: metadata_schema.fbs of tflite-support. What the schema cannot express (resize mode, filter) is asked
for by key, as is everything where a file has no metadata.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

from edgekit.errors import InputError
from edgekit.formats.flatbuffer import FlatBuffer, Table
from edgekit.formats.packed import read_packed
from edgekit.formats.tflite import read_metadata
from edgekit.manifest import GraphSpec, InputSpec
from edgekit.packaging.draft import LIMITS, Content, Draft
from edgekit.packaging.ports import read_all_ports
from edgekit.packaging.questions import Questions
from edgekit.packaging.sampling import generated_sample
from edgekit.specs.audio import AudioSpec, Length, Resample, Windows
from edgekit.specs.image import Crop, ImageSpec, Resize
from edgekit.specs.post import Classification, Postprocess, Raw
from edgekit.specs.tensor import Port, TensorInput

_IMAGE, _AUDIO = 2, 4  # ContentProperties
_NORMALIZATION = 1  # ProcessUnitOptions
_AXIS_LABELS = 2  # AssociatedFileType
_GREYSCALE = 2  # ColorSpaceType
NUMBERS_LIMIT = 4096


class TensorMetadata(NamedTuple):
    """What the metadata says about one tensor; empty where it says nothing."""

    name: str
    content: Literal["image", "audio", ""]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    grey: bool
    rate_hz: int
    channels: int
    labels: str


class ModelMetadata(NamedTuple):
    """What the metadata says about the model."""

    name: str
    description: str
    version: str
    author: str
    license: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


def read_model_metadata(path: Path) -> ModelMetadata | None:
    """The standard metadata of a .tflite file, None where there is none. Raises GraphRefused."""
    data = read_metadata(path, "TFLITE_METADATA")
    if data is None:
        return None
    root = FlatBuffer(data, path.name, "TFLite metadata").root()
    subgraphs = list(root.tables(3))
    first = subgraphs[0] if subgraphs else None
    return ModelMetadata(
        name=root.text(0),
        description=root.text(1),
        version=root.text(2),
        author=root.text(4),
        license=root.text(5),
        inputs=tuple(_tensor(t) for t in first.tables(2)) if first else (),
        outputs=tuple(_tensor(t) for t in first.tables(3)) if first else (),
    )


def _tensor(table: Table) -> TensorMetadata:
    content = table.table(3)
    kind = content.number(0, "B", 0) if content else 0
    properties = content.table(1) if content and kind in (_IMAGE, _AUDIO) else None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    for unit in table.tables(4):
        options = unit.table(1) if unit.number(0, "B", 0) == _NORMALIZATION else None
        if options is not None:
            mean, std = options.numbers(0, "f", NUMBERS_LIMIT), options.numbers(1, "f", NUMBERS_LIMIT)
    labels = [f.text(0) for f in table.tables(6) if f.number(2, "b", 0) == _AXIS_LABELS]
    return TensorMetadata(
        name=table.text(0),
        content="image" if kind == _IMAGE else "audio" if kind == _AUDIO else "",
        mean=mean,
        std=std,
        grey=bool(properties and kind == _IMAGE and properties.number(0, "b", 0) == _GREYSCALE),
        rate_hz=properties.number(0, "I", 0) if properties and kind == _AUDIO else 0,
        channels=properties.number(1, "I", 0) if properties and kind == _AUDIO else 0,
        labels=labels[0] if labels else "",
    )


def read_tflite(path: Path, answers: dict[str, str]) -> Draft:
    """The draft of a .tflite file by its metadata and the answers to what that leaves open.

    Raises InputError naming every open key, GraphRefused for a file that is none.
    """
    metadata = read_model_metadata(path)
    ask = Questions(path.name, answers)
    inputs, outputs = read_all_ports(path, "litert", "nearest_even")
    if len(inputs) != 1:
        names = ", ".join(p.name for p in inputs)
        raise InputError(
            f"{path.name} has {len(inputs)} inputs ({names}); metadata wires one", hint="write a recipe.toml"
        )
    port, described = inputs[0], metadata.inputs[0] if metadata and metadata.inputs else None
    keyword, spec, notes = _input(port, described, ask)
    files: dict[str, Content] = {"model.tflite": path}
    task, postprocess = _outputs(path, keyword, outputs, metadata, files, ask)
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._")[:64] or "model"
    license_name = (metadata.license if metadata else "") or ask.text("license", "the model's licence")
    ask.finish()
    graph = GraphSpec(
        name="model",
        file="model.tflite",
        data=None,
        runtime="litert",
        role="model",
        precision="int8" if port.quantization else "float32",
        inputs=(port.replace(value=_value_of(spec)),),
        outputs=outputs,
        state=(),
        constants=(),
    )
    return Draft(
        name=name,
        version=_version(metadata),
        task=task,
        license=" ".join(license_name.split())[:200],
        source=f"TFLite metadata of {path.name}" if metadata else path.name,
        inputs={keyword: spec},
        graphs=(graph,),
        postprocess=postprocess,
        files=files,
        samples=(generated_sample({keyword: spec}, files),),
        limits=LIMITS,
        notes=notes,
    )


def _version(metadata: ModelMetadata | None) -> str:
    found = re.match(r"v?(\d{1,6}(?:\.\d{1,6}){0,3})$", metadata.version) if metadata else None
    return found[1] if found else "1"


def _value_of(spec: InputSpec) -> str:
    return spec.ids if spec.kind == "text" else spec.value


def _input(port: Port, described: TensorMetadata | None, ask: Questions) -> tuple[str, InputSpec, tuple[str, ...]]:
    content = described.content if described else ""
    kind = content or ask.choice("input", ("image", "audio", "tensor"), "what the model's input is")
    if kind == "image":
        return "image", _image(port, described, ask), ()
    if kind == "audio":
        return "audio", *_audio(port, described, ask)
    return "tensor", TensorInput(kind="tensor", value=port.value, datatype=port.datatype, shape=port.shape), ()


def _image(port: Port, described: TensorMetadata | None, ask: Questions) -> ImageSpec:
    if len(port.shape) != 4 or port.shape[3] not in (1, 3) or min(port.shape[1:]) < 1:
        raise InputError(f"input '{port.name}': expected [1, height, width, 1 or 3], got {list(port.shape)}")
    _, height, width, channels = port.shape
    mean = _per_channel(described.mean if described else (), channels, ask, "mean", "of 0-255, per channel")
    std = _per_channel(described.std if described else (), channels, ask, "std", "of 0-255, per channel")
    steps = _steps(height, width, ask)
    whole = port.quantization is not None
    return ImageSpec(
        kind="image",
        value="pixels",
        mask=None,
        decode="exact",
        orientation="exif",
        alpha="drop",
        colour="grey" if channels == 1 else "rgb",
        steps=steps,
        scale=1.0,
        offset=0.0,
        mean=mean,
        std=std,
        layout="nhwc",
        dtype=("uint8" if port.datatype == "UINT8" else "int8") if whole else "float32",
        quantization=port.quantization,
    )


def _steps(height: int, width: int, ask: Questions) -> tuple[Resize | Crop, ...]:
    """The geometric steps that the person names; the schema has no words for them."""
    mode = ask.choice("resize", ("stretch", "crop"), "stretch ignores the aspect, crop keeps the centre")
    name = ask.choice("filter", ("bilinear", "bicubic", "nearest", "lanczos", "box"), "resampling of the training")
    resize = Resize(
        step="resize",
        mode="stretch" if mode == "stretch" else "cover",
        height=height,
        width=width,
        longest=0,
        multiple_of=1,
        rounding="floor",
        shrink_only=False,
        filter=name,  # type: ignore[arg-type]  # one of the choices
        antialias=True,
        coordinates="half_pixel",
        arithmetic="pillow",
    )
    crop = Crop(step="crop", height=height, width=width, fraction=0.0, rounding="floor", fill=0.0)
    return (resize,) if mode == "stretch" else (resize, crop)


def _per_channel(found: tuple[float, ...], channels: int, ask: Questions, key: str, why: str) -> tuple[float, ...]:
    if len(found) == 1:
        return found * channels
    return found if len(found) == channels else ask.numbers(key, channels, why)


def _audio(port: Port, described: TensorMetadata | None, ask: Questions) -> tuple[AudioSpec, tuple[str, ...]]:
    samples = max(port.shape)
    if (
        port.datatype != "FP32"
        or samples * min(port.shape, default=0) < 1
        or sorted(port.shape)[:-1].count(1) < len(port.shape) - 1
    ):
        raise InputError(
            f"input '{port.name}': expected one window of float samples, got {port.datatype} {list(port.shape)}"
        )
    rate_hz = described.rate_hz if described and described.rate_hz else int(ask.number("rate_hz", "samples per second"))
    spec = AudioSpec(
        kind="audio",
        value="waveform",
        mask=None,
        rate_hz=rate_hz,
        downmix="mean",
        resample=Resample(zeros=32, rolloff=0.965, beta=8.0),
        amplitude="unit",
        windows=Windows(samples=samples, hop=samples, lead=0, tail="fill"),
        length=Length(samples=samples, pad="zero", trim="none"),
        normalize="none",
        epsilon=0.0,
        features=None,
        layout="samples",
        shape=port.shape,
        dtype="float32",
        quantization=None,
        streamable=True,
    )
    return spec, (
        f"windows of {samples} samples one after another, as MediaPipe's tasks cut them; scores are averaged",
    )


def _outputs(
    path: Path,
    keyword: str,
    outputs: tuple[Port, ...],
    metadata: ModelMetadata | None,
    files: dict[str, Content],
    ask: Questions,
) -> tuple[str, Postprocess]:
    labelled = [(p, m) for p, m in zip(outputs, metadata.outputs if metadata else ()) if m.labels]
    if not labelled or keyword == "tensor":
        given = ask.given("labels")
        if given is None:
            return "raw", Raw(task="raw", values=tuple(p.value for p in outputs))
        labels, port = Path(given).read_bytes(), outputs[0]
    else:
        port, labels = labelled[0][0], read_packed(path, labelled[0][1].labels)
    files["labels.txt"] = labels
    activation = ask.given("activation") or "none"
    if activation not in ("none", "softmax", "sigmoid"):
        raise InputError(f"activation: expected none, softmax or sigmoid, got '{activation}'")
    return f"{keyword}-classification", Classification(
        task="classification",
        value=port.value,
        activation=activation,  # type: ignore[arg-type]  # checked above
        aggregate="mean" if keyword == "audio" else "none",
        labels="labels.txt",
        top_k=5,
    )
