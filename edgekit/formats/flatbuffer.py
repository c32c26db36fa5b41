"""FlatBuffers: bounds-checked access to tables, vectors and strings, no schema and no copies.

Source: flatbuffers.dev/internals. Offsets may point anywhere and many may point at one object, so the work is
counted as well as the bounds checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from edgekit.errors import GraphRefused
from edgekit.formats import Buffer

WORK_LIMIT = 500_000
TEXT_LIMIT_BYTES = 1 << 20
_SIGNED = struct.Struct("<i").unpack_from
_SIZES = struct.Struct("<HH").unpack_from


class FlatBuffer:
    """The bytes of a file and how much may still be visited in it."""

    def __init__(self, data: Buffer, file: str, kind: str) -> None:
        self.data = data
        self.size = len(data)
        self.file = file
        self.kind = kind
        self.left = WORK_LIMIT

    def refuse(self, problem: str) -> GraphRefused:
        """The error for a malformed file, to be raised."""
        return GraphRefused(f"{self.file}: not a well-formed {self.kind} file ({problem})")

    def spend(self, work: int) -> None:
        """Count work against the limit."""
        self.left -= work
        if self.left < 0:
            raise self.refuse("it holds more than a model can")

    def number(self, position: int, form: str) -> Any:
        """One little-endian scalar; `form` is struct's letter."""
        try:
            return struct.unpack_from("<" + form, self.data, position)[0]
        except struct.error:
            raise self.refuse(f"byte {position} is outside") from None

    def root(self) -> Table:
        """The table that the file begins with."""
        return Table(self, self.number(0, "I"))


class Table:
    """A table; fields go by their number in the schema, an absent field is its default or None."""

    __slots__ = ("_buffer", "_fields", "_position")

    def __init__(self, buffer: FlatBuffer, position: int) -> None:
        buffer.spend(1)
        try:
            at = position - _SIGNED(buffer.data, position)[0]
            if at < 0:  # struct would count from the end
                raise buffer.refuse(f"a table at byte {position} begins outside")
            size, width = _SIZES(buffer.data, at)
        except struct.error:
            raise buffer.refuse(f"a table at byte {position} is outside") from None
        if size < 4 or size & 1 or at + size > buffer.size or width < 4 or position + width > buffer.size:
            raise buffer.refuse(f"a table at byte {position} has an impossible size")
        self._buffer = buffer
        self._position = position
        self._fields = struct.unpack_from(f"<{(size - 4) // 2}H", buffer.data, at + 4)

    def _at(self, field: int) -> int:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._position + offset if offset else 0

    def has(self, field: int) -> bool:
        """Whether the field is written."""
        return self._at(field) != 0

    def number(self, field: int, form: str, default: int) -> int:
        """A whole number."""
        at = self._at(field)
        return int(self._buffer.number(at, form)) if at else default

    def real(self, field: int, default: float) -> float:
        """A float32."""
        at = self._at(field)
        return float(self._buffer.number(at, "f")) if at else default

    def _target(self, field: int) -> int:
        at = self._at(field)
        return at + int(self._buffer.number(at, "I")) if at else 0

    def table(self, field: int) -> Table | None:
        """A table inside this one."""
        at = self._target(field)
        return Table(self._buffer, at) if at else None

    def extent(self, field: int, item_bytes: int) -> tuple[int, int] | None:
        """Where a vector's items begin, and how many there are; all of them are inside the file."""
        at = self._target(field)
        if not at:
            return None
        count = int(self._buffer.number(at, "I"))
        if at + 4 + count * item_bytes > self._buffer.size:
            raise self._buffer.refuse(f"a list of {count} items at byte {at} goes beyond the file")
        return at + 4, count

    def numbers(self, field: int, form: str, limit: int) -> tuple[Any, ...]:
        """A vector of scalars, () when absent; more than `limit` are refused."""
        found = self.extent(field, struct.calcsize("<" + form))
        if found is None:
            return ()
        start, count = found
        if count > limit:
            raise self._buffer.refuse(f"a list of {count} numbers, expected at most {limit}")
        self._buffer.spend(count // 64)
        return struct.unpack_from(f"<{count}{form}", self._buffer.data, start)

    def text(self, field: int) -> str:
        """A string, "" when absent."""
        found = self.extent(field, 1)
        return _text(self._buffer, *found) if found else ""

    def texts(self, field: int) -> list[str]:
        """A vector of strings."""
        result = []
        for at in self._targets(field):
            count = int(self._buffer.number(at, "I"))
            if at + 4 + count > self._buffer.size:
                raise self._buffer.refuse(f"a name at byte {at} goes beyond the file")
            result.append(_text(self._buffer, at + 4, count))
        return result

    def tables(self, field: int) -> Iterator[Table]:
        """A vector of tables."""
        for at in self._targets(field):
            yield Table(self._buffer, at)

    def _targets(self, field: int) -> Iterator[int]:
        found = self.extent(field, 4)
        if found is None:
            return
        start, count = found
        data = self._buffer.data
        for at in range(start, start + 4 * count, 4):
            self._buffer.spend(1)
            yield at + int.from_bytes(data[at : at + 4], "little")


def _text(buffer: FlatBuffer, start: int, size_bytes: int) -> str:
    if size_bytes > TEXT_LIMIT_BYTES:
        raise buffer.refuse(f"a name of {size_bytes} bytes")
    buffer.spend(1 + size_bytes // 64)
    try:
        return buffer.data[start : start + size_bytes].decode()
    except UnicodeDecodeError:
        raise buffer.refuse(f"a name at byte {start} is not UTF-8") from None
