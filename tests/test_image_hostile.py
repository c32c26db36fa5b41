"""Promises L2, L3 (image): 5,000 mutated JPEG, PNG, WebP and BMP files end in a tensor or an InputError, nothing else.

No foreign exception, no warning, no crash; good calls between them give the same bits.
"""

from __future__ import annotations

import io
import random
import time
import warnings

import numpy as np
from golden.make_image_golden import picture
from image_specs import LIMITS, clip_spec
from PIL import Image

from edgekit.errors import InputError
from edgekit.preprocess.image import transform
from edgekit.preprocess.picture import decode

MUTATIONS = 5000


def seeds() -> list[bytes]:
    """Small files of every format and of the parts that parsers stumble over."""
    rgb = Image.fromarray(picture(9, 40, 56))
    rgba = rgb.copy()
    rgba.putalpha(rgb.convert("L"))
    tags = Image.Exif()
    tags[0x0112], tags[0x011A], tags[0x0128] = 6, 72.0, 2
    other = rgb.rotate(180)
    ways: list[tuple[Image.Image, str, dict[str, object]]] = [
        (rgb, "JPEG", {"exif": tags, "comment": b"hello", "icc_profile": b"p" * 200}),
        (rgb, "JPEG", {"progressive": True, "quality": 60}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb, "MPO", {"save_all": True, "append_images": [other], "exif": tags}),
        (rgb, "PNG", {"exif": tags}),
        (rgba, "PNG", {"save_all": True, "append_images": [other.convert("RGBA")]}),
        (rgb.quantize(16), "PNG", {"transparency": bytes(range(16))}),
        (rgb, "WEBP", {"exif": tags}),
        (rgba, "WEBP", {"lossless": True, "save_all": True, "append_images": [other.convert("RGBA")]}),
        (rgb, "BMP", {}),
        (rgb.quantize(16), "BMP", {}),
    ]
    files = []
    for image, form, options in ways:
        file = io.BytesIO()
        image.save(file, form, **options)
        files.append(file.getvalue())
    return files


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Flips, cuts, repeats, splices and extreme numbers, mostly near the head, where parsers decide."""
    body = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at = draw.randrange(len(body)) if draw.random() < 0.4 else draw.randrange(min(len(body), 200))
        kind = draw.randrange(6)
        if kind == 0:
            body[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            body[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
        elif kind == 2:
            body[at : at + 4] = draw.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff"))
        elif kind == 3:
            del body[at : at + draw.randrange(1, 64)]
        elif kind == 4:
            body[at:at] = body[at : at + draw.randrange(1, 64)]
        else:
            body = body[: max(at, 4)]
        if len(body) < 4:
            break
    return bytes(body)


def test_mutated_files() -> None:
    draw = random.Random(20240612)
    files = seeds()
    specs = [
        clip_spec(16),
        clip_spec(16, "matrix", decode="scaled"),
        clip_spec(16, colour="grey", mean=(0.5,), std=(0.5,)),
    ]
    good = [transform(specs[0], decode(specs[0], data, LIMITS))[0]["pixels"] for data in files]
    refused, slowest = 0, 0.0
    messages: set[str] = set()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for index in range(MUTATIONS):
            spec = specs[index % 3]
            data = mutated(files[index % len(files)], draw)
            started = time.perf_counter()
            try:
                tensors, _ = transform(spec, decode(spec, data, LIMITS))
                assert np.isfinite(tensors["pixels"]).all()
            except InputError as error:
                refused += 1
                messages.add(error.message.split(":")[0])
            slowest = max(slowest, time.perf_counter() - started)
            if index % 50 == 0:
                again = index // 50 % len(files)
                found = transform(specs[0], decode(specs[0], files[again], LIMITS))[0]["pixels"]
                assert np.array_equal(found, good[again])
    assert [str(w.message) for w in heard] == []
    assert MUTATIONS * 0.2 < refused < MUTATIONS * 0.98
    assert all("image" in m or "picture" in m for m in messages)
    print(f"{refused} of {MUTATIONS} refused, slowest {slowest * 1000:.0f} ms")


def test_random_bytes_and_texts() -> None:
    draw = random.Random(20240613)
    spec = clip_spec(16)
    marks = (
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0WEBP",
        b"BM",
        b"GIF89a",
        b"%PDF-1.7\n",
        b"",
        b"\xef\xbb\xbf",
    )
    for index in range(500):
        data = marks[index % len(marks)] + draw.randbytes(draw.randrange(300))
        try:
            decode(spec, data, LIMITS)
        except InputError:
            continue
        raise AssertionError(f"decoded {data!r}")
