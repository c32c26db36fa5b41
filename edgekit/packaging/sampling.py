"""A golden sample where a source brings none: a drawn picture, a drawn sound, a sentence; its truth is `self`."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgekit.arrays import Uint8
from edgekit.errors import InputError
from edgekit.manifest import InputSpec
from edgekit.packaging.draft import Content, Draft, Sample
from edgekit.records import Json
from edgekit.specs.tensor import NUMPY_NAMES

TEXTS = ("a photo of a cat", "a photo of a dog", "a red car on the road")
SEED = 7
DRAWN = "generated"


def generated_sample(inputs: Mapping[str, InputSpec], files: dict[str, Content]) -> Sample:
    """A sample for these inputs; its files are added to the draft's."""
    given: dict[str, Json] = {}
    for keyword, spec in inputs.items():
        if spec.kind == "image":
            files[f"golden/{keyword}.png"] = drawn_picture()
            given[keyword] = {"file": f"golden/{keyword}.png"}
        elif spec.kind == "audio":
            bounds = spec.windows or spec.length
            fixed = bounds is not None and not (spec.length is not None and spec.length.trim == "keep")
            seconds = bounds.samples / spec.rate_hz if bounds is not None and fixed else 2.0
            files[f"golden/{keyword}.wav"] = drawn_sound(spec.rate_hz, min(seconds, 10.0))
            given[keyword] = {"file": f"golden/{keyword}.wav"}
        elif spec.kind == "text":
            alone = len(inputs) == 1
            given[keyword] = {"text": TEXTS[0]} if alone else {"texts": list(TEXTS)}
        else:
            files[f"golden/{keyword}.npy"] = drawn_tensor(spec.datatype, spec.shape)
            given[keyword] = {"file": f"golden/{keyword}.npy"}
    return Sample(DRAWN, "self", "drawn at packaging; proves only that devices agree", (given,), {}, {})


_ENDINGS = {
    "image": (".jpg", ".jpeg", ".png", ".bmp", ".webp"),
    "audio": (".wav", ".flac", ".ogg", ".mp3"),
    "tensor": (".npy",),
    "text": (".txt",),
}


def given_sample(draft: Draft, path: Path) -> Draft:
    """The draft with a person's own file as golden sample, in the place of the drawn one where there is one.

    Its truth is `self`, as that of a drawn one. Raises InputError where it is not clear which input it is for.
    """
    kind = next((kind for kind, endings in _ENDINGS.items() if path.suffix.lower() in endings), None)
    listed = ", ".join(ending for endings in _ENDINGS.values() for ending in endings)
    if kind is None or not path.is_file():
        raise InputError(f"sample {str(path)!r}: expected a file that ends in {listed}", hint="--sample photo.jpg")
    fitting = [keyword for keyword, spec in draft.inputs.items() if spec.kind == kind]
    if len(fitting) != 1:
        takes = ", ".join(f"{keyword} ({spec.kind})" for keyword, spec in draft.inputs.items())
        raise InputError(f"sample {path.name}: expected one {kind} input, '{draft.name}' takes {takes}")
    kept = [sample for sample in draft.samples if sample.name != DRAWN]
    base = next((sample.inputs[0] for sample in draft.samples if sample.name == DRAWN), {})
    files = dict(draft.files)
    for replaced in (base.get(fitting[0]) or {}).values():
        files.pop(str(replaced), None)
    inputs = {**base, fitting[0]: _entry(fitting[0], kind, path, files)}
    origin = f"{path.name}, given at packaging; proves only that devices agree"
    return draft._replace(files=files, samples=(*kept, Sample("given", "self", origin, (inputs,), {}, {})))


def _entry(keyword: str, kind: str, path: Path, files: dict[str, Content]) -> dict[str, Json]:
    if kind == "text":
        try:
            return {"text": path.read_text("utf-8").rstrip("\n")}
        except UnicodeDecodeError:
            raise InputError(f"sample {path.name}: expected UTF-8 text") from None
    name = f"golden/given.{keyword}{path.suffix.lower()}"
    files[name] = path
    return {"file": name}


def drawn_pixels(width: int, height: int) -> Uint8:
    """(H, W, 3) with gradients, an edge and a little seeded noise."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.RandomState(SEED).randint(0, 24, (height, width, 3))
    red, green = x * 231 // width, y * 231 // height
    blue = np.where((x - width // 2) ** 2 + (y - height // 2) ** 2 < (height // 3) ** 2, 200, 30)
    return (np.stack([red, green, blue], axis=2) + noise).astype(np.uint8)


def drawn_picture(width: int = 320, height: int = 240) -> bytes:
    """`drawn_pixels` as a PNG: the same bytes everywhere."""
    pixels = drawn_pixels(width, height)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", _stored(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _stored(data: bytes) -> bytes:
    """A zlib stream of stored blocks: compressors differ between builds, copies do not."""
    blocks = [data[i : i + 65535] for i in range(0, len(data), 65535)]
    body = b"".join(
        struct.pack("<BHH", i == len(blocks) - 1, len(b), len(b) ^ 0xFFFF) + b for i, b in enumerate(blocks)
    )
    return b"\x78\x01" + body + struct.pack(">I", zlib.adler32(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def drawn_sound(rate_hz: int, seconds: float) -> bytes:
    """A WAV, 16 bit mono: a gliding tone with syllable-like bursts over faint seeded noise."""
    t = np.arange(max(int(rate_hz * seconds), 1)) / rate_hz
    glide = np.sin(2 * np.pi * (180 * t + 60 * t * t)) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * t))
    noise = np.random.RandomState(SEED).standard_normal(len(t)) * 0.01
    samples = np.round((0.4 * glide + noise) * 32767).clip(-32768, 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def drawn_tensor(datatype: str, shape: tuple[int, ...]) -> bytes:
    """An .npy array of seeded numbers; a free axis has size 1."""
    sizes = tuple(max(n, 1) for n in shape)
    dtype = np.dtype(NUMPY_NAMES[datatype])
    random = np.random.RandomState(SEED)
    array = random.standard_normal(sizes) if dtype.kind == "f" else random.randint(0, 2, sizes)
    buffer = io.BytesIO()
    np.save(buffer, array.astype(dtype), allow_pickle=False)
    return buffer.getvalue()
