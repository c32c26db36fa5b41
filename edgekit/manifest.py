"""The manifest of a bundle: every record, the strict parse and the canonical dump. Nothing else knows the keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, Union

from edgekit.errors import ManifestError
from edgekit.records import Record, dump_canonical, load_json, parse
from edgekit.specs.audio import AudioSpec
from edgekit.specs.generation import GenerationSpec
from edgekit.specs.image import ImageSpec
from edgekit.specs.post import Classification, Generated, Postprocess
from edgekit.specs.tensor import Datatype, Port, TensorInput
from edgekit.specs.text import TextSpec, TokenizerFile

FORMAT = 1
MANIFEST_NAME = "manifest.json"
MANIFEST_LIMIT_BYTES = 1 << 20
FILE_LIMIT = 64

InputSpec = Union[ImageSpec, AudioSpec, TextSpec, TensorInput]

_SEGMENT = r"[a-z0-9][a-z0-9._-]{0,63}"
_RESERVED = r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?"


def check_file_name(name: str, key: str) -> None:
    """Refuse a path that could mean something else on some system: one to three plain lower-case segments."""
    segments = name.split("/")
    good = len(segments) <= 3 and all(
        re.fullmatch(_SEGMENT, s) and not re.fullmatch(_RESERVED, s) and not s.endswith(".") for s in segments
    )
    if not good:
        raise ManifestError(
            key, f"{name[:80]!r} is not a file name of a bundle ([a-z0-9][a-z0-9._-]*, at most 3 segments)"
        )


class FileFact(Record):
    """What a file of the bundle must be."""

    size: int
    sha256: str

    def check(self) -> None:
        if self.size < 0:
            raise ManifestError("size", f"expected 0 or more, got {self.size}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ManifestError("sha256", "expected 64 hexadecimal digits")


class State(Record):
    """A tensor that a stream carries from one run to the next: `output` goes back into `input`.

    init: `zeros`; predict and each new stream start from it. A free axis (-1) of the port starts at `batch`.
    """

    input: str
    output: str
    init: Literal["zeros"]


class Constant(Record):
    """A graph input that is the same in every run; data row by row."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: tuple[float, ...]


class GraphSpec(Record):
    """One model file and how it is wired into the flow.

    role: what the file is (`model`, `encoder`, `decoder`, `image`, `text`, `audio`, `head`, ...).
    data: the file with an ONNX graph's external weights, or null.
    precision: tolerance class of its outputs.
    """

    name: str
    file: str
    data: str | None
    runtime: Literal["onnxruntime", "litert"]
    role: str
    precision: Literal["float32", "float16", "int8", "int4"]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    state: tuple[State, ...]
    constants: tuple[Constant, ...]


class ExpectedTensor(Record):
    """What a value of the flow must be for a golden sample.

    file: the expected numbers, little-endian, row by row; all of them when `indices_seed` is null, else the
    `count` ones that the seed picks, with mean and standard deviation over all.
    tolerance: the largest difference that still counts as equal: absolute for `preprocess`, for `graph`
    relative to the largest magnitude of the expected numbers.
    """

    value: str
    stage: Literal["preprocess", "graph"]
    datatype: Datatype
    shape: tuple[int, ...]
    file: str
    indices_seed: int | None
    count: int
    mean: float
    deviation: float
    tolerance: float


class GoldenSample(Record):
    """An input and what it must give; `sequence` is a stream's chunks or one entry for predict.

    inputs: keyword -> {"file": name} or {"text": string} or {"texts": [..]} per entry of the sequence.
    truth: `external` (computed by another implementation) or `self` (this package's own run).
    result: what `to_dict()` must give, without timings; its numbers relative to their largest within
    `tolerance`, its winning label the same unless the expected margin is below `tolerance`.
    """

    name: str
    truth: Literal["external", "self"]
    origin: str
    inputs: tuple[dict[str, Any], ...]
    tensors: tuple[ExpectedTensor, ...]
    result: Any
    tolerance: float


class Limits(Record):
    """What is accepted before anything is decoded."""

    pixels: int
    image_bytes: int
    audio_seconds: float
    audio_bytes: int
    audio_channels: int
    text_bytes: int
    candidates: int


class RunSettings(Record):
    """How the target runs graphs.

    threads: per graph, 0 = the runtime's choice. spinning: whether idle workers spin between calls. providers:
    execution providers in order, () = CPU. fallback: whether a provider that is not there may be passed over
    with a warning.
    """

    threads: int
    spinning: bool
    providers: tuple[str, ...]
    fallback: bool


class Manifest(Record):
    """Everything about a bundle; the sha256 of its canonical bytes is the bundle's digest."""

    format: int
    name: str
    version: str
    task: str
    license: str
    source: str
    inputs: dict[str, InputSpec]
    graphs: tuple[GraphSpec, ...]
    postprocess: Postprocess
    generation: GenerationSpec | None
    golden: tuple[GoldenSample, ...]
    limits: Limits
    target: str
    run: RunSettings
    requires: dict[str, str]
    files: dict[str, FileFact]

    def check(self) -> None:
        if not re.fullmatch(_SEGMENT, self.name):
            raise ManifestError("name", f"expected [a-z0-9][a-z0-9._-]*, got {self.name[:80]!r}")
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}", self.version):
            raise ManifestError("version", f"expected numbers with dots, like 1.2.0, got {self.version[:80]!r}")
        if (self.generation is None) == isinstance(self.postprocess, Generated):
            raise ManifestError("generation", "goes with postprocess.task 'generated', and with no other")
        if len(self.files) > FILE_LIMIT:
            raise ManifestError("files", f"at most {FILE_LIMIT}, got {len(self.files)}")
        for name in self.files:
            check_file_name(name, "files")
            if name == MANIFEST_NAME:
                raise ManifestError("files", f"{MANIFEST_NAME} cannot list itself")
        for key, name in self._named_files():
            if name not in self.files:
                raise ManifestError(key, f"{name[:80]!r} is not among the files")
        for keyword in self.inputs:
            if not keyword.isidentifier():
                raise ManifestError("inputs", f"{keyword[:80]!r} cannot be a keyword of predict")

    def _named_files(self) -> Iterator[tuple[str, str]]:
        """Every file that some key names, with that key."""
        for index, graph in enumerate(self.graphs):
            yield f"graphs[{index}].file", graph.file
            if graph.data is not None:
                yield f"graphs[{index}].data", graph.data
        for keyword, spec in self.inputs.items():
            if isinstance(spec, TextSpec) and isinstance(spec.tokenizer, TokenizerFile):
                yield f"inputs.{keyword}.tokenizer.file", spec.tokenizer.file
        if isinstance(self.postprocess, Classification):
            yield "postprocess.labels", self.postprocess.labels
        if self.generation is not None:
            yield "generation.tokenizer", self.generation.tokenizer
        for index, sample in enumerate(self.golden):
            for tensor in sample.tensors:
                yield f"golden[{index}].tensors", tensor.file


def parse_manifest(data: bytes) -> Manifest:
    """The manifest that these bytes are; they must be its canonical form. Raises ManifestError."""
    if len(data) > MANIFEST_LIMIT_BYTES:
        raise ManifestError("", f"larger than {MANIFEST_LIMIT_BYTES} bytes")
    document = load_json(data)
    if not isinstance(document, dict):
        raise ManifestError("", "expected a table")
    found = document.get("format")
    if found != FORMAT or type(found) is not int:
        raise ManifestError(
            "format",
            f"this edgekit reads format {FORMAT}, got {repr(found)[:40]}",
            hint="pip install --upgrade edgekit-sdk",
        )
    manifest = parse(Manifest, document)
    if dump_canonical(manifest) != data:
        raise ManifestError("", "not in canonical form (sorted keys, no spaces, shortest numbers)")
    return manifest


def dump_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes; `parse_manifest` gives the manifest back."""
    return dump_canonical(manifest)
