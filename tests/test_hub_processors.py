"""Promise: a folder's processor config gives, to the bit, the tensors of transformers' own processor (issue 3: image
processors, feature extractors). Truth: golden/make_hub_golden.py, configs as folders hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from audio_specs import LIMITS as SOUND_LIMITS
from golden.make_image_golden import digest, picture
from image_specs import LIMITS, processor_spec

from edgekit.errors import InputError
from edgekit.packaging.hf_audio import AudioPort, read_audio
from edgekit.packaging.hf_image import ImagePort, final_size, read_image
from edgekit.packaging.questions import Questions
from edgekit.preprocess import audio, sound
from edgekit.preprocess.geometry import Scale, plan
from edgekit.preprocess.image import transform
from edgekit.preprocess.picture import decode
from edgekit.specs.image import ImageSpec

GOLDEN = Path(__file__).parent / "golden"
HUB = json.loads((GOLDEN / "hub.json").read_text())
DRAWN = json.loads((GOLDEN / "image_processors.json").read_text())["cases"]
OLD_PILLOW = int(PIL.__version__.split(".")[0]) < 13


def name_of(case: dict[str, Any]) -> str:
    config = case["config"]
    return str(config.get("image_processor_type") or config["feature_extractor_type"])


NAMES = sorted({name_of(case) for case in HUB["images"]})


def read(config: dict[str, Any], mask: bool = False, size: tuple[int, int] = (-1, -1)) -> ImageSpec:
    ask = Questions("folder", {})
    port = ImagePort("pixels", "mask" if mask else None, "float32", "nchw", *size, None)
    spec = read_image(config, "", port, ask)
    ask.finish()
    return spec


def columns_first(spec: ImageSpec, height: int, width: int) -> bool:
    """Whether Pillow 13, which made the golden, resamples columns before rows; older ones differ there by a level."""
    for operation in plan(spec.steps, height, width):
        if isinstance(operation, Scale):
            if height - operation.height > max(0, 2 * (width - operation.width)):
                return True
            height, width = operation.height, operation.width
    return False


def test_enough_families() -> None:
    assert len(NAMES) >= 26
    assert len(HUB["images"]) >= 150


@pytest.mark.parametrize("name", NAMES)
def test_tensors_of_configs_with_keys_left_out(name: str) -> None:
    wrong = []
    for case in (c for c in HUB["images"] if name_of(c) == name):
        spec = read(case["config"], "mask_sha256" in case)
        if OLD_PILLOW and columns_first(spec, *case["picture"][1:]):
            continue
        tensors, _ = transform(spec, decode(spec, picture(*case["picture"]), LIMITS))
        same = list(tensors["pixels"].shape) == case["shape"] and digest(tensors["pixels"]) == case["sha256"]
        if "mask_sha256" in case:
            same = same and digest(tensors["mask"]) == case["mask_sha256"]
        if not same:
            wrong.append(case)
    assert wrong == []


def test_specs_of_complete_configs() -> None:
    """The 360 configurations whose tensors test_image_processors holds to transformers give those very specs."""
    for case in DRAWN:
        name, config = case["processor"], case["config"]
        got = read({"image_processor_type": f"{name}ImageProcessorFast", **config}, name in ("Detr", "Yolos", "RTDetr"))
        want = processor_spec(name, config)
        if name == "EfficientNet" and not config["do_normalize"]:
            want = want.replace(std=want.std[-3:])
        assert got == want


def test_twenty_classes_by_older_and_newer_names() -> None:
    for name, model_type in (("Swin", "swin"), ("Dinov2", "dinov2"), ("DepthAnything", "depth_anything")):
        port = ImagePort("pixels", None, "float32", "nchw", -1, -1, None)
        by_name = read({"image_processor_type": f"{name}ImageProcessor"})
        assert by_name == read_image({}, model_type, port, Questions("folder", {}))
        assert by_name == read({"feature_extractor_type": f"{name}FeatureExtractor"})


@pytest.mark.parametrize("index", range(len(HUB["sounds"])))
def test_sounds(index: int) -> None:
    case = HUB["sounds"][index]
    with np.load(GOLDEN / "hub.npz") as arrays:
        clip, want = arrays["clip"], arrays[f"sound_{index}"]
    shape = tuple(-1 if case["input"] == "input_values" and len(case["shape"]) == 2 else n for n in case["shape"])
    ask = Questions("folder", {})
    spec = read_audio(case["config"], "", AudioPort("x", None, (1, *shape[1:])), 400, ask)
    ask.finish()
    made = audio.transform(spec, sound.decode(spec, (clip, 16000), SOUND_LIMITS))["x"]
    assert list(made.shape) == case["shape"]
    bound = 1e-6 if spec.features is None else 1e-4
    assert np.abs(made.reshape(-1)[:: case["step"]] - want).max() <= bound


def test_mask_of_a_waveform() -> None:
    config = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "return_attention_mask": True}
    spec = read_audio(config, "", AudioPort("x", "mask", (-1, 1000)), 400, Questions("folder", {}))
    samples = np.arange(700, dtype=np.int16)
    made = audio.transform(spec, sound.decode(spec, (samples, 16000), SOUND_LIMITS))
    assert made["mask"].tolist() == [[1] * 700 + [0] * 300]
    assert made["x"][0, 700:].tolist() == [0.0] * 300
    unit = samples[:700] / 32768.0
    want = (unit - unit.mean()) / np.sqrt(unit.var() + 1e-7)
    assert np.abs(made["x"][0, :700] - want).max() < 1e-5


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"image_processor_type": "PerceiverImageProcessor"}, "image_processor="),
    ({}, "image_processor="),
    ({"image_processor_type": "ViTImageProcessor", "resample": 9}, "resample"),
    ({"image_processor_type": "ViTImageProcessor", "size": "large"}, "size"),
    ({"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 224}}, "size"),
    ({"image_processor_type": "ViTImageProcessor", "size": {"height": 0, "width": 5}}, "size"),
    ({"image_processor_type": "ViTImageProcessor", "image_mean": [0.5]}, "mean"),
    ({"image_processor_type": "ViTImageProcessor", "image_std": [0.0, 1.0, 1.0]}, "std"),
    ({"image_processor_type": "ViTImageProcessor", "do_resize": "yes"}, "do_resize"),
    ({"image_processor_type": "ViTImageProcessor", "do_color_quantize": True}, "do_color_quantize"),
    ({"image_processor_type": "ViTImageProcessor", "do_pad": True}, "do_pad"),
    ({"image_processor_type": "ConvNextImageProcessor", "size": 64, "crop_pct": "most"}, "crop_pct"),
    ({"image_processor_type": "DPTImageProcessor", "do_pad": True}, "size_divisor"),
]


@pytest.mark.parametrize(("config", "key"), WRONG)
def test_what_is_wrong_is_named(config: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=key):
        read(config)


def test_an_unknown_class_may_be_answered() -> None:
    port = ImagePort("pixels", None, "float32", "nchw", -1, -1, None)
    ask = Questions("folder", {"image_processor": "CLIP"})
    spec = read_image({"image_processor_type": "MyImageProcessor", "size": {"shortest_edge": 64}}, "", port, ask)
    ask.finish()
    assert final_size(spec) == (224, 224)


def test_a_config_that_contradicts_the_graph() -> None:
    with pytest.raises(InputError, match=r"224 x 224.*takes 384 x 384"):
        read({"image_processor_type": "ViTImageProcessor"}, size=(384, 384))
    with pytest.raises(InputError, match="any size"):
        read({"image_processor_type": "YolosImageProcessor"}, size=(384, 384))
    for config, message in (
        ({"feature_extractor_type": "ASTFeatureExtractor"}, r"\[1, 1024, 128\]"),
        ({"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": "high"}, "sampling_rate"),
        ({"feature_extractor_type": "WhisperFeatureExtractor", "dither": 0.1}, "dither"),
        ({"feature_extractor_type": "ClapFeatureExtractor"}, "fusion"),
    ):
        with pytest.raises(InputError, match=message):
            read_audio(config, "", AudioPort("x", None, (1, 128) if "Wav" in str(config) else (1, 9, 9)), 1,
                       Questions("folder", {}))  # fmt: skip
