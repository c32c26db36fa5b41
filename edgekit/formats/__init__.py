"""Safe readers of model files: what a graph contains, without a runtime and without reading its weights.

The files may be hostile. Every reader checks each length and offset before it follows it, does a bounded amount of
work, and raises GraphRefused naming the file for whatever is not well formed.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Union

from edgekit.errors import GraphRefused
from edgekit.records import Record

Buffer = Union[bytes, mmap.mmap]
"""The bytes of a file; slices are copies."""

RANK_LIMIT = 32
BITS: dict[str, int] = {
    "BOOL": 8, "INT8": 8, "INT16": 16, "INT32": 32, "INT64": 64, "UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 64,
    "FP16": 16, "FP32": 32, "FP64": 64, "BF16": 16, "INT2": 2, "UINT2": 2, "INT4": 4, "UINT4": 4, "FP4E2M1": 4,
    "FP8E4M3FN": 8, "FP8E4M3FNUZ": 8, "FP8E5M2": 8, "FP8E5M2FNUZ": 8, "FP8E8M0": 8, "FP6E2M3": 6, "FP6E3M2": 6,
    "COMPLEX64": 64, "COMPLEX128": 128,
}  # fmt: skip
"""Bits per element of each datatype a file may hold; BYTES (strings) and what is no tensor have none."""


class StoredQuantization(Record):
    """real = scales[i] * (stored - zero_points[i]) along `axis`; one entry when it is per tensor."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int


class Value(Record):
    """An input or output as the file declares it.

    datatype: as in a manifest, or a further name of BITS, or `SEQUENCE`, `MAP`, `OPTIONAL`, `OTHER`. shape: -1 for a
    free axis, null when not even the rank is known. symbols: the name of each free axis, "" for the rest.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    symbols: tuple[str, ...]
    quantization: StoredQuantization | None


class StoredTensor(Record):
    """A constant and where its bytes are.

    location: "" for the model file itself, else the name the file gives. offset, size_bytes: in that file.
    encoding: `raw` little-endian elements row by row; `varint` protobuf varints; `scattered` in several pieces,
    sparse, or strings (offset is that of the first piece).
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    location: str
    offset: int
    size_bytes: int
    encoding: Literal["raw", "varint", "scattered"]
    quantization: StoredQuantization | None


class SparseTensor(StoredTensor):
    """A constant of which only the numbers that are not zero are stored, with their places.

    indices: of the flattened tensor, or one row of coordinates each.
    """

    values: StoredTensor
    indices: StoredTensor


class OpCount(Record):
    """How often an operator stands in the file, subgraphs included.

    domain: "" for ONNX's own or TFLite's builtins, `custom` for TFLite's custom ones. version: ONNX's imported
    opset of the domain, or the TFLite operator version.
    """

    name: str
    domain: str
    version: int
    count: int


@contextmanager
def mapped(path: str | os.PathLike[str], file: str) -> Iterator[Buffer]:
    """The bytes of a file, mapped and not read; `file` names it in errors. Raises GraphRefused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise GraphRefused(f"{file}: cannot be opened ({error.strerror})") from None
    try:
        data = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise GraphRefused(f"{file}: empty") from None
    except OSError as error:
        raise GraphRefused(f"{file}: cannot be mapped ({error.strerror})") from None
    finally:
        os.close(descriptor)
    with data:
        yield data


def stored_size_bytes(datatype: str, shape: tuple[int, ...]) -> int | None:
    """Bytes of a raw tensor, sub-byte elements packed; None for a datatype without a fixed width."""
    bits = BITS.get(datatype)
    if bits is None:
        return None
    count = 1
    for axis in shape:
        count *= axis
    return (count * bits + 7) // 8
