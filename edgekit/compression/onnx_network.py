"""The graph of an ONNX file: nodes, attributes, constants, over the strict reader of the wire format.

Field numbers: onnx.proto of ONNX 1.16 and later.
"""

from __future__ import annotations

import struct
from typing import Any

from edgekit.compression.network import NODE_LIMIT, Graph, Network, Node
from edgekit.formats import RANK_LIMIT, Buffer, SparseTensor, StoredTensor, Value
from edgekit.formats.onnx import DEPTH_LIMIT, parse_onnx, plain_domain, read_tensor, read_value
from edgekit.formats.protobuf import BYTES, VARINT, Wire, signed

TEXT_LIMIT_BYTES = 1 << 16


def parse_onnx_network(data: Buffer, path: str, file: str) -> Network:
    """The graph that these bytes hold. Raises GraphRefused."""
    model = parse_onnx(data, file)
    reader = _Reader(Wire(data, file))
    main: Graph | None = None
    others = []
    for number, kind, a, b in reader.wire.fields(0, len(data)):
        if number == 7 and kind == BYTES:
            main = reader.graph(a, b, 0)
        elif number == 25 and kind == BYTES:
            others.append(reader.function(a, b))
    if main is None:
        raise reader.wire.refuse("no graph")
    return Network(path, file, "onnx", model.producer, len(data), main, tuple(others))


class _Reader:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.nodes_left = NODE_LIMIT

    def graph(self, start: int, end: int, depth: int) -> Graph:
        if depth > DEPTH_LIMIT:
            raise self.wire.refuse(f"graphs nested more than {DEPTH_LIMIT} deep")
        name = ""
        nodes: list[Node] = []
        inputs: list[Value] = []
        outputs: list[str] = []
        constants: dict[str, StoredTensor] = {}
        values: dict[str, Value] = {}
        for number, kind, a, b in self.wire.fields(start, end):
            if kind != BYTES:
                continue
            if number == 1:
                nodes.append(self.node(a, b, depth, constants))
            elif number == 2:
                name = self.wire.text(a, b)
            elif number == 5:
                tensor = read_tensor(self.wire, a, b)
                constants[tensor.name] = tensor
            elif number == 15:
                tensor = self.sparse(a, b, "")
                constants[tensor.name] = tensor
            elif number == 11:
                inputs.append(read_value(self.wire, a, b))
            elif number in (12, 13):
                value = read_value(self.wire, a, b)
                values[value.name] = value
                if number == 12:
                    outputs.append(value.name)
        return Graph(
            name, tuple(nodes), tuple(v for v in inputs if v.name not in constants), tuple(outputs), constants, values
        )

    def sparse(self, start: int, end: int, output: str) -> SparseTensor:
        """A SparseTensorProto; `output` names one inside a node, else its values have its name."""
        parts: dict[int, StoredTensor] = {}
        dims: list[int] = []
        for number, kind, a, b in self.wire.fields(start, end):
            if number in (1, 2) and kind == BYTES:
                parts[number] = read_tensor(self.wire, a, b)
            elif number == 3:
                dims += [signed(a)] if kind == VARINT else map(signed, self.wire.varints(a, b))
        if len(parts) < 2 or len(dims) > RANK_LIMIT or any(axis < 0 for axis in dims):
            raise self.wire.refuse("a sparse tensor without values, places or a shape")
        values, indices = parts[1], parts[2]
        return SparseTensor(
            name=output or values.name,
            datatype=values.datatype,
            shape=tuple(dims),
            location=values.location,
            offset=values.offset,
            size_bytes=values.size_bytes + indices.size_bytes,
            encoding="scattered",
            quantization=None,
            values=values,
            indices=indices,
        )

    def function(self, start: int, end: int) -> Graph:
        constants: dict[str, StoredTensor] = {}
        texts: dict[int, list[str]] = {1: [], 4: [], 5: []}
        nodes = []
        for number, kind, a, b in self.wire.fields(start, end):
            if number == 7 and kind == BYTES:
                nodes.append(self.node(a, b, 0, constants))
            elif number in texts and kind == BYTES:
                texts[number].append(self.wire.text(a, b))
        return Graph("".join(texts[1][:1]), tuple(nodes), (), tuple(texts[5]), constants, {})

    def node(self, start: int, end: int, depth: int, constants: dict[str, StoredTensor]) -> Node:
        self.nodes_left -= 1
        if self.nodes_left < 0:
            raise self.wire.refuse(f"more than {NODE_LIMIT} nodes")
        texts = {3: "", 4: "", 7: ""}
        inputs: list[str] = []
        outputs: list[str] = []
        spans = []
        for number, kind, a, b in self.wire.fields(start, end):
            if kind != BYTES:
                continue
            if number == 1:
                inputs.append(self.wire.text(a, b))
            elif number == 2:
                outputs.append(self.wire.text(a, b))
            elif number in texts:
                texts[number] = self.wire.text(a, b)
            elif number == 5:
                spans.append((a, b))
        attributes: dict[str, Any] = {}
        for a, b in spans:
            key, value = self.attribute(a, b, depth, outputs[0] if outputs else "")
            attributes[key] = value
        op = texts[4]
        if op == "Constant" and outputs:
            held = attributes.get("value") or attributes.get("sparse_value")
            if isinstance(held, StoredTensor):
                constants[outputs[0]] = held
        return Node(op, plain_domain(texts[7]), texts[3], tuple(inputs), tuple(outputs), attributes)

    def attribute(self, start: int, end: int, depth: int, output: str) -> tuple[str, Any]:
        wire = self.wire
        name = ""
        value: Any = None
        several: list[Any] = []
        for number, kind, a, b in wire.fields(start, end):
            if number == 1 and kind == BYTES:
                name = wire.text(a, b)
            elif number == 2 and kind not in (VARINT, BYTES):
                value = struct.unpack_from("<f", wire.data, a)[0]
            elif number == 3 and kind == VARINT:
                value = signed(a)
            elif number == 4 and kind == BYTES:
                value = bytes(wire.data[a : min(b, a + TEXT_LIMIT_BYTES)]).decode("utf-8", "replace")
            elif number == 5 and kind == BYTES:
                value = read_tensor(wire, a, b, output)
            elif number == 22 and kind == BYTES:
                value = self.sparse(a, b, output)
            elif number in (6, 11) and kind == BYTES:
                inner = self.graph(a, b, depth + 1)
                if number == 6:
                    value = inner
                else:
                    several.append(inner)
            elif number == 7:
                several += self._floats(kind, a, b)
            elif number == 8:
                several += [signed(a)] if kind == VARINT else map(signed, wire.varints(a, b))
            elif number == 9 and kind == BYTES:
                several.append(bytes(wire.data[a : min(b, a + TEXT_LIMIT_BYTES)]).decode("utf-8", "replace"))
        return name, tuple(several) if value is None else value

    def _floats(self, kind: int, a: int, b: int) -> tuple[float, ...]:
        if kind == VARINT or (b - a) % 4:
            raise self.wire.refuse("a list of numbers of an odd size")
        if (b - a) // 4 > NODE_LIMIT:
            raise self.wire.refuse(f"an attribute of {(b - a) // 4} numbers")
        return struct.unpack_from(f"<{(b - a) // 4}f", self.wire.data, a)
