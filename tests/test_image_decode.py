"""Promise L3 (image): every accepted form of a picture decodes as Pillow's own open, exif_transpose and convert do.

Truth: Pillow's public functions, which transformers' load_image is made of, and literal pixels.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.make_image_golden import picture
from image_specs import LIMITS, crop, levels_spec, resize
from PIL import Image, ImageOps

from edgekit.errors import InputError
from edgekit.preprocess.frame import Frame
from edgekit.preprocess.image import transform
from edgekit.preprocess.picture import decode

RGB = picture(1, 21, 34)
PIXELS = levels_spec()


def pixels_of(value: Any, **changes: Any) -> np.ndarray:
    spec = PIXELS.replace(**changes)
    tensors, _ = transform(spec, decode(spec, value, LIMITS))
    return tensors["pixels"][0]


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file written chunk by chunk, for what Pillow does not write."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def files() -> dict[str, bytes]:
    rgb = Image.fromarray(RGB)
    grey, alpha = rgb.convert("L"), Image.fromarray(picture(2, 21, 34)[:, :, 0])
    rgba, grey_alpha = rgb.copy(), grey.copy()
    rgba.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    palette = rgb.quantize(17)
    deep = struct.pack(">8H", *(0, 40000, 257, 65535, 300, 20, 12345, 54321))
    return {
        "jpeg": saved(rgb, "JPEG", quality=92),
        "jpeg progressive": saved(rgb, "JPEG", quality=80, progressive=True),
        "jpeg grey": saved(grey, "JPEG"),
        "jpeg cmyk": saved(rgb.convert("CMYK"), "JPEG"),
        "jpeg comment": saved(rgb, "JPEG", comment=b"x" * 500),
        "png": saved(rgb, "PNG"),
        "png grey": saved(grey, "PNG"),
        "png alpha": saved(rgba, "PNG"),
        "png grey alpha": saved(grey_alpha, "PNG"),
        "png palette": saved(palette, "PNG"),
        "png palette, one clear": saved(palette, "PNG", transparency=3),
        "png palette, alphas": saved(palette, "PNG", transparency=bytes(range(0, 170, 10))),
        "png grey, one clear": saved(grey, "PNG", transparency=7),
        "png rgb, one clear": saved(rgb, "PNG", transparency=(1, 2, 3)),
        "png one bit": saved(rgb.convert("1"), "PNG"),
        "png 16 bit rgb": png(2, 1, 16, 2, b"\0" + deep[:12]),
        "png 16 bit grey alpha": png(2, 1, 16, 4, b"\0" + deep[:8]),
        "png animated": saved(rgb, "PNG", save_all=True, append_images=[rgb.rotate(180)]),
        "bmp": saved(rgb, "BMP"),
        "bmp palette": saved(palette, "BMP"),
        "bmp grey": saved(grey, "BMP"),
        "bmp one bit": saved(rgb.convert("1"), "BMP"),
        "webp": saved(rgb, "WEBP", quality=80),
        "webp lossless": saved(rgb, "WEBP", lossless=True),
        "webp alpha": saved(rgba, "WEBP", lossless=True),
        "webp animated": saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)], lossless=True),
    }


FILES = files()


@pytest.mark.parametrize("name", FILES)
def test_every_mode_and_format(name: str, tmp_path: Path) -> None:
    """From bytes, a path as str and as Path, and an opened PIL image."""
    data = FILES[name]
    expected = by_pillow(data)
    path = tmp_path / "picture"
    path.write_bytes(data)
    for value in (data, bytearray(data), memoryview(data), path, str(path)):
        assert np.array_equal(pixels_of(value), expected)
    assert np.array_equal(pixels_of(Image.open(io.BytesIO(data))), expected)


def test_sixteen_bit_grey_is_read_by_its_upper_byte() -> None:
    """A 16-bit grey PNG looks as in a viewer and as 16-bit colours do; Pillow's own conversion is white."""
    values = (np.arange(24, dtype=np.uint16) * 2849).reshape(4, 6)
    grey = saved(Image.fromarray(values), "PNG")
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in values)
    coloured = png(6, 4, 16, 2, rows)
    expected = np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    assert np.array_equal(by_pillow(coloured), expected)
    for value in (grey, coloured, Image.open(io.BytesIO(grey))):
        assert np.array_equal(pixels_of(value), expected)


@pytest.mark.parametrize("values", [np.ones((4, 6), np.float32), np.full((4, 6), 70_000, np.int32)])
def test_pil_modes_without_a_full_scale_are_refused(values: np.ndarray) -> None:
    """Modes F and I: Pillow would make all of it black or white without a word."""
    with pytest.raises(InputError, match="white is not known") as refused:
        pixels_of(Image.fromarray(values))
    assert "uint8" in str(refused.value.hint)


def exif(orientation: int, order: str = "<", kind: int = 3, count: int = 1) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + {3: "HH", 4: "L"}[kind], *((orientation, 0) if kind == 3 else (orientation,)))
    entry = struct.pack(order + "HHL", 0x0112, kind, count) + value
    return b"Exif\0\0" + mark + struct.pack(order + "LH", 8, 1) + entry + struct.pack(order + "L", 0)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_orientation(form: str, orientation: int) -> None:
    for order, kind in (("<", 3), (">", 3), ("<", 4), (">", 4)):
        data = saved(Image.fromarray(RGB), form, exif=exif(orientation, order, kind))
        assert np.array_equal(pixels_of(data), by_pillow(data)), (order, kind)
        upright = pixels_of(data, orientation="ignore")
        assert upright.shape == RGB.shape
        assert np.array_equal(pixels_of(Image.open(io.BytesIO(data))), by_pillow(data))


def test_orientation_in_xmp_and_in_a_raw_profile() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    plain = saved(Image.fromarray(RGB), "PNG")
    turned = np.rot90(RGB, 3)
    itxt = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
    packed = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)
    profile = b"\nexif\n      %d\n" % len(exif(6)) + exif(6).hex().encode() + b"\n"
    raw = b"Raw profile type exif\0\0" + zlib.compress(profile)
    for kind, body in ((b"iTXt", itxt), (b"iTXt", packed), (b"zTXt", raw)):
        chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        data = plain[:33] + chunk + plain[33:]
        assert np.array_equal(pixels_of(data), by_pillow(data))
        assert np.array_equal(pixels_of(data), turned)
    jpeg = saved(Image.fromarray(RGB), "JPEG")
    body = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
    assert pixels_of(data).shape == turned.shape


@pytest.mark.parametrize(
    "broken",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0garbage that is no TIFF",
        exif(6)[:-9],
        exif(6).replace(struct.pack("<L", 8), struct.pack("<L", 4_000_000_000), 1),
        exif(6, count=4_000_000_000),
        exif(6) * 3,
        exif(77),
    ],
)
def test_broken_exif_leaves_the_picture_as_it_is(broken: bytes) -> None:
    jpeg = saved(Image.fromarray(RGB), "JPEG")
    data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(broken) + 2) + broken + jpeg[2:]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = pixels_of(data)
    assert heard == []
    if broken == exif(6) * 3:  # one after the other: the first counts
        found = np.rot90(found, 1)
    assert np.array_equal(found, by_pillow(jpeg))


def test_alpha_rules() -> None:
    """0 is the background, 255 the colour, 128 in between; `drop` keeps the colours as they stand."""
    array = np.array([[[200, 100, 0, 0], [200, 100, 0, 255], [200, 100, 0, 128]]], np.uint8)
    data = saved(Image.fromarray(array), "PNG")
    for value in (data, Image.fromarray(array), Frame(array, "rgba"), Frame(array[:, :, [2, 1, 0, 3]], "bgra")):
        assert pixels_of(value).tolist() == [[[200, 100, 0]] * 3]
        assert pixels_of(value, alpha="white").tolist() == [[[255, 255, 255], [200, 100, 0], [227, 177, 127]]]
        assert pixels_of(value, alpha="black").tolist() == [[[0, 0, 0], [200, 100, 0], [100, 50, 0]]]


def test_colour_orders_of_arrays() -> None:
    """Every order gives the same tensor; bgr and grey tensors; strided, read-only and reversed arrays."""
    grey = np.asarray(Image.fromarray(RGB).convert("L"))
    four = np.dstack([RGB, np.full(RGB.shape[:2], 9, np.uint8)])
    frozen = RGB.copy()
    frozen.setflags(write=False)
    wide = np.zeros((42, 68, 3), np.uint8)
    wide[::2, ::2] = RGB
    same = {
        "array": RGB,
        "read-only": frozen,
        "strided": wide[::2, ::2],
        "reversed": RGB[::-1].copy()[::-1],
        "fortran": np.asfortranarray(RGB),
        "rgb": Frame(RGB, "rgb"),
        "bgr": Frame(RGB[:, :, ::-1].copy(), "bgr"),
        "bgr view": Frame(RGB[:, :, ::-1], order="bgr"),
        "rgba": Frame(four, "rgba"),
        "bgra": Frame(four[:, :, [2, 1, 0, 3]], "bgra"),
    }
    for steps in ((), (resize("stretch", 9, 11),), (resize("stretch", 9, 11, arithmetic="matrix"),)):
        spec = levels_spec(*steps)
        expected = transform(spec, decode(spec, RGB, LIMITS))[0]["pixels"]
        for name, value in same.items():
            found = transform(spec, decode(spec, value, LIMITS))[0]["pixels"]
            assert np.array_equal(found, expected), name
            assert found.flags.writeable
            assert not np.shares_memory(found, RGB)
    assert np.array_equal(pixels_of(RGB, colour="bgr"), RGB[:, :, ::-1])
    one = {"colour": "grey", "mean": (0.0,), "std": (1.0,)}
    for value in (RGB, grey, grey[:, :, None], Frame(grey, "grey"), Frame(RGB[:, :, ::-1], "bgr"), FILES["png"]):
        if isinstance(value, Frame) and value.order == "grey":
            assert np.array_equal(pixels_of(value), np.dstack([grey] * 3))
        if not isinstance(value, np.ndarray) or value.ndim != 3 or value.shape[2] != 1:
            assert np.array_equal(pixels_of(value, **one), grey[:, :, None])


REFUSED = {
    "float": (RGB.astype(np.float32), "expected uint8"),
    "NaN": (np.full((4, 4, 3), np.nan), "expected uint8"),
    "int64": (RGB.astype(np.int64), "expected uint8"),
    "bool": (RGB > 7, "expected uint8"),
    "objects": (np.array([[None]]), "expected uint8"),
    "empty": (np.zeros((0, 5, 3), np.uint8), "empty"),
    "no pixels": (np.zeros((0, 0), np.uint8), "empty"),
    "a vector": (np.zeros(5, np.uint8), "expected shape (H, W, 3)"),
    "a scalar": (np.uint8(3), "expected"),
    "planes": (np.zeros((3, 8, 8), np.uint8), "expected shape (H, W, 3)"),
    "four channels": (np.zeros((8, 8, 4), np.uint8), "expected shape (H, W, 3)"),
    "a batch": (np.zeros((1, 8, 8, 3), np.uint8), "expected shape (H, W, 3)"),
    "frame of three as rgba": (Frame(RGB, "rgba"), "expected shape (H, W, 4)"),
    "frame of a list": (Frame([[1]], "rgb"), "got list"),
    "frame of another order": (Frame(RGB, "hsv"), "got 'hsv'"),  # type: ignore[arg-type]
    "a list": ([RGB], "got list"),
    "a number": (7, "got int"),
    "nothing": (None, "got NoneType"),
    "no bytes": (b"", "an empty file"),
    "text": (b"hello, I am a picture", "b'hello, I am "),
    "gif": (saved(Image.fromarray(RGB[:, :, 0]), "GIF"), "expected a JPEG, PNG, BMP or WebP"),
    "tiff": (saved(Image.fromarray(RGB), "TIFF"), "expected a JPEG, PNG, BMP or WebP"),
    "jpeg cut": (FILES["jpeg"][:-200], "damaged or unsupported JPEG"),
    "jpeg head only": (FILES["jpeg"][:30], "damaged or unsupported JPEG"),
    "png cut": (FILES["png"][:-200], "damaged or unsupported PNG"),
    "png mark only": (FILES["png"][:8], "damaged or unsupported PNG"),
    "webp cut": (FILES["webp"][:-50], "damaged or unsupported WEBP"),
    "webp mark only": (FILES["webp"][:16], "damaged WEBP"),
    "bmp cut": (FILES["bmp"][:-50], "damaged or unsupported BMP"),
    "bmp mark only": (b"BM", "damaged or unsupported BMP"),
    "path of nothing": ("/no/such/picture.jpg", "no such file"),
    "path with a zero": ("a\0b.jpg", "cannot be read"),
    "a folder": ("/", "expected a file, got a folder"),
    "a device": ("/dev/zero", "expected a file, got something else"),
    "empty string": ("", "no such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_what_was_expected(name: str) -> None:
    value, message = REFUSED[name]
    with pytest.raises(InputError) as caught:
        pixels_of(value)
    assert message in str(caught.value)
    assert caught.value.exit_code == 4


BOMBS = {
    "50,000 x 50,000 PNG": png(50_000, 50_000, 8, 2, b""),
    "PNG of the largest size": png(2**31 - 1, 2**31 - 1, 8, 2, b""),
    "one-bit PNG of 2^31 pixels": png(65_536, 32_768, 1, 0, b"\0" * 100),
    "BMP": b"BM" + struct.pack("<IHHIIiiHHIIIIII", 60, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "WebP canvas": b"RIFF\x30\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xfe\x3f\0" * 2 + b"\0" * 20,
    "JPEG": FILES["jpeg"].replace(struct.pack(">HH", 21, 34), struct.pack(">HH", 60_000, 60_000)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_too_many_pixels_are_refused_by_the_header(name: str) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with pytest.raises(InputError, match=r"pixels, (allowed are 50000000|a side has at most 65535)"):
            pixels_of(BOMBS[name])
    assert heard == []


def test_limits_are_the_manifests() -> None:
    few = LIMITS.replace(pixels=RGB.shape[0] * RGB.shape[1])
    for value in (FILES["jpeg"], FILES["webp"], RGB, Frame(RGB, "rgb"), Image.fromarray(RGB)):
        decode(PIXELS, value, few)
        with pytest.raises(InputError, match="allowed are 713"):
            decode(PIXELS, value, few.replace(pixels=few.pixels - 1))
    with pytest.raises(InputError, match="bytes, allowed are 100"):
        decode(PIXELS, FILES["jpeg"], LIMITS.replace(image_bytes=100))


def test_many_pixels_decode_without_a_warning() -> None:
    """Pillow warns above 89 million pixels; the manifest's limit decides instead."""
    data = png(10_000, 9_000, 1, 0, b"\0" * (1251 * 9_000))
    spec = levels_spec(resize("stretch", 8, 8, filter="nearest"))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        decoded = decode(spec, data, LIMITS.replace(pixels=100_000_000))
        assert transform(spec, decoded)[0]["pixels"].sum() == 0
    assert heard == []


def test_extreme_shapes_are_refused_before_they_are_scaled() -> None:
    """A line of pixels would be scaled to gigabytes, or to nothing."""
    line = np.zeros((1, 60_000, 3), np.uint8)
    short = levels_spec(resize("shortest_edge", 224, 224), crop(224, 224))
    for value in (line, line.transpose(1, 0, 2)):
        with pytest.raises(InputError, match="pixels, allowed are"):
            decode(short, value, LIMITS)
        with pytest.raises(InputError, match="less extreme aspect"):
            decode(levels_spec(resize("fit", 224, 224)), value, LIMITS)
    square = levels_spec(resize("stretch", 1000, 1000))
    with pytest.raises(InputError, match="pixels, allowed are"):
        decode(square, line.transpose(1, 0, 2), LIMITS)
    with pytest.raises(InputError, match="a side has at most 65535"):
        decode(square, np.zeros((1, 65_536, 3), np.uint8), LIMITS)
    assert transform(square, decode(square, line, LIMITS))[0]["pixels"].shape == (1, 1000, 1000, 3)
