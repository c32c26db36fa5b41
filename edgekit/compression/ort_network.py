"""The graph of an ORT-format file. Field numbers: ort.fbs of ONNX Runtime, format versions 5 and 6."""

from __future__ import annotations

import struct
from typing import Any

from edgekit.compression.network import NODE_LIMIT, Graph, Network, Node
from edgekit.formats import Buffer, StoredTensor
from edgekit.formats.flatbuffer import FlatBuffer, Table
from edgekit.formats.onnx import DEPTH_LIMIT, plain_domain
from edgekit.formats.ort import parse_ort, read_tensor, read_values

FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS, STRINGS, GRAPHS = 1, 2, 3, 4, 5, 6, 7, 8, 10


def parse_ort_network(data: Buffer, path: str, file: str) -> Network:
    """The graph that these bytes hold. Raises GraphRefused."""
    parsed = parse_ort(data, file)
    buffer = FlatBuffer(data, file, "ORT-format")
    model = buffer.root().table(1)
    graph = model.table(7) if model else None
    if graph is None:
        raise buffer.refuse("no graph")
    return Network(path, file, "ort", parsed.producer, len(data), _graph(buffer, graph, 0), ())


def _graph(buffer: FlatBuffer, table: Table, depth: int) -> Graph:
    if depth > DEPTH_LIMIT:
        raise buffer.refuse(f"graphs nested more than {DEPTH_LIMIT} deep")
    constants: dict[str, StoredTensor] = {}
    for item in table.tables(0):
        tensor = read_tensor(buffer, item)
        constants[tensor.name] = tensor
    values = read_values(buffer, table)
    nodes: list[Node] = []
    for item in table.tables(2):
        if len(nodes) >= NODE_LIMIT:
            raise buffer.refuse(f"more than {NODE_LIMIT} nodes")
        nodes.append(_node(buffer, item, depth, constants))
    inputs = tuple(values[n] for n in table.texts(5) if n not in constants and n in values)
    return Graph("", tuple(nodes), inputs, tuple(table.texts(6)), constants, values)


def _node(buffer: FlatBuffer, table: Table, depth: int, constants: dict[str, StoredTensor]) -> Node:
    outputs = tuple(table.texts(9))
    attributes: dict[str, Any] = {}
    for item in table.tables(10):
        attributes[item.text(0)] = _attribute(buffer, item, depth)
    op = table.text(5)
    held = attributes.get("value")
    if op == "Constant" and outputs and isinstance(held, StoredTensor):
        constants[outputs[0]] = held
    return Node(op, plain_domain(table.text(2)), table.text(0), tuple(table.texts(8)), outputs, attributes)


def _attribute(buffer: FlatBuffer, table: Table, depth: int) -> Any:
    kind = table.number(2, "i", 0)
    if kind == FLOAT:
        return struct.unpack("<f", struct.pack("<I", table.number(3, "I", 0)))[0]
    if kind == INT:
        return table.number(4, "q", 0)
    if kind == STRING:
        return table.text(5)
    if kind == TENSOR:
        inner = table.table(6)
        return read_tensor(buffer, inner) if inner else None
    if kind == GRAPH:
        inner = table.table(7)
        return _graph(buffer, inner, depth + 1) if inner else None
    if kind == FLOATS:
        return tuple(table.numbers(8, "f", NODE_LIMIT))
    if kind == INTS:
        return tuple(table.numbers(9, "q", NODE_LIMIT))
    if kind == STRINGS:
        return tuple(table.texts(10))
    if kind == GRAPHS:
        return tuple(_graph(buffer, item, depth + 1) for item in table.tables(12))
    return None
