"""Inspect one model file: read its graph, count, measure every weight once, say what compression there is."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgekit.compression.benefits import benefits_of
from edgekit.compression.counting import Counted, count_onnx, count_tflite, is_counted, sum_counted
from edgekit.compression.doubts import doubts_of
from edgekit.compression.facts import GraphFacts, LayerFacts
from edgekit.compression.findings import findings_of
from edgekit.compression.layers import Layer, find_layers
from edgekit.compression.measures import Measures, deflate, measure
from edgekit.compression.network import Graph, Network, Node, element_count, inner_graphs, walk
from edgekit.compression.reading import read_network
from edgekit.compression.shapes import Shape, Shapes
from edgekit.compression.sizes import FLOAT_BYTES, constant_bytes, live_bytes, onnx_datatypes, parameter_tensors
from edgekit.compression.structure import folding, low_rank_pairs, shared_constants
from edgekit.compression.weights import Weights
from edgekit.errors import EdgekitError, GraphRefused, InputError
from edgekit.formats import BITS
from edgekit.targets import Target

LIMITS = {
    "INT8": (-127, 127), "UINT8": (0, 255), "INT4": (-7, 7), "UINT4": (0, 15), "INT2": (-1, 1), "UINT2": (0, 3),
    "INT16": (-32767, 32767),
}  # fmt: skip
FOREIGN = (ValueError, OverflowError, MemoryError, RecursionError, IndexError, KeyError, TypeError, ZeroDivisionError)


def inspect_model(
    path: str | os.PathLike[str],
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    data: str | None = None,
    target: Target | None = None,
    features: frozenset[str] | None = None,
) -> GraphFacts:
    """What a .onnx, .ort or .tflite file contains.

    shapes: of inputs, where the file leaves axes free. data: the file with an ONNX graph's outside weights.
    target: whose CPU and runtimes the benefits speak of. features: of that CPU, where it is known better than the
    target says. Raises GraphRefused, InputError.
    """
    network = read_network(path)
    try:
        with Weights(path, data) as weights:
            return _inspect(network, weights, dict(shapes or {}), target, features)
    except EdgekitError:
        raise
    except FOREIGN as error:
        raise GraphRefused(f"{network.file}: cannot be inspected ({type(error).__name__}: {error})") from None


def _inspect(
    network: Network,
    weights: Weights,
    shapes: dict[str, tuple[int, ...]],
    target: Target | None,
    features: frozenset[str] | None,
) -> GraphFacts:
    layers = find_layers(network)
    inputs, assumed = _input_shapes(network, shapes)
    counted, known, types = _count(network, weights, inputs)
    unread: list[str] = []
    facts = _layer_facts(layers, counted, weights, unread)
    parameters = {id(t): t for t in parameter_tensors(network, layers)}
    by_layer = {(x.source.tensor.name, x.source.tensor.offset): x for x in layers}
    count = other = 0
    datatypes: Counter[str] = Counter()
    for tensor in parameters.values():
        layer = by_layer.get((tensor.name, tensor.offset))
        own = layer.parameters if layer is not None else element_count(tensor.shape)
        count += own
        other += 0 if layer is not None else own
        datatypes[layer.tensor.datatype if layer is not None else tensor.datatype] += own
    total, not_counted = sum_counted(counted)
    weight_bytes, outside = constant_bytes(network)
    pieces: Iterator[bytes] = itertools.chain.from_iterable(weights.raw(t) for t in parameters.values())
    transfer = deflate(pieces, sum(t.size_bytes for t in parameters.values()))
    low_rank = tuple(low_rank_pairs(layers, weights))
    shared = tuple(shared_constants(network, layers, weights))
    folded = folding(network)
    findings = findings_of(facts, count, low_rank, shared, folded)
    runtime = "litert" if network.format == "tflite" else "onnxruntime"
    made = GraphFacts(
        file=network.file,
        format=network.format,
        runtime=runtime,
        producer=network.producer,
        size_bytes=network.size_bytes + outside,
        parameters=count,
        other_parameters=other,
        weight_bytes=weight_bytes,
        widened_bytes=count * FLOAT_BYTES,
        activation_bytes=live_bytes(network.main, known, types),
        multiply_adds=total,
        not_counted=not_counted,
        input_shapes=inputs,
        assumed=assumed,
        datatypes=dict(datatypes.most_common()),
        operators=sum(1 for root in (network.main, *network.others) for _ in walk(root)),
        layers=tuple(facts),
        findings=findings,
        low_rank=low_rank,
        shared=shared,
        folding=folded,
        transfer=transfer,
        unread=tuple(unread),
        benefits=(),
    )
    return made.replace(benefits=benefits_of(made, target, features))


def _input_shapes(network: Network, given: dict[str, Shape]) -> tuple[dict[str, Shape], dict[str, int]]:
    """The shape of each input for one call, and the free axes that a batch of 1 was taken for."""
    unknown = sorted(given.keys() - {v.name for v in network.main.inputs})
    if unknown:
        names = ", ".join(v.name for v in network.main.inputs)
        raise InputError(f"{network.file}: has no input {unknown[0]!r}, it has {names}")
    shapes: dict[str, Shape] = {}
    assumed: dict[str, int] = {}
    symbols = _symbols(network, given)
    for value in network.main.inputs:
        if value.shape is None:
            continue
        shape = list(given.get(value.name, value.shape))
        if value.name in given and len(shape) != len(value.shape):
            raise InputError(f"{network.file}: {value.name} has {len(value.shape)} axes, got {len(shape)}")
        for axis, size in enumerate(shape):
            if size >= 0:
                continue
            symbol = value.symbols[axis] if axis < len(value.symbols) else ""
            if symbol and symbol in symbols:
                shape[axis] = symbols[symbol]
            elif axis == 0 and (len(shape) > 1 or "batch" in symbol):
                shape[axis] = 1
                assumed[symbol or f"{value.name}[0]"] = 1
        shapes[value.name] = tuple(shape)
    return shapes, assumed


def _symbols(network: Network, given: dict[str, Shape]) -> dict[str, int]:
    """What the given shapes say about named axes; the others take it over."""
    found: dict[str, int] = {}
    for value in network.main.inputs:
        if value.name in given:
            found.update({s: size for s, size in zip(value.symbols, given[value.name]) if s and size >= 0})
    return found


def _count(
    network: Network, weights: Weights, inputs: dict[str, Shape]
) -> tuple[dict[str, Counted], dict[str, Shape], dict[str, str]]:
    """Multiply-adds by node key, and shape and datatype of every value of the main graph."""
    if network.format == "tflite":
        known = {n: tuple(abs(a) for a in v.shape) for n, v in network.main.values.items() if v.shape is not None}
        types = {n: v.datatype for n, v in network.main.values.items()}
        found = {
            _key(node, i): count_tflite(node, graph)
            for i, (graph, node) in enumerate(_all(network))
            if is_counted(node)
        }
        return found, known, types
    shapes = Shapes(weights)
    shapes.run(network.main, inputs)
    main: dict[str, Counted] = {}
    _count_graph(network.main, shapes, main)
    return main, shapes.known, onnx_datatypes(network.main)


def _all(network: Network) -> Iterator[tuple[Graph, Node]]:
    yield from walk(network.main)


def _key(node: Node, index: int = 0) -> str:
    return node.outputs[0] if node.outputs else f"{node.op}#{index}"


def _count_graph(graph: Graph, shapes: Shapes, found: dict[str, Counted]) -> None:
    """Of the branches of an If the one with more work counts."""
    for index, node in enumerate(graph.nodes):
        inner = list(inner_graphs(node))
        if node.op == "If" and inner:
            branches: list[dict[str, Counted]] = []
            for branch in inner:
                own: dict[str, Counted] = {}
                _count_graph(branch, shapes, own)
                branches.append(own)
            found.update(_larger(branches))
        elif inner:
            found[_key(node, index)] = Counted(None, f"{node.op}: how often it runs is not known")
        elif is_counted(node):
            given = [shapes.of(name) if name else None for name in node.inputs]
            found[_key(node, index)] = count_onnx(node, given, [shapes.of(name) for name in node.outputs])


def _larger(branches: list[dict[str, Counted]]) -> dict[str, Counted]:
    return max(branches, key=lambda branch: (sum_counted(branch)[0], len(branch)))


def _layer_facts(
    layers: list[Layer], counted: Mapping[str, Counted], weights: Weights, unread: list[str]
) -> list[LayerFacts]:
    found = []
    measured: dict[tuple[str, int, int, int], Measures | None] = {}
    told: set[int] = set()
    for layer in layers:
        tensor = layer.tensor
        key = (tensor.location, tensor.offset, layer.channel, layer.reduced)
        if key not in measured:
            measured[key] = _measured(layer, weights)
            if measured[key] is None:
                unread.append(tensor.name)
        work = counted.get(_key(layer.node)) if id(layer.node) not in told else None
        told.add(id(layer.node))
        codebook = layer.source.codebook
        found.append(
            LayerFacts(
                name=layer.name,
                op=layer.node.op,
                weight=tensor.name,
                datatype=(codebook or tensor).datatype,
                shape=tensor.shape,
                parameters=layer.parameters,
                stored_bytes=layer.source.tensor.size_bytes + (codebook.size_bytes if codebook else 0),
                multiply_adds=work.multiply_adds if work is not None else None,
                scheme=layer.scheme,
                granularity=layer.granularity,
                evidence=layer.evidence,
                activation=str(layer.node.attributes.get("activation") or ""),
                codebook=element_count(codebook.shape) if codebook is not None else None,
                measures=measured[key],
                doubts=doubts_of(layer, measured[key], weights),
            )
        )
    return found


def _measured(layer: Layer, weights: Weights) -> Measures | None:
    tensor = layer.tensor
    found = weights.blocks(tensor)
    if found is None or tensor.datatype not in BITS:
        return None
    blocks: Iterator[Any] = found
    points: Any = None
    if layer.source.codebook is not None:
        table = weights.read(layer.source.codebook, 1 << 16)
        if table is None:
            return None
        blocks = (_looked_up(table, block) for block in found)
    elif tensor.quantization is not None:
        points = np.asarray(tensor.quantization.zero_points)
    elif layer.node.op in ("MatMulNBits", "GatherBlockQuantized"):
        # With zero points of their own per block, no one code is zero.
        asymmetric = len(layer.node.inputs) > 3 and bool(layer.node.inputs[3])
        points = np.asarray([1 << 20 if asymmetric else 1 << (BITS[tensor.datatype] - 1)])
    elif layer.zero_points is not None:
        points = weights.read(layer.zero_points, 1 << 16)
    if layer.source.mask is not None:
        mask = weights.blocks(layer.source.mask)
        if mask is not None:
            blocks = (a * b for a, b in zip(found, mask))
    return measure(
        blocks,
        channel_axis=layer.channel,
        reduced_axis=layer.reduced,
        zero_points=points,
        limits=LIMITS.get(tensor.datatype, (-(1 << 62), 1 << 62)),
    )


def _looked_up(table: Any, block: Any) -> Any:
    index = block.astype(np.int64)
    if index.size and (index.min() < -table.shape[0] or index.max() >= table.shape[0]):
        raise GraphRefused(f"a codebook of {table.shape[0]} entries is read at {int(index.max())}")
    rows = table[index]
    return rows.reshape(block.shape[0], -1) if rows.ndim > block.ndim else rows
