"""What transformers' image processors compute where a config leaves a key out.

Source: the defaults of each `<class>ImageProcessor.__init__`, transformers 4.57.6 (golden/make_hub_golden.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Kind = Literal["plain", "levit", "convnext", "poolformer", "efficientnet", "detector", "dpt", "donut"]

_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
_HALF = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
_CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
_NEAREST, _BILINEAR, _BICUBIC = 0, 2, 3
_Size = Mapping[str, int]


class Defaults(NamedTuple):
    """A class's defaults. kind: what is its own in it; square: whether a size that is one number means a square."""

    kind: Kind
    square: bool
    values: Mapping[str, Any]


def _square(side: int) -> _Size:
    return {"height": side, "width": side}


def _edge(side: int) -> _Size:
    return {"shortest_edge": side}


def _row(
    kind: Kind,
    square: bool,
    size: _Size,
    resample: int,
    levels: tuple[list[float], list[float]] | None,
    crop: int | None = None,
    **more: Any,
) -> Defaults:
    values: dict[str, Any] = {
        "do_resize": True,
        "size": size,
        "resample": resample,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": levels is not None,
        "do_center_crop": crop is not None,
        "do_pad": False,
    }
    if levels is not None:
        values["image_mean"], values["image_std"] = levels
    if crop is not None:
        values["crop_size"] = _square(crop)
    return Defaults(kind, square, {**values, **more})


_DETECTOR_SIZE = {"shortest_edge": 800, "longest_edge": 1333}

DEFAULTS: dict[str, Defaults] = {
    "Beit": _row("plain", True, _square(256), _BICUBIC, _HALF, 224),
    "Bit": _row("plain", False, _edge(224), _BICUBIC, _CLIP, 224),
    "Blip": _row("plain", True, _square(384), _BICUBIC, _CLIP),
    "CLIP": _row("plain", False, _edge(224), _BICUBIC, _CLIP, 224),
    "ChineseCLIP": _row("plain", False, _edge(224), _BICUBIC, _CLIP, 224),
    "ConditionalDetr": _row("detector", False, _DETECTOR_SIZE, _BILINEAR, _IMAGENET, do_pad=True),
    "ConvNext": _row("convnext", False, _edge(384), _BILINEAR, _HALF, crop_pct=224 / 256),
    "DPT": _row(
        "dpt", True, _square(384), _BICUBIC, _HALF, keep_aspect_ratio=False, ensure_multiple_of=1, do_pad=False
    ),
    "DeformableDetr": _row("detector", False, _DETECTOR_SIZE, _BILINEAR, _IMAGENET, do_pad=True),
    "DeiT": _row("plain", True, _square(256), _BICUBIC, _HALF, 224),
    "Deta": _row("detector", False, _DETECTOR_SIZE, _BILINEAR, _IMAGENET, do_pad=True),
    "Detr": _row("detector", False, _DETECTOR_SIZE, _BILINEAR, _IMAGENET, do_pad=True),
    "Donut": _row(
        "donut", True, {"height": 2560, "width": 1920}, _BILINEAR, _HALF,
        do_thumbnail=True, do_align_long_axis=False, do_pad=True,
    ),
    "EfficientNet": _row(
        "efficientnet", True, _square(346), _NEAREST, _HALF,
        rescale_offset=False, include_top=True, crop_size=_square(289),
    ),
    "GroundingDino": _row("detector", False, _DETECTOR_SIZE, _BILINEAR, _IMAGENET, do_pad=True),
    "Levit": _row("levit", False, _edge(224), _BICUBIC, _IMAGENET, 224),
    "MobileNetV1": _row("plain", False, _edge(256), _BILINEAR, _HALF, 224),
    "MobileNetV2": _row("plain", False, _edge(256), _BILINEAR, _HALF, 224),
    "MobileViT": _row("plain", False, _edge(224), _BILINEAR, None, 256, do_flip_channel_order=True),
    "OwlViT": _row("plain", True, _square(768), _BICUBIC, _CLIP, crop_size=_square(768)),
    "PoolFormer": _row("poolformer", False, _edge(224), _BICUBIC, _IMAGENET, 224, crop_pct=0.9),
    "Pvt": _row("plain", True, _square(224), _BILINEAR, _IMAGENET),
    "RTDetr": _row("detector", False, _square(640), _BILINEAR, _IMAGENET, do_normalize=False, do_pad=False),
    "Segformer": _row("plain", True, _square(512), _BILINEAR, _IMAGENET),
    "Siglip": _row("plain", True, _square(224), _BICUBIC, _HALF),
    "ViT": _row("plain", True, _square(224), _BILINEAR, _HALF),
    "Yolos": _row("detector", False, _DETECTOR_SIZE, _BILINEAR, _IMAGENET, do_pad=True),
}  # fmt: skip

ALIASES = {"Dinov2": "Bit", "Swin": "ViT", "Swinv2": "ViT", "DepthAnything": "DPT", "TrOCR": "ViT", "BLIP": "Blip"}
"""Names that people and older configs use for a class that has another one."""

CLASS_OF_MODEL = {
    "aimv2": "CLIP",
    "beit": "Beit",
    "bit": "Bit",
    "blip": "Blip",
    "chinese_clip": "ChineseCLIP",
    "clip": "CLIP",
    "clip_vision_model": "CLIP",
    "conditional_detr": "ConditionalDetr",
    "convnext": "ConvNext",
    "convnextv2": "ConvNext",
    "cvt": "ConvNext",
    "data2vec-vision": "Beit",
    "deformable_detr": "DeformableDetr",
    "deit": "DeiT",
    "depth_anything": "DPT",
    "detr": "Detr",
    "dinat": "ViT",
    "dinov2": "Bit",
    "donut-swin": "Donut",
    "dpt": "DPT",
    "efficientnet": "EfficientNet",
    "focalnet": "Bit",
    "groupvit": "CLIP",
    "hiera": "Bit",
    "ijepa": "ViT",
    "levit": "Levit",
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "mobilevit": "MobileViT",
    "mobilevitv2": "MobileViT",
    "nat": "ViT",
    "owlvit": "OwlViT",
    "poolformer": "PoolFormer",
    "pvt": "Pvt",
    "pvt_v2": "Pvt",
    "regnet": "ConvNext",
    "resnet": "ConvNext",
    "rt_detr": "RTDetr",
    "segformer": "Segformer",
    "siglip": "Siglip",
    "swiftformer": "ViT",
    "swin": "ViT",
    "swinv2": "ViT",
    "table-transformer": "Detr",
    "upernet": "Segformer",
    "van": "ConvNext",
    "vit": "ViT",
    "vit_mae": "ViT",
    "vit_msn": "ViT",
    "yolos": "Yolos",
}
"""transformers' IMAGE_PROCESSOR_MAPPING_NAMES, for configs that do not name their class."""
