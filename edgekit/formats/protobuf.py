"""The protobuf wire format: a bounded walk over the fields of a message, no schema and no copies.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.errors import GraphRefused
from edgekit.formats import Buffer

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FIELD_LIMIT = 2_000_000

Field = tuple[int, int, int, int]
"""(number, wire type, a, b): a varint's value is a; the payload of the others is data[a:b]."""


class Wire:
    """The bytes of a file and how many fields may still be visited in it."""

    def __init__(self, data: Buffer, file: str) -> None:
        self.data = data
        self.file = file
        self.left = FIELD_LIMIT

    def refuse(self, problem: str) -> GraphRefused:
        """The error for a malformed file, to be raised."""
        return GraphRefused(f"{self.file}: not a well-formed ONNX file ({problem})")

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Each field of the message data[start:end], in order."""
        data, position = self.data, start
        try:
            while position < end:
                self.left -= 1
                if self.left < 0:
                    raise self.refuse(f"more than {FIELD_LIMIT} fields")
                key = data[position]
                position += 1
                if key > 127:
                    key, position = self._varint(position - 1)
                wire, number = key & 7, key >> 3
                if number == 0:
                    raise self.refuse(f"field number 0 at byte {position}")
                if wire == BYTES:
                    length = data[position]
                    position += 1
                    if length > 127:
                        length, position = self._varint(position - 1)
                    stop = position + length
                    if stop > end:
                        raise self.refuse(f"a field of {length} bytes at byte {position} goes beyond its message")
                    yield number, wire, position, stop
                    position = stop
                elif wire == VARINT:
                    value, position = self._varint(position)
                    if position > end:
                        raise self.refuse(f"a number at byte {position} goes beyond its message")
                    yield number, wire, value, 0
                elif wire in (FIXED32, FIXED64):
                    stop = position + (4 if wire == FIXED32 else 8)
                    if stop > end:
                        raise self.refuse(f"a number at byte {position} goes beyond its message")
                    yield number, wire, position, stop
                    position = stop
                else:
                    raise self.refuse(f"wire type {wire} at byte {position}")
        except IndexError:
            raise self.refuse("truncated") from None

    def _varint(self, position: int) -> tuple[int, int]:
        data, value = self.data, 0
        for shift in range(0, 70, 7):
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position
        raise self.refuse(f"a number of more than 10 bytes at byte {position}")

    def varints(self, start: int, end: int) -> list[int]:
        """The numbers of a packed field, each counted against the limit."""
        values = []
        try:
            while start < end:
                self.left -= 1
                if self.left < 0:
                    raise self.refuse(f"more than {FIELD_LIMIT} fields")
                value, start = self._varint(start)
                values.append(value)
        except IndexError:
            raise self.refuse("truncated") from None
        if start != end:
            raise self.refuse(f"a number at byte {start} goes beyond its field")
        return values

    def text(self, start: int, end: int) -> str:
        """A string field."""
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError:
            raise self.refuse(f"a name at byte {start} is not UTF-8") from None


def signed(value: int) -> int:
    """An int64 field's value from its varint."""
    return value - (1 << 64) if value >= 1 << 63 else value
