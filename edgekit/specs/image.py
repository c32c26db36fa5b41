"""How a picture becomes a tensor: decode, orient, colour, geometric steps, scale and normalise, lay out."""

from __future__ import annotations

from typing import Literal, Union

from edgekit.errors import ManifestError
from edgekit.records import Record
from edgekit.specs.tensor import Quantization

Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]


class Align(Record):
    """Turn the picture a quarter clockwise when its long axis is not that of (height, width); Donut's, comes first."""

    step: Literal["align_long_axis"]
    height: int
    width: int


class Resize(Record):
    """Scale the picture.

    mode:
        stretch        to (height, width), aspect ignored
        shortest_edge  short side to `height` (= `width`), the long one by `rounding`; `longest` caps the long side
        longest_edge   long side to `height` (= `width`), the short one by `rounding`
        fit            the largest size inside (height, width) that keeps the aspect
        cover          the smallest size that covers (height, width) and keeps the aspect
        least_change   keeps the aspect, by the factor of (height, width) nearer to 1 (DPT)
        thumbnail      Donut's: no side above (height, width), never enlarged, the other side rounded; a reduction
                       of 4 or more goes through whole-number averaging first (Pillow's `reducing_gap` of 2)
    longest: cap of the long side in pixels, 0 = none (DETR's and YOLOS's `longest_edge`).
    multiple_of: sides are rounded to a multiple of it, 1 = any.
    rounding: how a real side length, or its number of multiples, becomes whole.
    shrink_only: never enlarge.
    antialias: false samples without the support growing on reduction: TensorFlow's and OpenCV's half-pixel
        bilinear (needs `matrix`, or `nearest`).
    coordinates: where output i lies in the input, s being the scale (ONNX's names for it): `half_pixel` (i + 0.5) s,
        the middle of a pixel being at 0.5; `asymmetric` pixel i s, TensorFlow 1's and MediaPipe's bilinear (needs
        `bilinear` and antialias = false).
    arithmetic: `pillow` is the installed Pillow's own fixed-point resampling, to the bit; `pillow_fused` computes
        only what a following crop keeps, at most 1 of 255 away; `pillow_matrix` takes Pillow's steps (those of 13) as
        float32 products, 1 of 255 away in 1e-4 of the numbers (4e-3 under bilinear, whose sums are often halves),
        faster on arrays and, with simplejpeg, on JPEG files; `matrix` rounds to 0-255 once, for frames: most pixels
        within 1, hard edges under bicubic and lanczos up to 13.
    """

    step: Literal["resize"]
    mode: Literal["stretch", "shortest_edge", "longest_edge", "fit", "cover", "least_change", "thumbnail"]
    height: int
    width: int
    longest: int
    multiple_of: int
    rounding: Literal["floor", "nearest_even", "nearest_away", "ceil"]
    shrink_only: bool
    filter: Filter
    antialias: bool
    coordinates: Literal["half_pixel", "asymmetric"]
    arithmetic: Literal["pillow", "pillow_fused", "pillow_matrix", "matrix"]

    def check(self) -> None:
        for name, least in (("height", 1), ("width", 1), ("longest", 0), ("multiple_of", 1)):
            if not least <= self.__dict__[name] <= 65536:
                raise ManifestError(name, f"expected {least} to 65536, got {self.__dict__[name]}")
        if self.mode in ("shortest_edge", "longest_edge") and self.height != self.width:
            raise ManifestError("width", f"{self.mode} needs height = width, got {self.height} and {self.width}")
        if self.longest and self.mode != "shortest_edge":
            raise ManifestError("longest", f"caps shortest_edge only, mode is {self.mode}")
        if not self.antialias and self.filter != "nearest" and self.arithmetic != "matrix":
            raise ManifestError("antialias", f"{self.arithmetic} always averages on reduction; false needs matrix")
        if self.coordinates == "asymmetric" and (self.antialias or self.filter != "bilinear"):
            raise ManifestError("coordinates", "asymmetric needs filter bilinear and antialias false")


class Crop(Record):
    """Cut out the centre: (height, width) pixels, or `fraction` of each side (then height = width = 0).

    A picture smaller than the crop is padded with `fill` (0-255) around its centre, as transformers does.
    fraction: 0 with a size; else length - 2 x floor((length - length x fraction) / 2) (TensorFlow's central_crop).
    rounding: of the offset (length - crop) / 2: `floor` (transformers), `nearest_even` (torchvision).
    """

    step: Literal["crop"]
    height: int
    width: int
    fraction: float
    rounding: Literal["floor", "nearest_even"]
    fill: float

    def check(self) -> None:
        if not 0.0 <= self.fraction <= 1.0:
            raise ManifestError("fraction", f"expected 0 to 1, got {self.fraction}")
        by_fraction = self.fraction > 0.0
        for name in ("height", "width"):
            side = self.__dict__[name]
            if not (side == 0 if by_fraction else 1 <= side <= 65536):
                raise ManifestError(name, f"expected 1 to 65536, or 0 with a fraction, got {side}")
        _check_level("fill", self.fill)


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

    def check(self) -> None:
        for name in ("height", "width"):
            if not 0 <= self.__dict__[name] <= 65536 or (self.to == "size") != (self.__dict__[name] > 0):
                raise ManifestError(name, f"expected 1 to 65536 for `size`, else 0, got {self.__dict__[name]}")
        if not 1 <= self.multiple_of <= 65536:
            raise ManifestError("multiple_of", f"expected 1 to 65536, got {self.multiple_of}")
        for index, level in enumerate(self.fill if self.stage == "pixels" else ()):
            _check_level(f"fill[{index}]", level)


def _check_level(key: str, level: float) -> None:
    if not (0.0 <= level <= 255.0 and level == int(level)):
        raise ManifestError(key, f"expected a whole number from 0 to 255, got {level}")


class ImageSpec(Record):
    """An image input; `value` names the tensor it makes, `mask` the (1, H, W) int64 mask of real pixels, if any.

    decode: `exact`, or `scaled` (JPEG decoded at 1/2, 1/4 or 1/8 but at least 2 x the resize target).
    orientation: `exif` turns the picture as its EXIF tag says; `ignore` does not.
    alpha: `drop` keeps the colours under it; `white` and `black` blend onto that background.
    colour: channel order of the tensor; `grey` has one channel (Pillow's L = 0.299 R + 0.587 G + 0.114 B).
    steps: geometric steps in order; one pad of stage `normalized` may come last.
    scale, offset, mean, std: y = ((x * scale + offset) - mean) / std for x in 0..255, where x * scale is taken in
        float64 and rounded to float32, the rest in float32 (transformers); one mean and std per channel. Twice
        as many std divide twice (EfficientNet's `include_top`).
    """

    kind: Literal["image"]
    value: str
    mask: str | None
    decode: Literal["exact", "scaled"]
    orientation: Literal["exif", "ignore"]
    alpha: Literal["drop", "white", "black"]
    colour: Literal["rgb", "bgr", "grey"]
    steps: tuple[Union[Align, Resize, Crop, Pad], ...]
    scale: float
    offset: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: Literal["nchw", "nhwc"]
    dtype: Literal["float32", "float16", "uint8", "int8"]
    quantization: Quantization | None

    def check(self) -> None:
        channels = 1 if self.colour == "grey" else 3
        if len(self.mean) != channels:
            raise ManifestError("mean", f"expected {channels} numbers for {self.colour}, got {len(self.mean)}")
        if len(self.std) not in (channels, 2 * channels):
            raise ManifestError("std", f"expected {channels} numbers for {self.colour}, got {len(self.std)}")
        if any(s == 0.0 for s in self.std):
            raise ManifestError("std", "0 cannot divide")
        if (self.quantization is not None) != (self.dtype in ("uint8", "int8")):
            raise ManifestError("quantization", f"goes with uint8 and int8 only, dtype is {self.dtype}")
        for index, step in enumerate(self.steps):
            key = f"steps[{index}]"
            if isinstance(step, Align) and index > 0:
                raise ManifestError(key, "align_long_axis comes first")
            if isinstance(step, Pad):
                if len(step.fill) != channels:
                    raise ManifestError(f"{key}.fill", f"expected {channels} numbers, got {len(step.fill)}")
                if step.stage == "normalized" and index < len(self.steps) - 1:
                    raise ManifestError(f"{key}.stage", "a pad in normalized units comes last")


class Geometry(Record):
    """Where the pixels of a tensor come from: original x = x * scale_x + offset_x, and the same for y.

    height, width: of the original picture, after its orientation was applied. Coordinates run along pixel edges:
    (0, 0) is the top left corner, (width, height) the bottom right one.
    content_*: the part of the tensor that shows picture, in tensor pixels; the rest is padding.
    turned: the picture was turned a quarter clockwise first; then the formula gives (x, y) of the turned picture,
    and the original's are (y, height - x).
    """

    height: int
    width: int
    scale_y: float
    scale_x: float
    offset_y: float
    offset_x: float
    content_top: int
    content_left: int
    content_height: int
    content_width: int
    turned: bool
