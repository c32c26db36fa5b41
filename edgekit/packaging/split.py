"""Changes to ONNX files at packaging: a merged graph split into its towers, outside weights put into one file.

Needs the `onnx` package, on the host only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgekit.errors import EdgekitError, GraphRefused, InputError

INSIDE_LIMIT_BYTES = 1 << 30
"""A graph whose weights are more keeps them outside: protobuf ends at 2 GiB."""
_ALIGNMENT = 64
_MINIMUM_OUTSIDE_BYTES = 1024


class Packed(NamedTuple):
    """An ONNX file: its bytes, and those of its one data file, if it has one."""

    graph: bytes
    data: bytes | None


def require_onnx(why: str) -> Any:
    """The `onnx` package. Raises EdgekitError with the line that installs it."""
    try:
        import onnx
    except ImportError:
        raise EdgekitError(f"{why} needs the onnx package", hint='pip install "edgekit-sdk[package]"') from None
    return onnx


def tower(path: Path, outputs: Sequence[str], inputs: Sequence[str], data_name: str) -> Packed:
    """The part of a graph that `outputs` need; everything else is left out. Weights outside come along.

    inputs: the only graph inputs that it may need. Raises InputError when it needs another one.
    """
    onnx = require_onnx(f"splitting {path.name} into one graph per input")
    model = _load(onnx, path)
    graph = model.graph
    kept, needed = _reachable(graph, outputs)
    initial = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    takes = [i for i in graph.input if i.name in needed and i.name not in initial]
    others = sorted(i.name for i in takes if i.name not in inputs)
    if others:
        raise InputError(f"{path.name}: {', '.join(outputs)} needs {', '.join(others)} as well and cannot be split off")
    _replace(graph.input, takes)
    _replace(graph.node, kept)
    _replace(graph.initializer, [t for t in graph.initializer if t.name in needed])
    _replace(graph.sparse_initializer, [t for t in graph.sparse_initializer if t.values.name in needed])
    _replace(graph.output, [o for o in graph.output if o.name in outputs])
    made = {name for node in kept for name in node.output}
    _replace(graph.value_info, [v for v in graph.value_info if v.name in made])
    called = _called(model.functions, kept)
    _replace(model.functions, [f for f in model.functions if (f.domain, f.name) in called])
    return _written(onnx, model, path, data_name)


def gather_weights(path: Path, data_name: str) -> Packed:
    """The same graph with all its outside weights in one file named `data_name`."""
    onnx = require_onnx(f"rewriting the weights of {path.name}")
    return _written(onnx, _load(onnx, path), path, data_name)


def _load(onnx: Any, path: Path) -> Any:
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors have no common public base
        raise GraphRefused(f"{path.name}: not a readable ONNX file ({error})") from None


def _replace(field: Any, items: Iterable[Any]) -> None:
    kept = list(items)
    del field[:]
    field.extend(kept)


def _reachable(graph: Any, outputs: Sequence[str]) -> tuple[list[Any], set[str]]:
    """The nodes that the outputs depend on, in their order, and every name that these read."""
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    missing = [name for name in outputs if name not in maker]
    if missing:
        raise InputError(f"no node makes the output '{missing[0]}'")
    waiting, chosen, needed = list(outputs), set[int](), set[str](outputs)
    while waiting:
        index = maker.get(waiting.pop())
        if index is None or index in chosen:
            continue
        chosen.add(index)
        read = set(_reads(graph.node[index]))
        needed |= read
        waiting += read
    return [node for index, node in enumerate(graph.node) if index in chosen], needed


def _reads(node: Any) -> Iterator[str]:
    """Names that a node reads, those that its subgraphs take from outside included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for child in inner.node:
                yield from _reads(child)
            yield from (o.name for o in inner.output)


def _called(functions: Any, nodes: Iterable[Any]) -> set[tuple[str, str]]:
    known = {(f.domain, f.name): f for f in functions}
    found: set[tuple[str, str]] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        key = (node.domain, node.op_type)
        if key in known and key not in found:
            found.add(key)
            waiting += known[key].node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                waiting += inner.node
    return found


def _tensors(graph: Any) -> Iterator[Any]:
    """Every constant of a graph and its subgraphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _tensors(inner)


def _written(onnx: Any, model: Any, path: Path, data_name: str) -> Packed:
    """The model's bytes; weights that were outside, or are too many for one file, go into one data file.

    Small ones come inside: shape inference reads axes and shapes, and only there.
    """
    outside, data = [], bytearray()
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            blob = _blob(onnx, tensor, path)
            if len(blob) >= _MINIMUM_OUTSIDE_BYTES:
                outside.append(tensor)
                continue
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.DEFAULT
            tensor.raw_data = blob
    if not outside and model.ByteSize() > INSIDE_LIMIT_BYTES:
        outside = [t for t in model.graph.initializer if len(t.raw_data) >= _MINIMUM_OUTSIDE_BYTES]
    for tensor in outside:
        blob = _blob(onnx, tensor, path)
        data += b"\0" * (-len(data) % _ALIGNMENT)
        entries = {"location": data_name, "offset": str(len(data)), "length": str(len(blob))}
        del tensor.external_data[:]
        for key, value in entries.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        data += blob
    return Packed(bytes(model.SerializeToString(deterministic=True)), bytes(data) if outside else None)


def _blob(onnx: Any, tensor: Any, path: Path) -> bytes:
    """The bytes of a tensor, from where they are. `external_files` has judged the place."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return bytes(tensor.raw_data)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = path.parent / entries.get("location", "")
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries["length"]) if "length" in entries else place.stat().st_size - offset
        with place.open("rb") as file:
            file.seek(offset)
            blob = file.read(length)
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name}: weights of '{tensor.name[:80]}' cannot be read ({error})") from None
    if len(blob) != length:
        raise InputError(f"{place.name}: shorter than '{tensor.name[:80]}' of {path.name} says")
    return bytes(blob)
