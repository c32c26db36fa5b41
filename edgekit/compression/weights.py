"""Reading constants where they lie: numpy views of the mapped file, in blocks, never a whole model in memory."""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from edgekit.arrays import Array
from edgekit.compression.network import element_count
from edgekit.errors import GraphRefused
from edgekit.formats import SparseTensor, StoredTensor, mapped

BLOCK_ELEMENTS = 1 << 20
ROW_LIMIT_ELEMENTS = 32 << 20
"""Of one entry of the first axis; a weight with longer ones is named as not read."""

VARINT_LIMIT_BYTES = 32 << 20
"""Protobuf varints have to be decoded whole; larger ones are named as not read."""

_DTYPES: dict[str, str] = {
    "FP32": "<f4", "FP16": "<f2", "FP64": "<f8", "INT8": "|i1", "UINT8": "|u1", "INT16": "<i2", "UINT16": "<u2",
    "INT32": "<i4", "UINT32": "<u4", "INT64": "<i8", "UINT64": "<u8", "BOOL": "|u1", "BF16": "<u2",
}  # fmt: skip
_PACKED = {"INT4": (4, True), "UINT4": (4, False), "INT2": (2, True), "UINT2": (2, False)}
FLOATS = frozenset(("FP32", "FP16", "FP64", "BF16"))


class Weights:
    """The constants of one model file and of the plain files beside it that hold its weights."""

    def __init__(self, path: str | os.PathLike[str], beside: str | None = None) -> None:
        """beside: where external weights are, when not next to the file under the name that it gives."""
        self._path = os.fspath(path)
        self._beside = beside
        self._maps: dict[str, mmap.mmap | bytes] = {}
        self._open: list[Any] = []

    def blocks(self, tensor: StoredTensor) -> Iterator[Array] | None:
        """The elements in order, some rows (first axis) at a time, with the tensor's rank; None when unreadable.

        int4 and int2 come as int8 or uint8, bfloat16 as float32. Raises GraphRefused.
        """
        if isinstance(tensor, SparseTensor):
            whole = self._dense(tensor)
            return None if whole is None else iter((whole,))
        if tensor.encoding == "varint":
            whole = self._varints(tensor)
            return None if whole is None else iter((whole,))
        known = tensor.datatype in _DTYPES or tensor.datatype in _PACKED
        if tensor.encoding != "raw" or not known or not tensor.size_bytes or tensor.offset < 0:
            return None
        data = self._data(tensor.location)
        if data is None or element_count(tensor.shape[1:]) > ROW_LIMIT_ELEMENTS:
            return None
        if tensor.offset + tensor.size_bytes > len(data):
            raise GraphRefused(
                f"{os.path.basename(self._path)}: weights of {tensor.name[:80]!r}: expected "
                f"{tensor.size_bytes} bytes at {tensor.offset}, the file has {len(data)}"
            )
        return self._rows(data, tensor)

    def read(self, tensor: StoredTensor, limit: int) -> Array | None:
        """All elements when they are at most `limit`, a copy; None when they are more or unreadable."""
        if element_count(tensor.shape) > limit:
            return None
        found = self.blocks(tensor)
        if found is None:
            return None
        parts = [np.array(block) for block in found]
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else None

    def raw(self, tensor: StoredTensor) -> Iterator[bytes]:
        """The stored bytes in pieces of 1 MiB; nothing when they are not readable."""
        data = self._data(tensor.location) if tensor.offset >= 0 else None
        end = min(tensor.offset + tensor.size_bytes, len(data)) if data is not None else 0
        for at in range(max(tensor.offset, 0), end, 1 << 20):
            yield bytes(data[at : min(at + (1 << 20), end)])  # type: ignore[index]  # end is 0 without data

    def _rows(self, data: mmap.mmap | bytes, tensor: StoredTensor) -> Iterator[Array]:
        shape = tensor.shape or (1,)
        per_row = element_count(shape[1:])
        if per_row == 0 or shape[0] == 0:
            return
        step = BLOCK_ELEMENTS // per_row // 4 * 4  # a multiple of 4: groups of 4 rows stay whole
        step = step or (4 if per_row <= 4 * BLOCK_ELEMENTS else 1)
        bits = _PACKED[tensor.datatype][0] if tensor.datatype in _PACKED else 0
        for first in range(0, shape[0], step):
            rows = min(step, shape[0] - first)
            count, begin = rows * per_row, first * per_row
            if bits:
                yield _unpack(data, tensor, begin, count).reshape(rows, *shape[1:])
                continue
            dtype = np.dtype(_DTYPES[tensor.datatype])
            # A copy of the block: a view would keep the map open after close.
            part = np.array(np.frombuffer(data, dtype, count, tensor.offset + begin * dtype.itemsize))
            if tensor.datatype == "BF16":
                part = (part.astype(np.uint32) << 16).view(np.float32)
            yield part.reshape(rows, *shape[1:])

    def _dense(self, tensor: SparseTensor) -> Array | None:
        """The whole tensor with its zeros; None where it is too large. Raises GraphRefused for wrong places."""
        count = element_count(tensor.shape)
        if count > ROW_LIMIT_ELEMENTS:
            return None
        values, indices = (self.read(part, ROW_LIMIT_ELEMENTS) for part in (tensor.values, tensor.indices))
        if values is None or indices is None:
            return None
        places = indices.astype(np.int64)
        file = os.path.basename(self._path)
        try:
            if places.ndim == 2:
                places = np.ravel_multi_index(tuple(places.T), tensor.shape)
            if len(places) != len(values) or (len(places) and (places.min() < 0 or places.max() >= count)):
                raise ValueError("outside")
        except ValueError:
            raise GraphRefused(f"{file}: sparse tensor {tensor.name[:80]!r} has places outside its shape") from None
        found = np.zeros(count, values.dtype)
        found[places] = values
        return found.reshape(tensor.shape or (1,))

    def _varints(self, tensor: StoredTensor) -> Array | None:
        """Elements written as packed varints (int32_data, int64_data); fp16 and bf16 as their bits."""
        data = self._data(tensor.location)
        if data is None or tensor.size_bytes > VARINT_LIMIT_BYTES or tensor.datatype not in _DTYPES:
            return None
        raw = np.frombuffer(bytes(data[tensor.offset : tensor.offset + tensor.size_bytes]), np.uint8)
        last = np.flatnonzero(raw < 128)
        if len(last) != element_count(tensor.shape) or not len(last) or last[-1] != len(raw) - 1:
            return None
        starts = np.concatenate(([0], last[:-1] + 1))
        place = np.arange(len(raw)) - np.repeat(starts, np.diff(np.concatenate((starts, [len(raw)]))))
        if place.max(initial=0) > 9:
            return None
        values = np.add.reduceat((raw & 127).astype(np.uint64) << (7 * place).astype(np.uint64), starts)
        if tensor.datatype in ("FP16", "BF16"):
            bits = values.astype(np.uint16)
            part = bits.view(np.float16) if tensor.datatype == "FP16" else (bits.astype(np.uint32) << 16).view("<f4")
        else:
            part = values.astype(np.int64).astype(_DTYPES[tensor.datatype])
        return np.asarray(part).reshape(tensor.shape or (1,))

    def _data(self, location: str) -> mmap.mmap | bytes | None:
        """The map of the model file, or of the plain file beside it; None where there is no such plain file."""
        if location not in self._maps:
            path = self._path if not location else self._outside(location)
            if path is None:
                return None
            context = mapped(path, os.path.basename(path))
            self._maps[location] = context.__enter__()
            self._open.append(context)
        return self._maps[location]

    def _outside(self, location: str) -> str | None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}", location):
            return None
        path = self._beside or os.path.join(os.path.dirname(self._path), location)
        try:
            # Hub snapshots are folders of links: the target is only read, and only as numbers.
            return path if stat.S_ISREG(os.stat(path).st_mode) else None
        except OSError:
            return None

    def close(self) -> None:
        """Unmap the files; a second call does nothing."""
        while self._open:
            self._open.pop().__exit__(None, None, None)
        self._maps.clear()

    def __enter__(self) -> Weights:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unpack(data: mmap.mmap | bytes, tensor: StoredTensor, begin: int, count: int) -> Array:
    """Sub-byte elements begin..begin+count, low bits first (ONNX TensorProto.raw_data, TFLite INT4)."""
    bits, is_signed = _PACKED[tensor.datatype]
    per_byte = 8 // bits
    first = begin // per_byte
    last = (begin + count + per_byte - 1) // per_byte
    raw = np.array(np.frombuffer(data, np.uint8, last - first, tensor.offset + first))
    columns = [(raw >> (bits * i)) & ((1 << bits) - 1) for i in range(per_byte)]
    values = np.stack(columns, axis=1).reshape(-1)[begin - first * per_byte :][:count]
    if not is_signed:
        return values
    half = 1 << (bits - 1)
    return ((values ^ half).astype(np.int16) - half).astype(np.int8)
