"""Weights that a tensor keeps outside its ONNX file: only the graph's own data file of the bundle may hold them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable

from edgekit.errors import BundleError
from edgekit.records import Record

EXTERNAL_KEYS = frozenset(("location", "offset", "length", "checksum"))


class ExternalData(Record):
    """Where a tensor says its bytes are, as the file writes it; nothing is checked yet."""

    tensor: str
    entries: tuple[tuple[str, str], ...]
    expected_bytes: int | None


def whole_number(text: str) -> int:
    """The number, or -1 when this is not a plain decimal one of at most 18 digits."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1


def check_external_data(
    external: tuple[ExternalData, ...], file: str, data: str | None, size_bytes: Callable[[str], int]
) -> None:
    """Refuse weights that are anywhere but inside the graph's own data file.

    data: the one file name that a tensor may give, beside the graph; size_bytes(name): its size. A location must
    be that name, letter by letter; offset and length must lie inside. Raises BundleError.
    """
    size: int | None = None
    for item in external:
        where = f"{file}: weights of tensor {item.tensor[:80]!r}"
        keys = [key for key, _ in item.entries]
        for key in keys:
            if key not in EXTERNAL_KEYS or keys.count(key) > 1:
                raise BundleError(f"{where}: unknown or doubled key {key[:80]!r} in external_data")
        entries = dict(item.entries)
        location = entries.get("location", "")
        if data is None or location != data or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}", location):
            raise BundleError(
                f"{where}: expected them in {data or 'the graph file'}, got {location[:80]!r}",
                hint="package the model again; packaging puts all outside weights into one file beside the graph",
            )
        if size is None:
            size = size_bytes(data)
        offset = whole_number(entries.get("offset", "0"))
        length = whole_number(entries["length"]) if "length" in entries else item.expected_bytes
        if offset < 0 or length is None or length < 0 or offset + length > size:
            raise BundleError(
                f"{where}: expected a part of the {size} bytes of {data}, got offset "
                f"{entries.get('offset', '0')[:40]!r} and length {entries.get('length', 'none')[:40]!r}"
            )
        if item.expected_bytes is not None and length != item.expected_bytes:
            raise BundleError(f"{where}: expected {item.expected_bytes} bytes, got {length}")


def plain_file_size(path: str | os.PathLike[str]) -> int:
    """Size of a plain file; a link or anything else is refused. Raises BundleError."""
    try:
        status = os.lstat(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path}: expected a plain file, got a link or something else")
    return status.st_size
