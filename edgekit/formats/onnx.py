"""What an ONNX file contains: a strict, bounded reader of ModelProto that skips the weights.

Field numbers: onnx.proto of ONNX 1.16 and later. The `onnx` package is not needed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Literal

from edgekit.formats import (
    RANK_LIMIT,
    Buffer,
    OpCount,
    StoredTensor,
    Value,
    mapped,
    stored_size_bytes,
)
from edgekit.formats.external import ExternalData, whole_number
from edgekit.formats.protobuf import BYTES, VARINT, Wire, signed
from edgekit.records import Record

DEPTH_LIMIT = 16
METADATA_LIMIT_BYTES = 1 << 20
DATATYPES = {
    1: "FP32", 2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16", 6: "INT32", 7: "INT64", 8: "BYTES", 9: "BOOL",
    10: "FP16", 11: "FP64", 12: "UINT32", 13: "UINT64", 14: "COMPLEX64", 15: "COMPLEX128", 16: "BF16",
    17: "FP8E4M3FN", 18: "FP8E4M3FNUZ", 19: "FP8E5M2", 20: "FP8E5M2FNUZ", 21: "UINT4", 22: "INT4", 23: "FP4E2M1",
    24: "FP8E8M0", 25: "UINT2", 26: "INT2", 27: "FP6E2M3", 28: "FP6E3M2",
}  # fmt: skip
"""TensorProto.DataType in a manifest's words."""


class OnnxModel(Record):
    """The contents of a .onnx or .ort file; `metadata` are its metadata_props.

    inputs: without the initializers that older files list among them. tensors: initializers and the constants
    in nodes. external: the tensors whose bytes are elsewhere; `check_external_data` judges them.
    """

    ir_version: int
    producer: str
    opsets: dict[str, int]
    ops: tuple[OpCount, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    tensors: tuple[StoredTensor, ...]
    external: tuple[ExternalData, ...]
    metadata: dict[str, str]


def read_onnx(path: str | os.PathLike[str]) -> OnnxModel:
    """What the file contains. Raises GraphRefused."""
    file = os.path.basename(os.fspath(path))
    with mapped(path, file) as data:
        return parse_onnx(data, file)


def parse_onnx(data: Buffer, file: str) -> OnnxModel:
    """What these bytes contain; `file` names them in errors. Raises GraphRefused."""
    return _Reader(Wire(data, file)).model()


def read_tensor(wire: Wire, start: int, end: int, output: str | None = None) -> StoredTensor:
    """The constant that a TensorProto is; `output` names one inside a node. Raises GraphRefused."""
    reader = _Reader(wire)
    reader._tensor(start, end, output)
    return reader.tensors[0]


def read_value(wire: Wire, start: int, end: int) -> Value:
    """The value that a ValueInfoProto declares. Raises GraphRefused."""
    return _Reader(wire)._value(start, end)


class _Reader:
    """Collects over one walk of the file."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.ops: Counter[tuple[str, str]] = Counter()
        self.tensors: list[StoredTensor] = []
        self.external: list[ExternalData] = []

    def model(self) -> OnnxModel:
        wire = self.wire
        numbers: dict[int, int] = {}
        producer = ["", ""]
        opsets: dict[str, int] = {}
        metadata: dict[str, str] = {}
        graph: tuple[int, int] | None = None
        functions = []
        for number, kind, a, b in wire.fields(0, len(wire.data)):
            self._expect(number, kind, _MODEL_WIRE)
            if number == 1:
                numbers[number] = signed(a)
            elif number in (2, 3):
                producer[number - 2] = wire.text(a, b)
            elif number == 8:
                domain, version = self._opset(a, b)
                opsets[plain_domain(domain)] = version
            elif number == 7:
                if graph is not None:  # protobuf would merge the two; a reader that does not would see less
                    raise wire.refuse("two graphs")
                graph = (a, b)
            elif number == 14:
                key, value = self._pair(a, b)
                metadata[key] = value
            elif number == 25:
                functions.append((a, b))
        if graph is None or numbers.get(1, 0) < 1:
            raise wire.refuse("no graph" if graph is None else "no ir_version")
        inputs, outputs, named = self._graph(*graph, 0)
        for a, b in functions:
            self._function(a, b)
        return OnnxModel(
            ir_version=numbers[1],
            producer=" ".join(p for p in producer if p),
            opsets=opsets,
            ops=count_ops(self.ops, opsets),
            inputs=tuple(v for v in inputs if v.name not in named),
            outputs=tuple(outputs),
            tensors=tuple(self.tensors),
            external=tuple(self.external),
            metadata=metadata,
        )

    def _expect(self, number: int, kind: int, wires: Mapping[int, int]) -> None:
        if wires.get(number, kind) != kind:
            raise self.wire.refuse(f"field {number} has wire type {kind}, expected {wires[number]}")

    def _graph(self, start: int, end: int, depth: int) -> tuple[list[Value], list[Value], set[str]]:
        if depth > DEPTH_LIMIT:
            raise self.wire.refuse(f"graphs nested more than {DEPTH_LIMIT} deep")
        inputs, outputs, named = [], [], set()
        for number, kind, a, b in self.wire.fields(start, end):
            self._expect(number, kind, _GRAPH_WIRE)
            if number == 1:
                self._node(a, b, depth)
            elif number == 5:
                named.add(self._tensor(a, b, None))
            elif number == 11:
                inputs.append(self._value(a, b))
            elif number == 12:
                outputs.append(self._value(a, b))
            elif number == 15:
                named.add(self._sparse(a, b))
        return inputs, outputs, named

    def _function(self, start: int, end: int) -> None:
        for number, kind, a, b in self.wire.fields(start, end):
            self._expect(number, kind, _FUNCTION_WIRE)
            if number == 7:
                self._node(a, b, 0)
            elif number == 11:
                self._attribute(a, b, "", 0)

    def _node(self, start: int, end: int, depth: int) -> None:
        wire = self.wire
        op = domain = output = ""
        attributes = []
        for number, kind, a, b in wire.fields(start, end):
            if number == 4:
                self._expect(number, kind, _NODE_WIRE)
                op = wire.text(a, b)
            elif number == 5:
                self._expect(number, kind, _NODE_WIRE)
                attributes.append((a, b))
            elif number == 7:
                self._expect(number, kind, _NODE_WIRE)
                domain = wire.text(a, b)
            elif number == 2 and not output:
                self._expect(number, kind, _NODE_WIRE)
                output = wire.text(a, b)
        self.ops[op, plain_domain(domain)] += 1
        for a, b in attributes:
            self._attribute(a, b, output, depth)

    def _attribute(self, start: int, end: int, output: str, depth: int) -> None:
        for number, kind, a, b in self.wire.fields(start, end):
            if number in _ATTRIBUTE_WIRE:
                self._expect(number, kind, _ATTRIBUTE_WIRE)
                if number in (6, 11):
                    self._graph(a, b, depth + 1)
                elif number in (5, 10):
                    self._tensor(a, b, output)
                else:
                    self._sparse(a, b)

    def _sparse(self, start: int, end: int) -> str:
        name = ""
        for number, kind, a, b in self.wire.fields(start, end):
            self._expect(number, kind, {1: BYTES, 2: BYTES})
            if number == 1:
                name = self._tensor(a, b, None)
            elif number == 2:
                self._tensor(a, b, None)
        return name

    def _tensor(self, start: int, end: int, output: str | None) -> str:
        """Note a TensorProto; `output` names a constant inside a node, None means it has its own name."""
        wire = self.wire
        dims: list[int] = []
        name, code, location = "", 0, 0
        entries: list[tuple[str, str]] = []
        payloads: list[tuple[int, int, int]] = []
        raw: tuple[int, int] | None = None
        for number, kind, a, b in wire.fields(start, end):
            self._expect(number, kind, _TENSOR_WIRE)
            if number == 1:
                dims += [signed(a)] if kind == VARINT else map(signed, wire.varints(a, b))
                if len(dims) > RANK_LIMIT:
                    raise wire.refuse(f"a tensor of more than {RANK_LIMIT} axes")
            elif number == 2:
                code = a
            elif number == 8:
                name = wire.text(a, b)
            elif number == 9:
                raw = (a, b)
            elif number == 13:
                entries.append(self._pair(a, b))
            elif number == 14:
                location = a
            elif number in (4, 5, 6, 7, 10, 11) and (kind != BYTES or b > a):
                payloads.append((number, a, b) if kind != VARINT else (6, 0, 0))
        shown = name if output is None else output or name
        datatype = DATATYPES.get(code, "OTHER")
        shape = tuple(dims)
        if any(axis < 0 for axis in shape):
            raise wire.refuse(f"tensor {shown[:80]!r} has a negative axis: {shape}")
        expected = stored_size_bytes(datatype, shape)
        if entries or location:
            self.external.append(ExternalData(tensor=shown, entries=tuple(entries), expected_bytes=expected))
            written = dict(entries)
            offset = whole_number(written.get("offset", "0"))
            self._add(shown, datatype, shape, written.get("location", "?"), offset, expected or 0, "raw")
        elif raw is not None:
            if expected is not None and raw[1] - raw[0] != expected:
                raise wire.refuse(f"tensor {shown[:80]!r}: expected {expected} bytes, got {raw[1] - raw[0]}")
            self._add(shown, datatype, shape, "", raw[0], raw[1] - raw[0], "raw")
        elif len(payloads) == 1 and payloads[0][0] in (4, 10):
            _, a, b = payloads[0]
            self._add(shown, datatype, shape, "", a, b - a, "raw")
        elif len(payloads) == 1 and payloads[0][0] != 6:
            _, a, b = payloads[0]
            self._add(shown, datatype, shape, "", a, b - a, "varint")
        else:
            size = sum(b - a for _, a, b in payloads)
            self._add(shown, datatype, shape, "", payloads[0][1] if payloads else start, size, "scattered")
        return name

    def _add(
        self,
        name: str,
        datatype: str,
        shape: tuple[int, ...],
        location: str,
        offset: int,
        size_bytes: int,
        encoding: Literal["raw", "varint", "scattered"],
    ) -> None:
        self.tensors.append(
            StoredTensor(
                name=name,
                datatype=datatype,
                shape=shape,
                location=location,
                offset=offset,
                size_bytes=size_bytes,
                encoding=encoding,
                quantization=None,
            )
        )

    def _value(self, start: int, end: int) -> Value:
        name, datatype = "", "OTHER"
        shape: tuple[int, ...] | None = None
        symbols: tuple[str, ...] = ()
        for number, kind, a, b in self.wire.fields(start, end):
            self._expect(number, kind, {1: BYTES, 2: BYTES})
            if number == 1:
                name = self.wire.text(a, b)
            elif number == 2:
                datatype, shape, symbols = self._type(a, b)
        return Value(name=name, datatype=datatype, shape=shape, symbols=symbols, quantization=None)

    def _type(self, start: int, end: int) -> tuple[str, tuple[int, ...] | None, tuple[str, ...]]:
        others = {4: "SEQUENCE", 5: "MAP", 9: "OPTIONAL"}
        datatype = "OTHER"
        shape: tuple[int, ...] | None = None
        symbols: tuple[str, ...] = ()
        for number, kind, a, b in self.wire.fields(start, end):
            self._expect(number, kind, {1: BYTES})
            if number in others:
                datatype = others[number]
            if number != 1:
                continue
            for inner, inner_kind, c, d in self.wire.fields(a, b):
                self._expect(inner, inner_kind, {1: VARINT, 2: BYTES})
                if inner == 1:
                    datatype = DATATYPES.get(c, "OTHER")
                elif inner == 2:
                    shape, symbols = self._shape(c, d)
        return datatype, shape, symbols

    def _shape(self, start: int, end: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
        shape, symbols = [], []
        for number, kind, a, b in self.wire.fields(start, end):
            self._expect(number, kind, {1: BYTES})
            if number != 1:
                continue
            size, symbol = -1, ""
            for inner, inner_kind, c, d in self.wire.fields(a, b):
                self._expect(inner, inner_kind, {1: VARINT, 2: BYTES})
                if inner == 1:
                    size = max(signed(c), -1)
                elif inner == 2:
                    symbol = self.wire.text(c, d)
            shape.append(size)
            symbols.append(symbol)
            if len(shape) > RANK_LIMIT:
                raise self.wire.refuse(f"a tensor of more than {RANK_LIMIT} axes")
        return tuple(shape), tuple(symbols)

    def _opset(self, start: int, end: int) -> tuple[str, int]:
        domain, version = "", 0
        for number, kind, a, b in self.wire.fields(start, end):
            self._expect(number, kind, {1: BYTES, 2: VARINT})
            if number == 1:
                domain = self.wire.text(a, b)
            elif number == 2:
                version = signed(a)
        return domain, version

    def _pair(self, start: int, end: int) -> tuple[str, str]:
        if end - start > METADATA_LIMIT_BYTES:
            raise self.wire.refuse(f"metadata of more than {METADATA_LIMIT_BYTES} bytes")
        texts = ["", ""]
        for number, kind, a, b in self.wire.fields(start, end):
            self._expect(number, kind, {1: BYTES, 2: BYTES})
            if number in (1, 2):
                texts[number - 1] = self.wire.text(a, b)
        return texts[0], texts[1]


_MODEL_WIRE = {1: VARINT, 2: BYTES, 3: BYTES, 7: BYTES, 8: BYTES, 14: BYTES, 25: BYTES}
_GRAPH_WIRE = {1: BYTES, 5: BYTES, 11: BYTES, 12: BYTES, 15: BYTES}
_FUNCTION_WIRE = {7: BYTES, 11: BYTES}
_NODE_WIRE = {2: BYTES, 4: BYTES, 5: BYTES, 7: BYTES}
_ATTRIBUTE_WIRE = {5: BYTES, 6: BYTES, 10: BYTES, 11: BYTES, 22: BYTES, 23: BYTES}
_TENSOR_WIRE = {2: VARINT, 8: BYTES, 9: BYTES, 13: BYTES, 14: VARINT}


def plain_domain(domain: str) -> str:
    """ONNX has two spellings of its own domain."""
    return "" if domain == "ai.onnx" else domain


def count_ops(ops: Mapping[tuple[str, str], int], opsets: Mapping[str, int]) -> tuple[OpCount, ...]:
    """The operators, by domain and name, with the opset version that the file imports (0: none)."""
    ordered = sorted(ops, key=lambda key: (key[1], key[0]))
    return tuple(OpCount(name=o, domain=d, version=opsets.get(d, 0), count=ops[o, d]) for o, d in ordered)
