"""Writing FlatBuffers: tables, vectors and strings front to back, so that everything points forward.

Source: flatbuffers.dev/internals. A table is a dictionary of field number -> node.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

HEADER_BYTES = 8
BYTES_ALIGNMENT = 16
"""Of byte vectors: what TFLite's schemas force."""


class Number(NamedTuple):
    """A scalar field; `form` is struct's letter."""

    form: str
    value: float


class Numbers(NamedTuple):
    """A vector of scalars."""

    form: str
    items: Sequence[float]


class Place(NamedTuple):
    """Something that is there already, at this byte of what follows the written part."""

    position: int


Node = Union[Number, Numbers, Place, str, bytes, dict[int, Any], list[Any]]


def write_flatbuffer(root: dict[int, Node], identifier: bytes, *, alignment: int = 4) -> bytes:
    """The bytes of a buffer with this root, its size a multiple of `alignment`; Places count from its end."""
    out = bytearray(HEADER_BYTES)
    out[4:8] = identifier
    places: list[tuple[int, int]] = []
    struct.pack_into("<I", out, 0, _table(out, root, places))
    _align(out, alignment, 0)
    for slot, position in places:
        struct.pack_into("<I", out, slot, len(out) + position - slot)
    return bytes(out)


def _align(out: bytearray, alignment: int, ahead: int) -> None:
    """Zeros until what follows after `ahead` more bytes is aligned."""
    out += bytes(-(len(out) + ahead) % alignment)


def _node(out: bytearray, node: Node, places: list[tuple[int, int]]) -> int:
    """Write anything but a scalar or a Place; where it begins."""
    if isinstance(node, str):
        data = node.encode()
        _align(out, 4, 0)
        at = len(out)
        out += struct.pack("<I", len(data)) + data + b"\0"
        return at
    if isinstance(node, bytes):
        _align(out, BYTES_ALIGNMENT, 4)
        at = len(out)
        out += struct.pack("<I", len(node)) + node
        return at
    if isinstance(node, Numbers):
        _align(out, max(4, struct.calcsize("<" + node.form)), 4)
        at = len(out)
        out += struct.pack(f"<I{len(node.items)}{node.form}", len(node.items), *node.items)
        return at
    if isinstance(node, dict):
        return _table(out, node, places)
    if not isinstance(node, list):
        raise TypeError(f"a {type(node).__name__} stands in its table, not behind an offset")
    _align(out, 4, 0)
    at = len(out)
    out += struct.pack("<I", len(node)) + bytes(4 * len(node))
    for index, item in enumerate(node):
        _link(out, at + 4 + 4 * index, item, places)
    return at


def _link(out: bytearray, slot: int, node: Node, places: list[tuple[int, int]]) -> None:
    if isinstance(node, Place):
        places.append((slot, node.position))
    else:
        at = _node(out, node, places)
        struct.pack_into("<I", out, slot, at - slot)


def _table(out: bytearray, fields: dict[int, Node], places: list[tuple[int, int]]) -> int:
    sizes = {n: struct.calcsize("<" + v.form) if isinstance(v, Number) else 4 for n, v in fields.items()}
    largest = max(4, *sizes.values()) if sizes else 4
    table_of_fields = [0] * (max(fields, default=-1) + 1)
    width = 4
    for number in sorted(fields, key=lambda n: -sizes[n]):  # large ones first: no holes between them
        width += -width % sizes[number]
        table_of_fields[number] = width
        width += sizes[number]
    head = struct.pack(f"<HH{len(table_of_fields)}H", 4 + 2 * len(table_of_fields), width, *table_of_fields)
    _align(out, largest, len(head))
    out += head
    at = len(out)
    out += struct.pack("<i", len(head)) + bytes(width - 4)
    for number, node in fields.items():
        slot = at + table_of_fields[number]
        if isinstance(node, Number):
            value = int(node.value) if node.form not in "fd" else node.value
            struct.pack_into("<" + node.form, out, slot, value)
        else:
            _link(out, slot, node, places)
    return at
