"""Law: a table of 256 numbers per channel equals the original's arithmetic on all 256 levels, to the bit.

Truth: transformers' and torchvision's operations in their order, and ONNX's, TFLite's and C's rounding, written out.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from image_specs import CLIP_MEAN, CLIP_STD, LIMITS, image_spec, levels_spec

from edgekit.preprocess import levels
from edgekit.preprocess.image import transform
from edgekit.preprocess.picture import decode
from edgekit.specs.tensor import Quantization

RAMP = np.arange(256, dtype=np.uint8)
SCALES = (1 / 255, 0.00392156862745098, 1 / 127.5, 1.0, 1 / 256)
STATISTICS = ((CLIP_MEAN, CLIP_STD), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((127.5,) * 3, (127.5,) * 3))


def slow_processor(scale: float, offset: float, mean: Any, std: Any) -> np.ndarray:
    """transformers 4.57: rescale (float64, then float32), EfficientNet's offset, normalize; (256, 3)."""
    image = np.repeat(RAMP[:, None], 3, axis=1)
    rescaled = (image.astype(np.float64) * scale).astype(np.float32)
    if offset:
        rescaled = rescaled + offset
    return (rescaled - np.array(mean, rescaled.dtype)) / np.array(std, rescaled.dtype)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("offset", [0.0, -1.0])
def test_float_table_equals_the_slow_processors(scale: float, offset: float) -> None:
    for mean, std in STATISTICS:
        table = levels.table(image_spec(scale=scale, offset=offset, mean=mean, std=std))
        expected = slow_processor(scale, offset, mean, std)
        assert table.dtype == expected.dtype == np.float32
        assert np.array_equal(table.T, expected)
        half = levels.table(image_spec(scale=scale, offset=offset, mean=mean, std=std, dtype="float16"))
        assert np.array_equal(half.T, expected.astype(np.float16))


def test_float_table_equals_torchvision() -> None:
    """ToTensor divides a float32 by 255, Normalize subtracts and divides in float32: the same 256 numbers."""
    scaled = RAMP.astype(np.float32) / np.float32(255)
    table = levels.table(image_spec(mean=CLIP_MEAN, std=CLIP_STD))
    for channel in range(3):
        expected = (scaled - np.float32(CLIP_MEAN[channel])) / np.float32(CLIP_STD[channel])
        assert np.array_equal(table[channel], expected)


def test_dividing_twice_is_efficientnets() -> None:
    std = (0.47853944, 0.4732864, 0.47434163)
    once = slow_processor(1 / 255, 0.0, (0.485, 0.456, 0.406), std)
    twice = (once - np.zeros(3, np.float32)) / np.array(std, np.float32)
    assert np.array_equal(levels.table(image_spec(mean=(0.485, 0.456, 0.406), std=std + std)).T, twice)


def rounded(x: float, how: str, zero_point: int) -> int:
    """One number at a time, in Python: ONNX QuantizeLinear, TFLite's TfLiteRound, a C cast."""
    if how == "nearest_even":
        return round(x) + zero_point
    if how == "nearest_away":
        return int(abs(x) + 0.5) * (1 if x >= 0 else -1) + zero_point
    return int(float(np.float32(x) + np.float32(zero_point)))


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("how", ["nearest_even", "nearest_away", "trunc"])
def test_quantised_table_equals_the_float_path(dtype: str, how: str) -> None:
    low, high = (0, 255) if dtype == "uint8" else (-128, 127)
    for (mean, std), scale, step in itertools.product(STATISTICS, SCALES, (0.0078125, 1 / 255, 0.02, 1.0, 0.5)):
        zero_point = 128 if dtype == "uint8" else -3
        quantization = Quantization(scale=step, zero_point=zero_point, rounding=how)
        table = levels.table(image_spec(scale=scale, mean=mean, std=std, dtype=dtype, quantization=quantization))
        real = slow_processor(scale, 0.0, mean, std)
        for channel in range(3):
            steps = real[:, channel] / np.float32(step)
            expected = [min(max(rounded(float(x), how, zero_point), low), high) for x in steps]
            assert table[channel].tolist() == expected
        assert table.dtype == dtype


def test_levels_as_they_are_and_the_tensor_of_every_layout() -> None:
    """All 256 levels through `transform`: uint8 untouched, int8 shifted, float by the table; channels in order."""
    array = np.stack([RAMP.reshape(16, 16), RAMP[::-1].reshape(16, 16), np.roll(RAMP, 7).reshape(16, 16)], axis=2)
    plain = levels_spec()
    assert levels.is_identity(levels.table(plain))
    assert np.array_equal(transform(plain, decode(plain, array, LIMITS))[0]["pixels"][0], array)
    shift = Quantization(scale=1.0, zero_point=-128, rounding="nearest_even")
    signed = levels_spec(dtype="int8", quantization=shift)
    assert np.array_equal(transform(signed, decode(signed, array, LIMITS))[0]["pixels"][0], array.astype(int) - 128)
    for layout, colour, dtype in itertools.product(("nchw", "nhwc"), ("rgb", "bgr"), ("float32", "uint8", "int8")):
        quantization = None
        if dtype != "float32":
            quantization = Quantization(scale=0.02, zero_point=20, rounding="nearest_even")
        spec = image_spec(
            mean=CLIP_MEAN, std=CLIP_STD, layout=layout, colour=colour, dtype=dtype, quantization=quantization
        )
        table = levels.table(spec)
        tensor = transform(spec, decode(spec, array, LIMITS))[0]["pixels"]
        assert tensor.flags.c_contiguous
        assert tensor.shape == ((1, 3, 16, 16) if layout == "nchw" else (1, 16, 16, 3))
        planes = tensor[0] if layout == "nchw" else tensor[0].transpose(2, 0, 1)
        for channel in range(3):
            source = array[:, :, channel if colour == "rgb" else 2 - channel]
            assert np.array_equal(planes[channel], table[channel][source])


def test_tables_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        levels.table(image_spec())[0, 0] = 1.0
