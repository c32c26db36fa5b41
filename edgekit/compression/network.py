"""A model file as a graph: nodes wired by value names, constants with where their bytes are. No weights are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from edgekit.formats import StoredTensor, Value

Format = Literal["onnx", "ort", "tflite"]
NODE_LIMIT = 200_000


class Node(NamedTuple):
    """One operator. domain: "" for ONNX's own and TFLite's builtins; attributes may hold Graphs (If, Loop)."""

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


class Graph(NamedTuple):
    """Nodes in order. constants: by value name. values: what the file declares of inner values, by name. block_scales:
    a constant quantised in blocks -> the constant with its scales (TFLite)."""

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, StoredTensor]
    values: Mapping[str, Value]
    block_scales: Mapping[str, str] = MappingProxyType({})


class Network(NamedTuple):
    """A model file. file: its name, for messages. main: the graph that a call runs; functions: ONNX local functions."""

    path: str
    file: str
    format: Format
    producer: str
    size_bytes: int
    main: Graph
    others: tuple[Graph, ...]


def walk(graph: Graph) -> Iterator[tuple[Graph, Node]]:
    """Every node with its graph, those of inner graphs (If, Loop) included, outer before inner."""
    for node in graph.nodes:
        yield graph, node
        for inner in inner_graphs(node):
            yield from walk(inner)


def ordered(graph: Graph) -> tuple[Node, ...]:
    """The nodes so that each comes after the makers of its inputs; those in a cycle come last, as they stand.

    ONNX asks files for this order, and onnxconverter-common's float16 files do not keep it.
    """
    maker = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs if name}
    waits: list[set[int]] = []
    followers: dict[int, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        taken = {n for n in node.inputs if n}
        for inner in inner_graphs(node):
            taken |= {n for _, deep in walk(inner) for n in deep.inputs}
        before = {maker[name] for name in taken if name in maker} - {i}
        waits.append(before)
        for other in before:
            followers.setdefault(other, []).append(i)
    if all(max(before, default=-1) < i for i, before in enumerate(waits)):
        return graph.nodes
    ready = [i for i, before in enumerate(waits) if not before][::-1]
    done: list[int] = []
    while ready:
        i = ready.pop()
        done.append(i)
        for other in followers.get(i, ()):
            waits[other].discard(i)
            if not waits[other]:
                ready.append(other)
    rest = sorted(set(range(len(graph.nodes))) - set(done))
    return tuple(graph.nodes[i] for i in (*done, *rest))


def inner_graphs(node: Node) -> Iterator[Graph]:
    """The graphs in a node's attributes."""
    for value in node.attributes.values():
        if isinstance(value, Graph):
            yield value
        elif isinstance(value, tuple):
            yield from (item for item in value if isinstance(item, Graph))


def element_count(shape: tuple[int, ...]) -> int:
    """How many elements a shape has."""
    count = 1
    for axis in shape:
        count *= axis
    return count
