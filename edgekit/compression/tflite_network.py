"""The graph of a TFLite file. Field numbers: schema.fbs, version 3."""

from __future__ import annotations

from typing import Any

from edgekit.compression.network import NODE_LIMIT, Graph, Network, Node
from edgekit.formats import Buffer, StoredTensor, Value
from edgekit.formats.flatbuffer import FlatBuffer, Table
from edgekit.formats.tflite import AXIS_LIMIT, parse_tflite, read_code, read_tensors

ACTIVATIONS = ("", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")
BLOCKWISE = 2
"""QuantizationDetails: BlockwiseQuantization, whose scales are a tensor of their own."""

FUSED_FIELD = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "FULLY_CONNECTED": 0, "ADD": 0, "MUL": 0, "SUB": 0, "DIV": 0,
    "AVERAGE_POOL_2D": 5, "MAX_POOL_2D": 5, "CONCATENATION": 1, "TRANSPOSE_CONV": 3, "CONV_3D": 4,
}  # fmt: skip
"""Where an operator's options keep the fused activation."""


def parse_tflite_network(data: Buffer, path: str, file: str) -> Network:
    """The graphs that these bytes hold; the first one is called. Raises GraphRefused."""
    model = parse_tflite(data, file)
    buffer = FlatBuffer(data, file, "TFLite")
    tensors = read_tensors(buffer)
    root = FlatBuffer(data, file, "TFLite").root()
    codes = [read_code(buffer, c) for c in root.tables(1)]
    graphs = [_graph(buffer, table, tensors[i], codes) for i, table in enumerate(root.tables(2))]
    if not graphs:
        raise buffer.refuse("no subgraph")
    return Network(path, file, "tflite", model.description, len(data), graphs[0], tuple(graphs[1:]))


def _graph(
    buffer: FlatBuffer,
    table: Table,
    tensors: list[tuple[Value, StoredTensor | None]],
    codes: list[tuple[str, str, int]],
) -> Graph:
    names: list[str] = []
    taken: set[str] = set()
    for i, (value, _) in enumerate(tensors):
        name = value.name if value.name and value.name not in taken else f"{value.name or 'tensor'}#{i}"
        taken.add(name)
        names.append(name)
    values = {name: value.replace(name=name) for name, (value, _) in zip(names, tensors)}
    constants = {name: stored.replace(name=name) for name, (_, stored) in zip(names, tensors) if stored is not None}

    def named(indices: Any) -> tuple[str, ...]:
        found = []
        for index in indices:
            if not -1 <= index < len(names):
                raise buffer.refuse(f"tensor {index} of {len(names)}")
            found.append(names[index] if index >= 0 else "")
        return tuple(found)

    blocks: dict[str, str] = {}
    for name, item in zip(names, table.tables(0)):
        quantization = item.table(4)
        if quantization is not None and quantization.number(4, "B", 0) == BLOCKWISE:
            details = quantization.table(5)
            index = details.number(0, "i", -1) if details is not None else -1
            if 0 <= index < len(names):
                blocks[name] = names[index]
    nodes: list[Node] = []
    for item in table.tables(3):
        if len(nodes) >= NODE_LIMIT:
            raise buffer.refuse(f"more than {NODE_LIMIT} nodes")
        code = item.number(0, "I", 0)
        if code >= len(codes):
            raise buffer.refuse(f"operator code {code} of {len(codes)}")
        domain, op, _ = codes[code]
        outputs = named(item.numbers(2, "i", AXIS_LIMIT))
        inputs = named(item.numbers(1, "i", AXIS_LIMIT))
        nodes.append(Node(op, domain, outputs[0] if outputs else "", inputs, outputs, _options(op, item)))
    ends = [named(table.numbers(field, "i", AXIS_LIMIT)) for field in (1, 2)]
    taken_in = tuple(values[n] for n in ends[0] if n)
    return Graph(table.text(4), tuple(nodes), taken_in, ends[1], constants, values, blocks)


def _options(op: str, operator: Table) -> dict[str, Any]:
    options = operator.table(4)
    if options is None:
        return {}
    found: dict[str, Any] = {}
    if op in FUSED_FIELD:
        code = options.number(FUSED_FIELD[op], "b", 0)
        found["activation"] = ACTIVATIONS[code] if 0 <= code < len(ACTIVATIONS) else f"ACTIVATION_{code}"
    if op == "BATCH_MATMUL":
        found["transposed"] = (options.number(0, "b", 0) != 0, options.number(1, "b", 0) != 0)
    return found
