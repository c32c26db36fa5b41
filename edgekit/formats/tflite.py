"""What a TFLite file contains: operators, tensors, quantisation, signatures and metadata.

Field numbers: schema.fbs, version 3 (identifier TFL3).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from edgekit.errors import GraphRefused
from edgekit.formats import (
    RANK_LIMIT,
    Buffer,
    OpCount,
    StoredQuantization,
    StoredTensor,
    Value,
    mapped,
    stored_size_bytes,
)
from edgekit.formats.flatbuffer import FlatBuffer, Table
from edgekit.formats.tflite_ops import BUILTIN_OPERATORS
from edgekit.records import Record

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
CUSTOM = 32
AXIS_LIMIT = 1 << 20
METADATA_LIMIT_BYTES = 16 << 20
DATATYPES = (
    "FP32", "FP16", "INT32", "UINT8", "INT64", "BYTES", "BOOL", "INT16", "COMPLEX64", "INT8", "FP64", "COMPLEX128",
    "UINT64", "OTHER", "OTHER", "UINT32", "UINT16", "INT4", "BF16", "INT2", "UINT4", "FP8E4M3FN", "FP8E5M2",
)  # fmt: skip
"""enum TensorType in a manifest's words."""


class Signature(Record):
    """A named way to call the model: its names for inputs and outputs -> the tensors' unique names."""

    key: str
    inputs: dict[str, str]
    outputs: dict[str, str]


class TfliteModel(Record):
    """The contents of a .tflite file; inputs and outputs are those of the first subgraph.

    A value's shape has -1 where the file's signature says so, its name is unique (see `unique_names`). tensors: the
    constants of all subgraphs. metadata: name -> (offset, size) in the file. variables: tensors that keep their
    contents between runs. outside: the file refers to weights in other files.
    """

    version: int
    description: str
    ops: tuple[OpCount, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    tensors: tuple[StoredTensor, ...]
    signatures: tuple[Signature, ...]
    metadata: dict[str, tuple[int, int]]
    variables: int
    outside: bool


def read_tflite(path: str | os.PathLike[str]) -> TfliteModel:
    """What the file contains. Raises GraphRefused."""
    file = os.path.basename(os.fspath(path))
    with mapped(path, file) as data:
        return parse_tflite(data, file)


def read_metadata(path: str | os.PathLike[str], name: str) -> bytes | None:
    """The metadata entry of that name, None when there is none. Raises GraphRefused."""
    file = os.path.basename(os.fspath(path))
    with mapped(path, file) as data:
        found = parse_tflite(data, file).metadata.get(name)
        if found is None:
            return None
        offset, size_bytes = found
        if size_bytes > METADATA_LIMIT_BYTES:
            raise GraphRefused(f"{file}: metadata {name[:80]!r} has {size_bytes} bytes, at most {METADATA_LIMIT_BYTES}")
        return data[offset : offset + size_bytes]


def unique_names(names: Sequence[str], fallback: str) -> list[str]:
    """Names that tell tensors apart: an empty one becomes `fallback`, the second of a name gets `#2`, and so on."""
    result: list[str] = []
    taken = set(names)
    for name in names:
        plain = name or fallback
        unique, n = plain, 2
        while unique in result or (unique != name and unique in taken):
            unique, n = f"{plain}#{n}", n + 1
        result.append(unique)
    return result


def parse_tflite(data: Buffer, file: str) -> TfliteModel:
    """What these bytes contain; `file` names them in errors. Raises GraphRefused."""
    if data[4:8] != IDENTIFIER:
        raise GraphRefused(f"{file}: not a TFLite file (no {IDENTIFIER.decode()} at byte 4)")
    return _Reader(FlatBuffer(data, file, "TFLite")).model()


def read_tensors(buffer: FlatBuffer) -> list[list[tuple[Value, StoredTensor | None]]]:
    """Each subgraph's tensors in order, with where a constant's bytes are. Raises GraphRefused."""
    reader, root = _Reader(buffer), buffer.root()
    reader.buffers = [reader._extent(b) for b in root.tables(4)]
    found = []
    for subgraph in root.tables(2):
        tensors: list[tuple[Value, StoredTensor | None]] = []
        for table in subgraph.tables(0):
            stored = len(reader.tensors)
            value = reader._tensor(table)
            tensors.append((value, reader.tensors[-1] if len(reader.tensors) > stored else None))
        found.append(tensors)
    return found


def read_code(buffer: FlatBuffer, table: Table) -> tuple[str, str, int]:
    """Domain, name and version of an OperatorCode table."""
    return _Reader(buffer)._code(table)


class _Reader:
    def __init__(self, buffer: FlatBuffer) -> None:
        self.buffer = buffer
        self.buffers: list[tuple[int, int]] = []
        self.tensors: list[StoredTensor] = []
        self.variables = 0

    def model(self) -> TfliteModel:
        buffer = self.buffer
        root = buffer.root()
        version = root.number(0, "I", 0)
        if version != SCHEMA_VERSION:
            raise GraphRefused(f"{buffer.file}: needs TFLite schema {version}, edgekit reads {SCHEMA_VERSION}")
        self.buffers = [self._extent(b) for b in root.tables(4)]
        codes = [self._code(c) for c in root.tables(1)]
        counts: Counter[tuple[str, str, int]] = Counter()
        values: list[list[Value]] = []
        ends: tuple[list[int], list[int]] = ([], [])
        for index, subgraph in enumerate(root.tables(2)):
            values.append([self._tensor(t) for t in subgraph.tables(0)])
            for operator in subgraph.tables(3):
                code = operator.number(0, "I", 0)
                if code >= len(codes):
                    raise buffer.refuse(f"operator code {code} of {len(codes)}")
                counts[codes[code]] += 1
            if index == 0:
                ends = (self._indices(subgraph, 1, values[0]), self._indices(subgraph, 2, values[0]))
        if not values:
            raise buffer.refuse("no subgraph")
        inputs = _named([values[0][i] for i in ends[0]], "input")
        outputs = _named([values[0][i] for i in ends[1]], "output")
        by_index = ({i: v.name for i, v in zip(e, vs)} for e, vs in zip(ends, (inputs, outputs)))
        return TfliteModel(
            version=version,
            description=root.text(3),
            ops=tuple(
                OpCount(name=name, domain=domain, version=v, count=counts[domain, name, v])
                for domain, name, v in sorted(counts)
            ),
            inputs=inputs,
            outputs=outputs,
            tensors=tuple(self.tensors),
            signatures=self._signatures(root, *by_index),
            metadata=self._metadata(root),
            variables=self.variables,
            outside=any((root.extent(field, 4) or (0, 0))[1] for field in (8, 9)),
        )

    def _extent(self, table: Table) -> tuple[int, int]:
        offset, size = table.number(1, "Q", 0), table.number(2, "Q", 0)
        if offset > 1:  # 0 and 1 mean that the bytes are inside; files above 2 GiB append them
            if offset + size > self.buffer.size:
                raise self.buffer.refuse(f"a buffer of {size} bytes at byte {offset} goes beyond the file")
            return offset, size
        return table.extent(0, 1) or (0, 0)

    def _code(self, table: Table) -> tuple[str, str, int]:
        # Codes up to 126 may stand in the older field alone; the larger of the two counts.
        code = max(table.number(0, "b", 0), table.number(3, "i", 0))
        version = table.number(2, "i", 1)
        if code == CUSTOM:
            return "custom", table.text(1), version
        known = 0 <= code < len(BUILTIN_OPERATORS)
        return "", BUILTIN_OPERATORS[code] if known else f"BUILTIN_{code}", version

    def _indices(self, subgraph: Table, field: int, tensors: list[Value]) -> list[int]:
        indices = list(subgraph.numbers(field, "i", AXIS_LIMIT))
        for index in indices:
            if not 0 <= index < len(tensors):
                raise self.buffer.refuse(f"tensor {index} of {len(tensors)}")
        return indices

    def _tensor(self, table: Table) -> Value:
        name = table.text(3)
        code = table.number(1, "b", 0)
        datatype = DATATYPES[code] if 0 <= code < len(DATATYPES) else "OTHER"
        shape = tuple(int(axis) for axis in table.numbers(0, "i", RANK_LIMIT))
        signature = tuple(int(axis) for axis in table.numbers(7, "i", RANK_LIMIT))
        if any(axis < 0 for axis in shape):
            raise self.buffer.refuse(f"tensor {name[:80]!r} has a negative axis: {shape}")
        if len(signature) == len(shape):
            declared = tuple(-1 if s < 0 else axis for axis, s in zip(shape, signature))
        else:
            declared = shape
        quantization = self._quantization(table.table(4))
        if quantization is not None and len(quantization.scales) > 1 and not 0 <= quantization.axis < len(shape):
            raise self.buffer.refuse(
                f"tensor {name[:80]!r} of {len(shape)} axes has scales along quantized_dimension {quantization.axis}"
            )
        self.variables += table.number(5, "b", 0) != 0
        self._store(table, name, datatype, shape, quantization)
        return Value(
            name=name,
            datatype=datatype,
            shape=declared,
            symbols=("",) * len(declared),
            quantization=quantization,
        )

    def _store(
        self, table: Table, name: str, datatype: str, shape: tuple[int, ...], quantization: StoredQuantization | None
    ) -> None:
        index = table.number(2, "I", 0)
        if index >= max(len(self.buffers), 1):
            raise self.buffer.refuse(f"buffer {index} of {len(self.buffers)}")
        offset, size_bytes = self.buffers[index] if self.buffers else (0, 0)
        if not index or not size_bytes:
            return
        sparse = table.has(6)
        expected = stored_size_bytes(datatype, shape)
        if expected is not None and size_bytes != expected and not sparse:
            raise self.buffer.refuse(f"tensor {name[:80]!r}: expected {expected} bytes, got {size_bytes}")
        self.tensors.append(
            StoredTensor(
                name=name,
                datatype=datatype,
                shape=shape,
                location="",
                offset=offset,
                size_bytes=size_bytes,
                encoding="scattered" if sparse or expected is None else "raw",
                quantization=quantization,
            )
        )

    def _quantization(self, table: Table | None) -> StoredQuantization | None:
        if table is None:
            return None
        scales = table.numbers(2, "f", AXIS_LIMIT)
        if not scales:
            return None
        zero_points = table.numbers(3, "q", AXIS_LIMIT) or (0,) * len(scales)
        if len(zero_points) == 1 < len(scales):
            zero_points = zero_points * len(scales)
        if len(zero_points) != len(scales):
            raise self.buffer.refuse(f"{len(scales)} scales and {len(zero_points)} zero points")
        return StoredQuantization(scales=scales, zero_points=zero_points, axis=table.number(6, "i", 0))

    def _signatures(self, root: Table, inputs: dict[int, str], outputs: dict[int, str]) -> tuple[Signature, ...]:
        signatures = []
        for table in root.tables(7):
            if table.number(4, "I", 0) != 0:
                continue
            maps = []
            for field, names in ((0, inputs), (1, outputs)):
                pairs = {entry.text(0): entry.number(1, "I", 0) for entry in table.tables(field)}
                maps.append({name: names[index] for name, index in pairs.items() if index in names})
            signatures.append(Signature(key=table.text(2), inputs=maps[0], outputs=maps[1]))
        return tuple(signatures)

    def _metadata(self, root: Table) -> dict[str, tuple[int, int]]:
        found = {}
        for entry in root.tables(6):
            index = entry.number(1, "I", 0)
            if index >= len(self.buffers):
                raise self.buffer.refuse(f"buffer {index} of {len(self.buffers)}")
            found[entry.text(0)] = self.buffers[index]
        return found


def _named(values: list[Value], fallback: str) -> tuple[Value, ...]:
    names = unique_names([v.name for v in values], fallback)
    return tuple(v.replace(name=name) for v, name in zip(values, names))
