"""What a picture file says about itself before a decoder sees it: its format, its orientation, its declared size.

Metadata is read here and cut out of JPEG and PNG files, so that the decoder gets pixels only: its metadata parsers
warn on, or stumble over, damage that does not touch the picture.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Literal

from edgekit.records import Record

Format = Literal["JPEG", "PNG", "BMP", "WEBP"]

METADATA_LIMIT_BYTES = 1 << 20
"""A compressed text of a PNG file is read up to here when an orientation is looked for in it."""

_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = rb'tiff:Orientation(?:="|>)([0-9])'
_WHOLE_NUMBERS = {3: "H", 4: "L", 8: "h", 9: "l"}
"""TIFF field types an orientation may have: SHORT, LONG, SSHORT, SLONG."""


class Stripped(Record):
    """A picture file without its metadata, and the orientation (1-8) that the metadata gave."""

    data: bytes
    orientation: int


def sniff(data: bytes) -> Format | None:
    """The format by the first bytes, or None when it is none of the accepted four."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(_PNG_SIGNATURE):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return "BMP" if data.startswith(b"BM") else None


def strip_jpeg(data: bytes) -> Stripped:
    """The JPEG file without its comments and application segments; JFIF and Adobe's, which say the colours, stay."""
    kept = [data[:2]]
    exif = xmp = b""
    at, end = 2, len(data)
    while at + 4 <= end:
        if data[at] != 0xFF or data[at + 1] == 0x00:  # junk between segments, which decoders skip
            at += 1
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without a length
            kept.append(data[at : at + 2])
            at += 2
            continue
        size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0xDA, 0xD9) or size < 4 or at + size > end:
            break
        body = data[at + 4 : at + size]
        if marker == 0xE1 and body.startswith(_EXIF):
            exif += body[len(_EXIF) :]
        elif marker == 0xE1 and body.startswith(_XMP):
            xmp = body[len(_XMP) :]
        elif marker != 0xFE and (marker & 0xF0 != 0xE0 or marker in (0xE0, 0xEE)):
            kept.append(data[at : at + size])
        at += size
    kept.append(data[at:])
    return Stripped(data=b"".join(kept), orientation=orientation(exif, xmp))


def strip_png(data: bytes) -> Stripped:
    """The PNG file's critical chunks and its transparency; an animated one keeps its default image."""
    kept = [data[:8]]
    exif = xmp = b""
    at, end = 8, len(data)
    while at + 8 <= end:
        size = int.from_bytes(data[at : at + 4], "big") + 12
        kind = data[at + 4 : at + 8]
        needed = kind == b"tRNS" or not kind[0] & 0x20  # a lower-case first letter marks an ancillary chunk
        if needed:
            kept.append(data[at : at + size])
        elif at + size > end:
            break
        elif kind == b"eXIf":
            exif = data[at + 8 : at + size - 4]
        elif kind in (b"iTXt", b"tEXt", b"zTXt"):
            found_exif, found_xmp = _png_text(kind, data[at + 8 : at + size - 4])
            exif, xmp = exif or found_exif, xmp or found_xmp
        at += size
        if kind == b"IEND":
            break
    return Stripped(data=b"".join(kept), orientation=orientation(exif, xmp))


def _png_text(kind: bytes, body: bytes) -> tuple[bytes, bytes]:
    """(EXIF, XMP) of a text chunk: ImageMagick's hexadecimal profile, or Adobe's packet; b"" where it is neither."""
    keyword, _, rest = body.partition(b"\0")
    if keyword not in (b"Raw profile type exif", b"XML:com.adobe.xmp"):
        return b"", b""
    packed = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\1")
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":  # compression flag and method, language, translated keyword
        rest = [*rest[2:].split(b"\0", 2), b"", b""][2]
    try:
        text = zlib.decompressobj().decompress(rest, METADATA_LIMIT_BYTES) if packed else rest
        if keyword == b"XML:com.adobe.xmp":
            return b"", text
        return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:])), b""
    except (zlib.error, ValueError):
        return b"", b""


def orientation(exif: bytes, xmp: bytes) -> int:
    """The picture's orientation, 1 to 8, by EXIF tag 0x0112, else by XMP's tiff:Orientation; 1 if neither says so."""
    found = _tiff_orientation(exif)
    if found is None:
        match = re.search(_ORIENTATION, xmp)
        found = int(match[1]) if match else 1
    return found if 1 <= found <= 8 else 1


def _tiff_orientation(exif: bytes) -> int | None:
    while exif.startswith(_EXIF):
        exif = exif[len(_EXIF) :]
    if exif[:4] not in (b"II*\0", b"MM\0*") or len(exif) < 10:
        return None
    order = "<" if exif[:1] == b"I" else ">"
    (directory,) = struct.unpack_from(f"{order}L", exif, 4)
    if directory + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(f"{order}H", exif, directory)
    found = None
    for entry in range(directory + 2, min(directory + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, values = struct.unpack_from(f"{order}HHL", exif, entry)
        if tag == 0x0112 and kind in _WHOLE_NUMBERS and values == 1:
            (found,) = struct.unpack_from(order + _WHOLE_NUMBERS[kind], exif, entry + 8)
    return found


def webp_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) that a WebP file declares, or None when its first chunk is not a picture's.

    RFC 9649: 24-bit sizes minus one in VP8X, 14-bit ones in a key frame of VP8, 14-bit ones minus one in VP8L.
    """
    kind, head = data[12:16], data[20:30]
    if len(head) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 6)
        return width & 0x3FFF, height & 0x3FFF
    return None
