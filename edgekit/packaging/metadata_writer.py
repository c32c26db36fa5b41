"""Writes TFLite's standard metadata (schema 1.5) into a model file, and the files it names behind it.

Everything new is put in front of the model, whose bytes move by a multiple of their alignment and are otherwise
copied: FlatBuffers point forward relatively, so what they said stays true, and no weight is touched. Field numbers:
metadata_schema.fbs of MediaPipe, schema.fbs of LiteRT.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from edgekit.errors import GraphRefused
from edgekit.formats import Buffer, mapped
from edgekit.formats.flatbuffer import FlatBuffer, Table
from edgekit.formats.tflite import read_metadata
from edgekit.packaging.flatbuffer_writer import Node, Number, Numbers, Place, write_flatbuffer

NAME = "TFLITE_METADATA"
ALIGNMENT = 64
"""How far the model's bytes move, a multiple of it: TFLite needs its weights at multiples of 16."""

_IMAGE, _AUDIO, _FEATURE = 2, 4, 1  # ContentProperties
_NORMALIZATION, _CALIBRATION, _BERT = 1, 2, 4  # ProcessUnitOptions
_AXIS_LABELS, _AXIS_CALIBRATION, _VOCABULARY = 2, 4, 5  # AssociatedFileType
_RGB, _GREYSCALE = 1, 2  # ColorSpaceType
_ROOT_FIELDS = 10


class Calibration(NamedTuple):
    """Sigmoid calibration of scores: transformation 0 identity, 1 logarithm, 2 inverse logistic; one line a class."""

    transformation: int
    default_score: float
    file: str


class TensorNotes(NamedTuple):
    """What is written about one tensor.

    size: (width, height) of an image, (0, 0) for none. mean, std: (x - mean) / std on levels 0-255, () for none.
    labels: an appended file with one label a line, "" for none.
    """

    name: str
    description: str
    content: Literal["image", "audio", "feature"]
    grey: bool
    size: tuple[int, int]
    rate_hz: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: str
    calibration: Calibration | None


class ModelNotes(NamedTuple):
    """What is written about the model. vocabulary: the appended file of a BERT tokenizer, "" for none."""

    name: str
    description: str
    version: str
    author: str
    license: str
    inputs: tuple[TensorNotes, ...]
    outputs: tuple[TensorNotes, ...]
    vocabulary: str


def dump_metadata(notes: ModelNotes) -> bytes:
    """The metadata as a flatbuffer with identifier M001."""
    subgraph: dict[int, Node] = {2: [_tensor(t) for t in notes.inputs], 3: [_tensor(t) for t in notes.outputs]}
    if notes.vocabulary:
        vocabulary = _file(notes.vocabulary, _VOCABULARY, "Tokens by id.")
        subgraph[5] = [{0: Number("B", _BERT), 1: {0: [vocabulary]}}]
    root: dict[int, Node] = {
        0: notes.name,
        1: notes.description,
        2: notes.version,
        3: [subgraph],
        4: notes.author,
        5: notes.license,
        7: _least_parser(notes),
    }
    return write_flatbuffer({n: node for n, node in root.items() if node != ""}, b"M001")


def _least_parser(notes: ModelNotes) -> str:
    """The schema's version that knows everything used here (its history)."""
    if any(t.content == "audio" for t in notes.inputs):
        return "1.3.0"
    return "1.1.0" if notes.vocabulary else "1.0.0"


def _file(name: str, kind: int, description: str) -> dict[int, Node]:
    return {0: name, 1: description, 2: Number("b", kind)}


def _tensor(tensor: TensorNotes) -> dict[int, Node]:
    units: list[Node] = []
    files: list[Node] = []
    properties: dict[int, Node] = {}
    kind = {"image": _IMAGE, "audio": _AUDIO, "feature": _FEATURE}[tensor.content]
    if tensor.content == "image":
        properties[0] = Number("b", _GREYSCALE if tensor.grey else _RGB)
        if all(tensor.size):
            properties[1] = {0: Number("I", tensor.size[0]), 1: Number("I", tensor.size[1])}
    if tensor.content == "audio":
        properties = {0: Number("I", tensor.rate_hz), 1: Number("I", 1)}
    if tensor.mean:
        options: dict[int, Node] = {0: Numbers("f", tensor.mean), 1: Numbers("f", tensor.std)}
        units.append({0: Number("B", _NORMALIZATION), 1: options})
    if tensor.labels:
        files.append(_file(tensor.labels, _AXIS_LABELS, "One label a line."))
    if tensor.calibration is not None:
        transformation, default_score, file = tensor.calibration
        options = {0: Number("b", transformation), 1: Number("f", default_score)}
        units.append({0: Number("B", _CALIBRATION), 1: options})
        files.append(_file(file, _AXIS_CALIBRATION, "Scale, slope and offset of each class."))
    table: dict[int, Node] = {0: tensor.name, 3: {0: Number("B", kind), 1: properties}}
    if tensor.description:
        table[1] = tensor.description
    if units:
        table[4] = units
    if tensor.content == "image":
        table[5] = {0: Numbers("f", (255.0,)), 1: Numbers("f", (0.0,))}
    if files:
        table[6] = files
    return table


def write_metadata(source: Path, notes: ModelNotes, files: Mapping[str, bytes], output: Path) -> None:
    """Write `source` with this metadata to `output`, `files` appended as a stored zip; what it had is replaced.

    The same arguments give the same bytes. Raises GraphRefused for a file that is no TFLite model.
    """
    file = source.name
    read_metadata(source, NAME)  # checks the whole file before anything is followed
    with mapped(source, file) as data:
        front = _front(data, file, dump_metadata(notes))
        size = _model_size(source, len(data))
    with source.open("rb") as before, output.open("wb") as after:
        after.write(front)
        shutil.copyfileobj(before, after, 1 << 20)
        after.truncate(len(front) + size)
    if files:
        with zipfile.ZipFile(output, "a", zipfile.ZIP_STORED) as archive:
            for name, content in files.items():
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content)


def _model_size(path: Path, size: int) -> int:
    """Bytes before the files that are appended already."""
    if not zipfile.is_zipfile(path):
        return size
    try:
        with zipfile.ZipFile(path) as archive:
            return min((info.header_offset for info in archive.infolist()), default=archive.start_dir)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise GraphRefused(f"{os.path.basename(path)}: the files appended to it cannot be read ({error})") from None


def _front(data: Buffer, file: str, metadata: bytes) -> bytes:
    """A new root with the metadata, pointing at what the old root pointed at; the old file follows it."""
    buffer = FlatBuffer(data, file, "TFLite")
    root = buffer.root()
    if any(root.has(field) for field in range(_ROOT_FIELDS, 64)):
        raise GraphRefused(f"{file}: its schema is newer than what edgekit can add metadata to")
    if any(b.number(1, "Q", 0) > 1 for b in root.tables(4)):
        raise GraphRefused(f"{file}: its weights stand behind the model (the form above 2 GB)")
    fields: dict[int, Node] = {0: Number("I", root.number(0, "I", 0))}
    for field in range(1, _ROOT_FIELDS):
        found = root.extent(field, 1)
        if found is not None:
            fields[field] = Place(found[0] - 4)
    buffers: list[Node] = list(_places(buffer, root, 4))
    entries: list[Node] = []
    index = len(buffers)
    for place, entry in zip(_places(buffer, root, 6), root.tables(6)):
        if entry.text(0) == NAME:
            index = entry.number(1, "I", 0)
        else:
            entries.append(place)
    own: Node = {0: metadata}
    fields[4] = [*buffers[:index], own, *buffers[index + 1 :]]
    fields[6] = [*entries, {0: NAME, 1: Number("I", index)}]
    return write_flatbuffer(fields, b"TFL3", alignment=ALIGNMENT)


def _places(buffer: FlatBuffer, root: Table, field: int) -> list[Place]:
    """Where each table of a vector of tables begins."""
    found = root.extent(field, 4)
    if found is None:
        return []
    start, count = found
    return [Place(at + buffer.number(at, "I")) for at in range(start, start + 4 * count, 4)]


def read_calibrations(path: Path) -> dict[int, Calibration]:
    """The score calibration of each output that has one, by the output's number. Raises GraphRefused."""
    data = read_metadata(path, NAME)
    found: dict[int, Calibration] = {}
    subgraphs = list(FlatBuffer(data, path.name, "TFLite metadata").root().tables(3)) if data is not None else []
    for index, tensor in enumerate(subgraphs[0].tables(3) if subgraphs else ()):
        files = [f.text(0) for f in tensor.tables(6) if f.number(2, "b", 0) == _AXIS_CALIBRATION]
        for unit in tensor.tables(4):
            options = unit.table(1) if unit.number(0, "B", 0) == _CALIBRATION else None
            if options is not None and files:
                found[index] = Calibration(options.number(0, "b", 0), options.real(1, 0.0), files[0])
    return found
