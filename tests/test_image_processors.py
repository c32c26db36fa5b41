"""Promise: image tensors equal, to the bit, what the original processors compute (issue: any hub model, CLIP golden).

Truth: transformers' Pillow processors on drawn configurations (golden/make_image_golden.py), OpenAI's published CLIP
preprocessing of a photograph, and the zoo's expected tensors.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL
import pytest
from golden.make_image_golden import digest, picture
from image_specs import LIMITS, clip_spec, image_spec, processor_spec, resize

from edgekit.preprocess.geometry import Scale, plan
from edgekit.preprocess.image import transform
from edgekit.preprocess.picture import decode
from edgekit.specs.image import ImageSpec

CASES = json.loads((Path(__file__).parent / "golden" / "image_processors.json").read_text())["cases"]
BEFORE_13 = int(PIL.__version__.split(".")[0]) < 13
NAMES = sorted({case["processor"] for case in CASES})


def test_enough_cases() -> None:
    assert len(CASES) >= 200
    assert len(NAMES) == 19


def _columns_first(spec: ImageSpec, height: int, width: int) -> bool:
    """Whether Pillow 13, which made the golden, resamples columns before rows; older ones differ there by one level."""
    for operation in plan(spec.steps, height, width):
        if isinstance(operation, Scale):
            shrink_y, shrink_x = height - operation.height, width - operation.width
            if shrink_y > 0 and shrink_y > 2 * shrink_x:
                return True
            height, width = operation.height, operation.width
    return False


@pytest.mark.parametrize("name", NAMES)
def test_every_drawn_configuration_is_equal_to_the_bit(name: str) -> None:
    wrong = []
    for index, case in enumerate(c for c in CASES if c["processor"] == name):
        spec = processor_spec(name, case["config"])
        if BEFORE_13 and _columns_first(spec, *case["picture"][1:]):
            continue
        tensors, _ = transform(spec, decode(spec, picture(*case["picture"]), LIMITS))
        pixels = tensors["pixels"]
        same = list(pixels.shape) == case["shape"] and digest(pixels) == case["sha256"]
        if "mask_sha256" in case:
            same = same and digest(tensors["mask"]) == case["mask_sha256"]
        if not same:
            wrong.append((index, case["config"], case["picture"], case["shape"], pixels.shape))
    assert wrong == []


def test_clip_golden(shared: Path) -> None:
    """franz-kafka.jpg as openai/CLIP's own preprocessing gives it, from a path and from bytes."""
    folder = shared / "data" / "clip-preproc-golden"
    expected = np.load(folder / "expected_preprocessed_image.npy")
    spec = clip_spec()
    for value in (folder / "franz-kafka.jpg", (folder / "franz-kafka.jpg").read_bytes()):
        tensors, _ = transform(spec, decode(spec, value, LIMITS))
        assert tensors["pixels"].dtype == np.float32
        assert np.array_equal(tensors["pixels"], expected)


ZOO = ["cat.png", "rocket.jpg", "astronaut.png", "camera_grey.png", "logo_rgba.png", "cat_exif_rotated.jpg"]


@pytest.mark.parametrize("name", ZOO)
def test_zoo_pictures(shared: Path, name: str) -> None:
    """Orientation, alpha and grey as transformers' load_image gives them, through five of its processors."""
    half = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    bilinear = {"filter": "bilinear"}
    detector = resize("shortest_edge", 256, 256, longest=448, multiple_of=16, **bilinear)
    specs = {
        "vit": image_spec(resize("stretch", 224, 224, **bilinear), **half),
        "trocr": image_spec(resize("stretch", 128, 128, **bilinear), **half),
        "convnext": processor_spec(
            "ConvNext",
            {
                "size": {"shortest_edge": 224},
                "crop_pct": 0.875,
                "resample": 2,
                "rescale_factor": 1 / 255,
                "image_mean": half["mean"],
                "image_std": half["std"],
            },
        ),
        "yolos": image_spec(detector, **imagenet),
    }
    checked = 0
    for case, spec in specs.items():
        expected = np.load(shared / "zoo" / case / "expected.npz")
        if f"{name}/pixel_values" in expected:
            decoded = decode(spec, shared / "zoo" / "inputs" / name, LIMITS)
            if BEFORE_13 and _columns_first(spec, decoded.height, decoded.width):
                continue
            tensors, _ = transform(spec, decoded)
            assert np.array_equal(tensors["pixels"], expected[f"{name}/pixel_values"]), case
            checked += 1
    clip = np.load(shared / "zoo" / "clip" / "expected.npz")["pixel_values"][ZOO.index(name)]
    spec = clip_spec()
    tensors, _ = transform(spec, decode(spec, shared / "zoo" / "inputs" / name, LIMITS))
    assert np.array_equal(tensors["pixels"][0], clip)
    assert checked >= 1
