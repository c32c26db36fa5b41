"""Promise: a JPEG decoded straight into an array has Pillow's own pixels, or is left to Pillow.

Truth: Pillow's decoder on the same bytes, at every reduction, sizes and damage drawn at random.
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from image_specs import LIMITS, clip_spec
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from edgekit.preprocess import jpeg
from edgekit.preprocess.image import transform
from edgekit.preprocess.picture import decode

pytest.importorskip("simplejpeg", reason="simplejpeg is an extra, edgekit-sdk[jpeg]")

MATRIX = clip_spec(32, "matrix", decode="scaled")


def photo(seed: int, height: int, width: int) -> Image.Image:
    """Soft colours with some noise, as a camera's."""
    numbers = np.random.default_rng(seed)
    coarse = Image.fromarray(numbers.integers(0, 256, (8, 8, 3), np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((soft + numbers.integers(-9, 10, soft.shape)).clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def opened(data: bytes, reduction: int) -> JpegImageFile:
    image = JpegImageFile(io.BytesIO(data))
    if reduction > 1:
        jpeg.draft(image, reduction)
    return image


def test_every_reduction_size_and_kind_of_file() -> None:
    """300 files: sizes 8 to 129, subsampling, quality, progressive, restart markers; at 1, 1/2, 1/4 and 1/8."""
    draw = random.Random(5)
    for index in range(300):
        image = photo(index, draw.randrange(8, 130), draw.randrange(8, 130))
        options: dict[str, Any] = {"quality": draw.randrange(20, 100), "subsampling": draw.randrange(3)}
        options["progressive"] = draw.random() < 0.3
        if draw.random() < 0.2:
            options["restart_marker_rows"] = 1
        data = saved(image, **options)
        for reduction in (1, 2, 4, 8):
            found = jpeg.decode_array(opened(data, reduction), data, reduction)
            assert found is not None
            assert np.array_equal(found, np.asarray(opened(data, reduction))), (index, reduction)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_are_left_to_pillow(mode: str) -> None:
    data = saved(photo(1, 40, 50).convert(mode))
    assert jpeg.decode_array(opened(data, 1), data, 1) is None


def test_damaged_files_are_left_to_pillow_or_equal() -> None:
    """2,000 files with a changed byte or a lost end: no array that Pillow would not give."""
    draw = random.Random(6)
    whole = [saved(photo(i, 60, 90), quality=q, progressive=i % 2 == 1) for i, q in enumerate((30, 75, 95, 90))]
    straight = 0
    for index in range(2000):
        body = bytearray(whole[index % len(whole)])
        if draw.random() < 0.8:
            body[draw.randrange(2, len(body))] = draw.randrange(256)
        else:
            del body[draw.randrange(20, len(body)) :]
        data = bytes(body)
        try:
            image = opened(data, 1)
        except Exception:  # Pillow refuses the header, as picture.decode does
            continue
        if image.width * image.height > 1 << 20:
            continue
        found = jpeg.decode_array(image, data, 1)
        if found is not None:
            straight += 1
            assert np.array_equal(found, np.asarray(opened(data, 1))), index
    assert straight > 500


ROUNDED = {"steps": clip_spec(32, "pillow_matrix").steps}


@pytest.mark.parametrize("changes", [{}, {"colour": "bgr"}, {"decode": "exact"}, {"orientation": "ignore"}, ROUNDED])
def test_a_tensor_is_the_same_without_it(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [saved(photo(i, 300 + 17 * i, 420)) for i in range(4)] + [saved(photo(9, 90, 70), exif=exif)]
    spec = MATRIX.replace(**changes)

    def tensors() -> list[np.ndarray]:
        return [transform(spec, decode(spec, data, LIMITS))[0]["pixels"] for data in files]

    with_it = tensors()
    monkeypatch.setattr(jpeg, "_library", lambda: None)
    assert all(np.array_equal(a, b) for a, b in zip(with_it, tensors(), strict=True))


def test_pillows_own_arithmetic_does_not_import_it() -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from image_specs import LIMITS, clip_spec; from edgekit.preprocess.picture import decode; import io\n"
        "from PIL import Image; file = io.BytesIO(); Image.new('RGB', (30, 30)).save(file, 'JPEG')\n"
        "decode(clip_spec(16), file.getvalue(), LIMITS); print('simplejpeg' in sys.modules)\n"
        "decode(clip_spec(16, 'matrix'), file.getvalue(), LIMITS); print('simplejpeg' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, *sys.path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
