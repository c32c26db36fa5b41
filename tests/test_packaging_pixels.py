"""Promise: a way to decode and resize chosen at packaging is in the manifest, and its cost in levels is said.

Truth: Pillow's own draft and resize of the same JPEG.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from image_specs import clip_spec
from packing import host_target
from PIL import Image

from edgekit.bundle import open_bundle
from edgekit.cli.commands import main
from edgekit.errors import InputError
from edgekit.packaging.draft import Draft
from edgekit.packaging.pixels import Pixels, pixel_deviation, with_pixels
from edgekit.packaging.recipe import known_recipes, read_recipe
from edgekit.packaging.sampling import drawn_pixels


def draft(name: str = "tridigit", **inputs: Any) -> Draft:
    made = read_recipe(known_recipes()[name], None, host_target(), [], lambda *_: None)
    return made._replace(inputs={**made.inputs, **inputs})


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()


def by_pillow(data: bytes, reduction: int) -> np.ndarray:
    """Short side 32 by bicubic, the centre of it, after Pillow's draft at this reduction."""
    image = Image.open(io.BytesIO(data))
    width, height = image.size
    if reduction > 1:
        image.draft("RGB", (width // reduction, height // reduction))
    scaled = image.resize((width * 32 // height, 32), Image.Resampling.BICUBIC)
    left = (scaled.width - 32) // 2
    return np.asarray(scaled).astype(int)[:, left : left + 32]


def said(line: str) -> tuple[float, int]:
    mean, most = re.findall(r"mean (\S+), at most (\d+) of 255", line)[0]
    return float(mean), int(most)


def test_the_deviation_of_a_scaled_decode_is_pillows() -> None:
    """A drawn 640 x 480 JPEG at a quarter (an eighth is below twice 32), a sample of 1280 x 960 at an eighth."""
    sample = drawn_pixels(1280, 960)[::-1].copy()
    made = draft(image=clip_spec(32))
    made = made._replace(files={**made.files, "golden/s.jpg": jpeg(sample), "golden/not.png": b"", "s.jpg": b""})
    assert pixel_deviation(made) == []
    (line,) = pixel_deviation(with_pixels(made, Pixels(decode="scaled")))
    far = []
    for data, reduction in ((jpeg(drawn_pixels(640, 480)), 4), (jpeg(sample), 8)):
        far.append(np.abs(by_pillow(data, 1) - by_pillow(data, reduction)))
    mean, most = said(line)
    assert most == max(f.max() for f in far) > 0
    assert mean == pytest.approx(max(f.mean() for f in far), rel=0.05)
    assert line.startswith("image: decode scaled, pillow: ")
    assert line.endswith("a drawn JPEG and 1 of the samples")


def test_each_arithmetic_is_said_to_be_as_near_as_it_is() -> None:
    made = draft(image=clip_spec(32))
    for arithmetic, largest in (("pillow_fused", 1), ("pillow_matrix", 1), ("matrix", 13)):
        (line,) = pixel_deviation(with_pixels(made, Pixels(arithmetic=arithmetic)))
        assert said(line)[1] <= largest, line
    assert pixel_deviation(with_pixels(made, Pixels(decode="exact", arithmetic="pillow"))) == []


def test_a_bundle_that_takes_small_pictures_only() -> None:
    made = draft(image=clip_spec(32))
    small = made._replace(limits=made.limits.replace(pixels=10_000, image_bytes=1000))
    scaled = Pixels(decode="scaled")
    assert pixel_deviation(with_pixels(small, scaled)) == pixel_deviation(with_pixels(made, scaled))


def test_without_a_choice_the_source_stays() -> None:
    made = draft()
    assert with_pixels(made, Pixels()) is made


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="--arithmetic pillow_fused: pillow_fused always averages"):
        with_pixels(draft("tridigit-picture"), Pixels(arithmetic="pillow_fused"))
    made = draft()
    without = made._replace(inputs={k: v for k, v in made.inputs.items() if k != "image"})
    with pytest.raises(InputError, match="'tridigit' takes no picture"):
        with_pixels(without, Pixels(decode="scaled"))


def test_the_command_line(tmp_path: Path) -> None:
    chosen = ["--decode", "scaled", "--arithmetic", "pillow_matrix"]
    done = CliRunner().invoke(main, ["package", "tridigit", *chosen, "-o", str(tmp_path / "t.edgekit")])
    assert done.exit_code == 0, done.output
    assert "image: decode scaled, pillow_matrix: mean " in done.stderr
    with open_bundle(tmp_path / "t.edgekit") as bundle:
        spec: Any = bundle.manifest.inputs["image"]
    assert spec.decode == "scaled"
    assert [s.arithmetic for s in spec.steps if s.step == "resize"] == ["pillow_matrix"]
    assert CliRunner().invoke(main, ["package", "tridigit", "--decode", "fast"]).exit_code == 2
