"""What an ORT-format file contains, in the same record as an ONNX file.

Field numbers: ort.fbs of ONNX Runtime (identifier ORTM), format versions 5 and 6.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from edgekit.errors import GraphRefused
from edgekit.formats import RANK_LIMIT, Buffer, StoredTensor, Value, mapped, stored_size_bytes
from edgekit.formats.external import ExternalData
from edgekit.formats.flatbuffer import FlatBuffer, Table
from edgekit.formats.onnx import DATATYPES, DEPTH_LIMIT, OnnxModel, count_ops, plain_domain

IDENTIFIER = b"ORTM"


def is_ort(data: Buffer) -> bool:
    """Whether these bytes are an ORT-format model."""
    return data[4:8] == IDENTIFIER


def read_ort(path: str | os.PathLike[str]) -> OnnxModel:
    """What the file contains. Raises GraphRefused."""
    file = os.path.basename(os.fspath(path))
    with mapped(path, file) as data:
        return parse_ort(data, file)


def parse_ort(data: Buffer, file: str) -> OnnxModel:
    """What these bytes contain; `file` names them in errors. Raises GraphRefused."""
    if not is_ort(data):
        raise GraphRefused(f"{file}: not an ORT-format file (no {IDENTIFIER.decode()} at byte 4)")
    return _Reader(FlatBuffer(data, file, "ORT-format")).model()


def read_tensor(buffer: FlatBuffer, table: Table) -> StoredTensor:
    """The constant that a Tensor table is. Raises GraphRefused."""
    reader = _Reader(buffer)
    reader._tensor(table)
    return reader.tensors[0]


def read_values(buffer: FlatBuffer, graph: Table) -> dict[str, Value]:
    """Every value of a Graph table by name, inner ones too. Raises GraphRefused."""
    return {value.name: value for value in _Reader(buffer)._values(graph)}


class _Reader:
    def __init__(self, buffer: FlatBuffer) -> None:
        self.buffer = buffer
        self.ops: Counter[tuple[str, str]] = Counter()
        self.tensors: list[StoredTensor] = []
        self.external: list[ExternalData] = []

    def model(self) -> OnnxModel:
        model = self.buffer.root().table(1)
        graph = model.table(7) if model else None
        if model is None or graph is None:
            raise self.buffer.refuse("no graph")
        opsets = {plain_domain(o.text(0)): o.number(1, "q", 0) for o in model.tables(1)}
        self._graph(graph, 0)
        constants = {t.name for t in self.tensors}
        values = {v.name: v for v in self._values(graph)}
        return OnnxModel(
            ir_version=model.number(0, "q", 0),
            producer=" ".join(p for p in (model.text(2), model.text(3)) if p),
            opsets=opsets,
            ops=count_ops(self.ops, opsets),
            inputs=tuple(self._one(values, n) for n in graph.texts(5) if n not in constants),
            outputs=tuple(self._one(values, n) for n in graph.texts(6)),
            tensors=tuple(self.tensors),
            external=tuple(self.external),
            metadata={entry.text(0): entry.text(1) for entry in model.tables(9)},
        )

    def _one(self, values: dict[str, Value], name: str) -> Value:
        if name not in values:
            raise self.buffer.refuse(f"no type for {name[:80]!r}")
        return values[name]

    def _graph(self, graph: Table, depth: int) -> None:
        if depth > DEPTH_LIMIT:
            raise self.buffer.refuse(f"graphs nested more than {DEPTH_LIMIT} deep")
        for tensor in graph.tables(0):
            self._tensor(tensor)
        for node in graph.tables(2):
            self.ops[node.text(5), plain_domain(node.text(2))] += 1
            for attribute in node.tables(10):
                constant, inner = attribute.table(6), attribute.table(7)
                for table in (*([constant] if constant else ()), *attribute.tables(11)):
                    self._tensor(table)
                for table in (*([inner] if inner else ()), *attribute.tables(12)):
                    self._graph(table, depth + 1)

    def _tensor(self, table: Table) -> None:
        name = table.text(0)
        datatype = DATATYPES.get(table.number(3, "i", 0), "OTHER")
        shape = tuple(int(axis) for axis in table.numbers(2, "q", RANK_LIMIT))
        if any(axis < 0 for axis in shape):
            raise self.buffer.refuse(f"tensor {name[:80]!r} has a negative axis: {shape}")
        expected = stored_size_bytes(datatype, shape)
        outside = table.number(6, "q", -1)
        if outside >= 0:
            self.external.append(
                ExternalData(tensor=name, entries=(("offset", str(outside)),), expected_bytes=expected)
            )
        start, size_bytes = table.extent(4, 1) or (0, 0)
        if expected is not None and outside < 0 and size_bytes != expected:
            raise self.buffer.refuse(f"tensor {name[:80]!r}: expected {expected} bytes, got {size_bytes}")
        self.tensors.append(
            StoredTensor(
                name=name,
                datatype=datatype,
                shape=shape,
                location="" if outside < 0 else "?",
                offset=start if outside < 0 else outside,
                size_bytes=size_bytes if outside < 0 else expected or 0,
                encoding="raw" if expected is not None else "scattered",
                quantization=None,
            )
        )

    def _values(self, graph: Table) -> Iterator[Value]:
        for table in graph.tables(1):
            kind = table.table(2)
            code = kind.number(1, "B", 0) if kind else 0
            inner = kind.table(2) if kind else None
            datatype = {2: "SEQUENCE", 3: "MAP"}.get(code, "OTHER")
            shape: tuple[int, ...] | None = None
            symbols: tuple[str, ...] = ()
            if code == 1 and inner is not None:
                datatype = DATATYPES.get(inner.number(0, "i", 0), "OTHER")
                shape, symbols = self._shape(inner.table(1))
            yield Value(name=table.text(0), datatype=datatype, shape=shape, symbols=symbols, quantization=None)

    def _shape(self, table: Table | None) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
        if table is None:
            return None, ()
        shape, symbols = [], []
        for axis in table.tables(0):
            value = axis.table(0)
            fixed = value is not None and value.number(0, "b", 0) == 1
            shape.append(max(value.number(1, "q", 0), -1) if value and fixed else -1)
            symbols.append(value.text(2) if value and not fixed else "")
            if len(shape) > RANK_LIMIT:
                raise self.buffer.refuse(f"a tensor of more than {RANK_LIMIT} axes")
        return tuple(shape), tuple(symbols)
