"""Image processors of a Hugging Face folder: from `preprocessor_config.json` to an ImageSpec.

What the config says decides; what it leaves out is its class's default (DEFAULTS). transformers' Pillow ("slow")
processors are the referee, a `...Fast` class is read as its slow twin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Union

from edgekit.errors import InputError, ManifestError
from edgekit.packaging.hub_folder import Config
from edgekit.packaging.image_defaults import ALIASES, CLASS_OF_MODEL, DEFAULTS, Defaults
from edgekit.packaging.questions import Questions
from edgekit.specs.image import Align, Crop, ImageSpec, Pad, Resize
from edgekit.specs.tensor import Quantization

Step = Union[Align, Resize, Crop, Pad]
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's number, which `resample` is."""

_UNDERSTOOD = frozenset(
    (
        "do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad", "do_convert_rgb",
        "do_flip_channel_order", "do_thumbnail", "do_align_long_axis", "do_reduce_labels",
        "do_convert_annotations",
    )
)  # fmt: skip
"""The switches whose meaning this module knows; another one that is on is refused, not passed over."""


class ImagePort(NamedTuple):
    """What the graph takes: datatype, layout and size (-1: any) of its picture, and whether it takes a mask."""

    value: str
    mask: str | None
    dtype: str
    layout: str
    height: int
    width: int
    quantization: Quantization | None


class Keys:
    """The config's keys over its class's defaults, each read by its type."""

    def __init__(self, config: Config, name: str, defaults: Defaults) -> None:
        self.config = config
        self.name = name
        self.defaults = defaults

    def get(self, key: str) -> Any:
        """The value, where the config has none or null that of the class, else None."""
        found = self.config.get(key)
        return self.defaults.values.get(key) if found is None else found

    def on(self, key: str) -> bool:
        """A switch; null switches off, as it does in transformers."""
        found = self.config[key] if key in self.config else self.defaults.values.get(key)
        if found is not None and not isinstance(found, bool):
            raise self.wrong(key, "true or false", found)
        return bool(found)

    def number(self, key: str) -> float:
        """A number. Raises InputError."""
        found = self.get(key)
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            raise self.wrong(key, "a number", found)
        return float(found)

    def channels(self, key: str) -> tuple[float, ...]:
        """One number per channel; a single one stands for three."""
        found = self.get(key)
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            found = [found] * 3
        if not isinstance(found, (list, tuple)) or not all(isinstance(x, (int, float)) for x in found):
            raise self.wrong(key, "a number per channel", found)
        return tuple(float(x) for x in found)

    def size(self, key: str, square: bool) -> dict[str, int]:
        """A size dictionary; a number is a square or a shortest edge (transformers' get_size_dict)."""
        found = self.get(key)
        if isinstance(found, int) and not isinstance(found, bool):
            found = {"height": found, "width": found} if square else {"shortest_edge": found}
        elif isinstance(found, (list, tuple)) and len(found) == 2:
            found = {"height": found[0], "width": found[1]}
        if not isinstance(found, Mapping) or not all(type(n) is int and n > 0 for n in found.values() if n is not None):
            raise self.wrong(key, "whole numbers above 0 by height and width or shortest_edge", found)
        return {str(k): int(n) for k, n in found.items() if n is not None}

    def wrong(self, key: str, expected: str, found: object) -> InputError:
        return InputError(f"preprocessor_config.json: '{key}' of {self.name}: expected {expected}, got {found!r}")


def read_image(config: Config, model_type: str, port: ImagePort, ask: Questions) -> ImageSpec:
    """The image input that this processor config describes, for a graph. Raises InputError naming the key."""
    name = processor_name(config, model_type, ask)
    keys = Keys(config, name, DEFAULTS[name])
    for key, value in config.items():
        if key.startswith("do_") and value is True and key not in _UNDERSTOOD:
            raise InputError(f"preprocessor_config.json: '{key}' of {name} is not supported")
    try:
        steps = tuple(_steps(keys))
        mean, std = _normalization(keys)
        spec = ImageSpec(
            kind="image",
            value=port.value,
            mask=port.mask,
            decode="exact",
            orientation="exif",
            alpha="drop",
            colour="bgr" if keys.on("do_flip_channel_order") else "rgb",
            steps=steps,
            scale=keys.number("rescale_factor") if keys.on("do_rescale") else 1.0,
            offset=-1.0 if keys.on("do_rescale") and keys.get("rescale_offset") else 0.0,
            mean=mean,
            std=std,
            layout=port.layout,  # type: ignore[arg-type]  # nchw or nhwc
            dtype=port.dtype,  # type: ignore[arg-type]  # one of the four
            quantization=port.quantization,
        )
    except ManifestError as error:
        raise InputError(f"preprocessor_config.json of {name}: '{error.key}' {error.problem}") from None
    _check_size(spec, port, name)
    return spec


def processor_name(config: Config, model_type: str, ask: Questions) -> str:
    """The processor's class without its ending, from the config or else the model; asked for where nothing says it."""
    declared = config.get("image_processor_type") or config.get("feature_extractor_type") or ""
    name = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast)?$", "", str(declared)) or CLASS_OF_MODEL.get(model_type, "")
    name = ALIASES.get(name, name)
    if name in DEFAULTS:
        return name
    what = f"'{declared}'" if declared else f"of model_type '{model_type}'"
    return ask.choice(
        "image_processor", sorted(DEFAULTS), f"the processor {what} is unknown: which one it computes like"
    )


def _normalization(keys: Keys) -> tuple[tuple[float, ...], tuple[float, ...]]:
    normalizes = keys.on("do_normalize")
    mean = keys.channels("image_mean") if normalizes else (0.0,) * 3
    std = keys.channels("image_std") if normalizes else (1.0,) * 3
    if keys.defaults.kind == "efficientnet" and keys.get("include_top"):
        # EfficientNetImageProcessor normalises once more, with mean 0 and the same std.
        again = keys.channels("image_std")
        std = (*std, *again) if normalizes else again
    return mean, std


def _steps(keys: Keys) -> list[Step]:
    kind = keys.defaults.kind
    steps: list[Step] = []
    if kind == "donut":
        return _donut(keys)
    if keys.on("do_resize"):
        steps += _resized(keys)
    if kind == "detector":
        # A picture alone is padded only where a size is asked for.
        if _pads(keys) and keys.config.get("pad_size") is not None:
            size = keys.size("pad_size", True)
            steps.append(_pad("size", "top_left", size["height"], size["width"]))
        return steps
    if kind == "convnext":
        return steps
    if kind == "dpt":
        if keys.on("do_pad"):
            steps.append(_pad("multiple", "center", multiple_of=int(keys.number("size_divisor"))))
        return steps
    if keys.on("do_center_crop"):
        size = keys.size("crop_size", True)
        if not {"height", "width"} <= size.keys():
            raise keys.wrong("crop_size", "height and width", size)
        steps.append(_crop(size["height"], size["width"]))
    if keys.on("do_pad"):
        raise InputError(f"preprocessor_config.json: 'do_pad' of {keys.name} is not supported")
    return steps


def _pads(keys: Keys) -> bool:
    return keys.on("do_pad") if "do_pad" in keys.config else bool(keys.config.get("pad_and_return_pixel_mask", True))


def _resized(keys: Keys) -> list[Step]:
    """The resize that the size's own words ask for, with what some classes make of them."""
    kind, size = keys.defaults.kind, keys.size("size", keys.defaults.square)
    how = _filter(keys)
    edge = size.get("shortest_edge")
    if kind == "convnext":
        return _convnext(keys, edge, how)
    if kind == "detector" and edge is not None:
        longest = size.get("longest_edge", 0)
        if isinstance(keys.get("size"), int):  # configs from before size dictionaries
            longest = int(keys.config.get("max_size") or 1333)
        # YolosImageProcessor's sides are multiples of 16.
        return [
            _resize("shortest_edge", edge, edge, how, longest=longest, multiple_of=16 if keys.name == "Yolos" else 1)
        ]
    if kind == "dpt":
        multiple = int(keys.number("ensure_multiple_of"))
        mode = "least_change" if keys.get("keep_aspect_ratio") is True else "stretch"
        return [_resize(mode, *_both(keys, size), how, multiple_of=multiple, rounding="nearest_even")]
    if "max_height" in size and "max_width" in size:
        return [_resize("fit", size["max_height"], size["max_width"], how)]
    if edge is not None and "longest_edge" not in size:
        if kind == "levit":  # LevitImageProcessor.resize
            edge = int((256 / 224) * edge)
        if kind == "poolformer":
            edge = int(edge / keys.number("crop_pct"))
        return [_resize("shortest_edge", edge, edge, how)]
    if kind == "poolformer":  # PoolFormerImageProcessor.resize: a square means the shortest edge
        height, width = (int(side / keys.number("crop_pct")) for side in _both(keys, size))
        return [_resize("shortest_edge" if height == width else "stretch", height, width, how)]
    return [_resize("stretch", *_both(keys, size), how)]


def _convnext(keys: Keys, edge: int | None, how: str) -> list[Step]:
    if edge is None:
        raise keys.wrong("size", "shortest_edge", keys.get("size"))
    if edge >= 384:  # "warping (no cropping) when evaluated at 384 or larger", ConvNextImageProcessor.resize
        return [_resize("stretch", edge, edge, how)]
    scaled = int(edge / keys.number("crop_pct"))
    return [_resize("shortest_edge", scaled, scaled, how), _crop(edge, edge)]


def _donut(keys: Keys) -> list[Step]:
    found = keys.config.get("size")
    if isinstance(found, list) and len(found) == 2:  # the older extractor's order was (width, height)
        size = {"height": int(found[1]), "width": int(found[0])}
    else:
        size = keys.size("size", True)
    height, width = _both(keys, size)
    steps: list[Step] = []
    if keys.on("do_align_long_axis"):
        steps.append(Align(step="align_long_axis", height=height, width=width))
    if keys.on("do_resize"):
        short = min(height, width)
        steps.append(_resize("shortest_edge", short, short, _filter(keys)))
    if keys.on("do_thumbnail"):
        steps.append(_resize("thumbnail", height, width, "bicubic"))  # DonutImageProcessor.thumbnail's own default
    if keys.on("do_pad"):
        steps.append(_pad("size", "center", height, width, stage="pixels"))
    return steps


def _both(keys: Keys, size: Mapping[str, int]) -> tuple[int, int]:
    if not {"height", "width"} <= size.keys():
        raise keys.wrong("size", "height and width", dict(size))
    return size["height"], size["width"]


def _filter(keys: Keys) -> str:
    number = keys.get("resample")
    if type(number) is not int or not 0 <= number < len(FILTERS):
        raise keys.wrong("resample", f"0 to {len(FILTERS) - 1} (Pillow's filters)", number)
    return FILTERS[number]


def _resize(
    mode: str, height: int, width: int, how: str, *, longest: int = 0, multiple_of: int = 1, rounding: str = "floor"
) -> Resize:
    return Resize(
        step="resize",
        mode=mode,  # type: ignore[arg-type]  # one of the spec's modes
        height=height,
        width=width,
        longest=longest,
        multiple_of=multiple_of,
        rounding=rounding,  # type: ignore[arg-type]  # floor or nearest_even
        shrink_only=False,
        filter=how,  # type: ignore[arg-type]  # one of FILTERS
        antialias=True,
        coordinates="half_pixel",
        arithmetic="pillow",
    )


def _crop(height: int, width: int) -> Crop:
    return Crop(step="crop", height=height, width=width, fraction=0.0, rounding="floor", fill=0.0)


def _pad(
    to: str, position: str, height: int = 0, width: int = 0, *, multiple_of: int = 1, stage: str = "normalized"
) -> Pad:
    return Pad(
        step="pad",
        to=to,  # type: ignore[arg-type]  # size or multiple
        height=height,
        width=width,
        multiple_of=multiple_of,
        position=position,  # type: ignore[arg-type]  # top_left or center
        fill=(0.0, 0.0, 0.0),
        stage=stage,  # type: ignore[arg-type]  # pixels or normalized
    )


def final_size(spec: ImageSpec) -> tuple[int, int] | None:
    """(height, width) of every picture's tensor, None where it depends on the picture."""
    size: tuple[int, int] | None = None
    for step in spec.steps:
        if isinstance(step, Resize):
            rounded = [round(side / step.multiple_of) * step.multiple_of for side in (step.height, step.width)]
            size = (rounded[0], rounded[1]) if step.mode == "stretch" else None
        elif isinstance(step, Crop):
            size = (step.height, step.width) if step.height else None
        elif isinstance(step, Pad) and step.to == "size":
            size = (step.height, step.width)
        elif isinstance(step, Pad) and size is not None and step.to == "multiple":
            size = (
                -(-size[0] // step.multiple_of) * step.multiple_of,
                -(-size[1] // step.multiple_of) * step.multiple_of,
            )
    return size


def _check_size(spec: ImageSpec, port: ImagePort, name: str) -> None:
    """Refuse a config that makes other tensors than the graph takes."""
    takes = (port.height, port.width)
    makes = final_size(spec)
    if takes == (-1, -1) or makes == takes:
        return
    if makes is None:
        raise InputError(
            f"preprocessor_config.json of {name} makes pictures of any size, the graph takes {takes[0]} x {takes[1]}",
            hint="export the graph with free height and width, or give the processor a fixed size",
        )
    if any(axis not in (-1, side) for axis, side in zip(takes, makes)):
        raise InputError(
            f"preprocessor_config.json of {name} makes pictures of {makes[0]} x {makes[1]}, "
            f"the graph takes {takes[0]} x {takes[1]}"
        )
