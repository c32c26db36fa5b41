"""Image specs for the tests, written out: every key of every step."""

from __future__ import annotations

from typing import Any

from edgekit.manifest import Limits
from edgekit.specs.image import Align, Crop, ImageSpec, Pad, Resize

LIMITS = Limits(
    pixels=50_000_000,
    image_bytes=64 << 20,
    audio_seconds=600.0,
    audio_bytes=1,
    audio_channels=1,
    text_bytes=1,
    candidates=1,
)

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's number, which transformers' `resample` is."""


def resize(mode: str, height: int, width: int, **changes: Any) -> Resize:
    fields: dict[str, Any] = {
        "step": "resize",
        "mode": mode,
        "height": height,
        "width": width,
        "longest": 0,
        "multiple_of": 1,
        "rounding": "floor",
        "shrink_only": False,
        "filter": "bicubic",
        "antialias": True,
        "coordinates": "half_pixel",
        "arithmetic": "pillow",
    }
    return Resize(**{**fields, **changes})


def crop(height: int, width: int, **changes: Any) -> Crop:
    fields: dict[str, Any] = {"fraction": 0.0, "rounding": "floor", "fill": 0.0}
    return Crop(step="crop", height=height, width=width, **{**fields, **changes})


def pad(to: str, height: int = 0, width: int = 0, **changes: Any) -> Pad:
    fields: dict[str, Any] = {"multiple_of": 1, "position": "center", "fill": (0.0, 0.0, 0.0), "stage": "pixels"}
    return Pad(step="pad", to=to, height=height, width=width, **{**fields, **changes})


def image_spec(*steps: Any, **changes: Any) -> ImageSpec:
    fields: dict[str, Any] = {
        "kind": "image",
        "value": "pixels",
        "mask": None,
        "decode": "exact",
        "orientation": "exif",
        "alpha": "drop",
        "colour": "rgb",
        "steps": tuple(steps),
        "scale": 1 / 255,
        "offset": 0.0,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "layout": "nchw",
        "dtype": "float32",
        "quantization": None,
    }
    return ImageSpec(**{**fields, **changes})


def clip_spec(size: int = 224, arithmetic: str = "pillow", **changes: Any) -> ImageSpec:
    steps = (resize("shortest_edge", size, size, arithmetic=arithmetic), crop(size, size))
    return image_spec(*steps, **{"mean": CLIP_MEAN, "std": CLIP_STD, **changes})


def levels_spec(*steps: Any, **changes: Any) -> ImageSpec:
    """The pixels themselves: uint8, nothing scaled."""
    from edgekit.specs.tensor import Quantization

    whole = Quantization(scale=1.0, zero_point=0, rounding="nearest_even")
    return image_spec(*steps, **{"scale": 1.0, "dtype": "uint8", "quantization": whole, "layout": "nhwc", **changes})


def processor_spec(name: str, config: dict[str, Any]) -> ImageSpec:
    """The spec of one of transformers' image processors with this configuration (missing keys: its defaults)."""
    channels = 3
    how = {"filter": FILTERS[config["resample"]]}
    size, steps, changes = config["size"], [], {}
    if name == "Donut":
        steps = _donut(size, config, how)
    elif name in ("Detr", "Yolos", "RTDetr"):
        steps = [_detector_resize(name, size, how)]
        if config["do_pad"] and "pad_size" in config:
            steps.append(pad("size", **config["pad_size"], position="top_left", stage="normalized"))
        changes["mask"] = "mask"
    elif name == "DPT":
        mode = "least_change" if config["keep_aspect_ratio"] else "stretch"
        multiple = {"multiple_of": config["ensure_multiple_of"], "rounding": "nearest_even"}
        steps = [resize(mode, size["height"], size["width"], **how, **multiple)]
        if config["do_pad"]:
            steps.append(pad("multiple", multiple_of=config["size_divisor"], stage="normalized"))
    elif name == "ConvNext":
        edge = size["shortest_edge"]
        if edge < 384:
            scaled = int(edge / config["crop_pct"])
            steps = [resize("shortest_edge", scaled, scaled, **how), crop(edge, edge)]
        else:
            steps = [resize("stretch", edge, edge, **how)]
    elif "shortest_edge" in size:
        edge = int((256 / 224) * size["shortest_edge"]) if name == "Levit" else size["shortest_edge"]
        steps = [resize("shortest_edge", edge, edge, **how)]
    else:
        steps = [resize("stretch", size["height"], size["width"], **how)]
    if config.get("do_center_crop", False):
        steps.append(crop(**config["crop_size"]))
    normalized = config.get("do_normalize", name != "MobileViT")
    mean = tuple(config["image_mean"]) if normalized else (0.0,) * channels
    std = tuple(config["image_std"]) if normalized else (1.0,) * channels
    if name == "EfficientNet":
        changes["offset"] = -1.0 if config["rescale_offset"] else 0.0
        std += tuple(config["image_std"]) if config["include_top"] else ()
    if name == "MobileViT" and config["do_flip_channel_order"]:
        changes["colour"] = "bgr"
    return image_spec(*steps, scale=config["rescale_factor"], mean=mean, std=std, **changes)


def _donut(size: dict[str, int], config: dict[str, Any], how: dict[str, str]) -> list[Any]:
    height, width = size["height"], size["width"]
    steps: list[Any] = []
    if config["do_align_long_axis"]:
        steps.append(Align(step="align_long_axis", height=height, width=width))
    steps.append(resize("shortest_edge", min(height, width), min(height, width), **how))
    if config["do_thumbnail"]:
        steps.append(resize("thumbnail", height, width, filter="bicubic"))
    if config["do_pad"]:
        steps.append(pad("size", height, width))
    return steps


def _detector_resize(name: str, size: dict[str, int], how: dict[str, str]) -> Resize:
    if "shortest_edge" in size:
        multiple = 16 if name == "Yolos" else 1
        edge = size["shortest_edge"]
        return resize("shortest_edge", edge, edge, longest=size["longest_edge"], multiple_of=multiple, **how)
    if "max_height" in size:
        return resize("fit", size["max_height"], size["max_width"], **how)
    return resize("stretch", size["height"], size["width"], **how)
