"""How a picture becomes a tensor: decode, orient, colour, geometric steps, scale and normalise, lay out."""

from __future__ import annotations

from typing import Literal, Union

from edgekit.errors import ManifestError
from edgekit.records import Record
from edgekit.specs.tensor import Quantization

Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]


class Resize(Record):
    """Scale the picture.

    mode:
        stretch        to (height, width), aspect ignored
        shortest_edge  short side to `height` (= `width`), the long one by `rounding`; `longest` caps the long side
        longest_edge   long side to `height` (= `width`), the short one by `rounding`
        fit            the largest size inside (height, width) that keeps the aspect
        cover          the smallest size that covers (height, width) and keeps the aspect
        least_change   keeps the aspect, by the factor of (height, width) nearer to 1 (DPT)
    longest: cap of the long side in pixels, 0 = none (DETR's `longest_edge`).
    multiple_of: sides are rounded to a multiple of it, 1 = any.
    rounding: how a real side length becomes pixels.
    shrink_only: never enlarge (Pillow's `thumbnail`).
    antialias: false samples without the support growing on reduction.
    arithmetic: `pillow` is Pillow's own fixed-point resampling, to the bit; `matrix` is float32 products.
    """

    step: Literal["resize"]
    mode: Literal["stretch", "shortest_edge", "longest_edge", "fit", "cover", "least_change"]
    height: int
    width: int
    longest: int
    multiple_of: int
    rounding: Literal["floor", "nearest_even", "nearest_away", "ceil"]
    shrink_only: bool
    filter: Filter
    antialias: bool
    arithmetic: Literal["pillow", "matrix"]

    def check(self) -> None:
        for name, least in (("height", 1), ("width", 1), ("longest", 0), ("multiple_of", 1)):
            if not least <= self.__dict__[name] <= 65536:
                raise ManifestError(name, f"expected {least} to 65536, got {self.__dict__[name]}")
        if self.mode in ("shortest_edge", "longest_edge") and self.height != self.width:
            raise ManifestError("width", f"{self.mode} needs height = width, got {self.height} and {self.width}")


class Crop(Record):
    """Cut out the centre: (height, width) pixels, or `fraction` of each side (then height = width = 0).

    A picture smaller than the crop is padded with `fill` (0-255) around its centre, as transformers does.
    rounding: of the offset (length - crop) / 2: `floor` (transformers), `nearest_even` (torchvision).
    """

    step: Literal["crop"]
    height: int
    width: int
    fraction: float
    rounding: Literal["floor", "nearest_even"]
    fill: float


class Pad(Record):
    """Extend to (height, width), to a multiple of `multiple_of`, or to a square (`to`).

    position: where the picture lies in the padded one.
    fill: one number per channel, 0-255 if `stage` is `pixels`, in normalised units if it is `normalized`.
    """

    step: Literal["pad"]
    to: Literal["size", "multiple", "square"]
    height: int
    width: int
    multiple_of: int
    position: Literal["top_left", "center"]
    fill: tuple[float, ...]
    stage: Literal["pixels", "normalized"]


class ImageSpec(Record):
    """An image input; `value` names the tensor it makes, `mask` the (1, H, W) int64 mask of real pixels, if any.

    decode: `exact`, or `scaled` (JPEG decoded at 1/2, 1/4 or 1/8 but at least 2 x the resize target).
    orientation: `exif` turns the picture as its EXIF tag says; `ignore` does not.
    alpha: `drop` keeps the colours under it; `white` and `black` blend onto that background.
    colour: channel order of the tensor; `grey` has one channel (Pillow's L = 0.299 R + 0.587 G + 0.114 B).
    steps: geometric steps in order; pads of stage `normalized` come last.
    scale, offset, mean, std: y = ((x * scale + offset) - mean) / std for x in 0..255, in float32; one mean
        and std per channel.
    """

    kind: Literal["image"]
    value: str
    mask: str | None
    decode: Literal["exact", "scaled"]
    orientation: Literal["exif", "ignore"]
    alpha: Literal["drop", "white", "black"]
    colour: Literal["rgb", "bgr", "grey"]
    steps: tuple[Union[Resize, Crop, Pad], ...]
    scale: float
    offset: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: Literal["nchw", "nhwc"]
    dtype: Literal["float32", "float16", "uint8", "int8"]
    quantization: Quantization | None

    def check(self) -> None:
        channels = 1 if self.colour == "grey" else 3
        for name in ("mean", "std"):
            found = len(self.__dict__[name])
            if found != channels:
                raise ManifestError(name, f"expected {channels} numbers for {self.colour}, got {found}")
        if any(s == 0.0 for s in self.std):
            raise ManifestError("std", "0 cannot divide")
        if (self.quantization is not None) != (self.dtype in ("uint8", "int8")):
            raise ManifestError("quantization", f"goes with uint8 and int8 only, dtype is {self.dtype}")
