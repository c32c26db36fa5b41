"""PCM in a RIFF/WAVE file, by the standard library: what its header says, then its samples."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import InputError

PCM, FLOAT, EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""The end of every sub-format of WAVE_FORMAT_EXTENSIBLE that stands for a plain format tag."""


class WavHeader(NamedTuple):
    """What the chunks before the samples say; `start` and `size_bytes` locate the samples in the file."""

    format_tag: int
    channels: int
    rate_hz: int
    frame_bytes: int
    bits: int
    start: int
    size_bytes: int

    @property
    def frames(self) -> int:
        """Samples per channel."""
        return self.size_bytes // self.frame_bytes if self.frame_bytes else 0

    @property
    def plain(self) -> bool:
        """Whether `read_samples` can decode it (else it is a codec in a WAV file)."""
        whole = self.format_tag == PCM and self.bits in (8, 16, 24, 32)
        return whole or (self.format_tag == FLOAT and self.bits in (32, 64))


def parse_header(data: memoryview, name: str) -> WavHeader:
    """The header of a whole WAV file in memory. Raises InputError where it contradicts itself or the file."""
    form: tuple[int, int, int, int, int] | None = None
    position = 12
    while position + 8 <= len(data):
        kind = bytes(data[position : position + 4])
        (size,) = struct.unpack_from("<I", data, position + 4)
        start = position + 8
        if kind == b"data":
            if form is None:
                raise InputError(f"{name}: not a WAV file: its samples come before its format")
            return _checked(WavHeader(*form, start, size), len(data) - start, name)
        if kind == b"fmt ":
            if form is not None:
                raise InputError(f"{name}: not a WAV file: it states its format twice")
            form = _format(data[start : start + size], name)
        position = start + size + (size & 1)
    missing = "samples" if form else "format"
    raise InputError(f"{name}: not a whole WAV file: it ends before its {missing}")


def _format(chunk: memoryview, name: str) -> tuple[int, int, int, int, int]:
    if len(chunk) < 16:
        raise InputError(f"{name}: not a WAV file: expected a format of 16 bytes, got {len(chunk)}")
    tag, channels, rate_hz, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == EXTENSIBLE and len(chunk) >= 40 and bytes(chunk[26:40]) == _GUID_TAIL:
        (tag,) = struct.unpack_from("<H", chunk, 24)
    return tag, channels, rate_hz, frame_bytes, bits


def _checked(header: WavHeader, available: int, name: str) -> WavHeader:
    if header.size_bytes > available:
        raise InputError(
            f"{name}: the WAV header says {header.size_bytes} bytes of samples, the file has {available}",
            hint="the recording was cut off or streamed: write the file again with its real length",
        )
    if header.format_tag in (PCM, FLOAT) and not 1 <= header.bits <= 64:
        raise InputError(f"{name}: the WAV header says {header.bits} bits a sample, expected 8, 16, 24, 32 or 64")
    if header.plain and header.frame_bytes != header.channels * header.bits // 8:
        raise InputError(
            f"{name}: the WAV header contradicts itself: {header.channels} channels of {header.bits} bits "
            f"are {header.channels * header.bits // 8} bytes, it says {header.frame_bytes}"
        )
    return header


def read_samples(data: memoryview, header: WavHeader) -> Array:
    """Samples (n, channels): int16 for 16 bits, else float32 in [-1, 1); a trailing part of a frame is dropped."""
    count = header.frames * header.channels
    shape = (header.frames, header.channels)
    if header.format_tag == FLOAT:
        read = np.frombuffer(data, f"<f{header.bits // 8}", count, header.start)
        with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
            return np.asarray(read, np.float32).reshape(shape)
    if header.bits == 16:
        return np.asarray(np.frombuffer(data, "<i2", count, header.start), np.int16).reshape(shape)
    if header.bits == 8:
        samples = np.frombuffer(data, np.uint8, count, header.start).astype(np.float32)
        return ((samples - np.float32(128.0)) * np.float32(2.0**-7)).reshape(shape)
    if header.bits == 32:
        whole = np.frombuffer(data, "<i4", count, header.start)
    else:
        packed = np.frombuffer(data, np.uint8, 3 * count, header.start).reshape(count, 3)
        widened = np.zeros((count, 4), np.uint8)
        widened[:, 1:] = packed
        whole = widened.view("<i4")[:, 0]
    return (whole.astype(np.float32) * np.float32(2.0**-31)).reshape(shape)
