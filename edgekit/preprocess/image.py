"""A decoded picture becomes a tensor: geometric steps, then a table of 256 numbers per channel, then the layout.

Exact means: the numbers that Pillow's resize of the whole picture and numpy's normalisation of it give, to the bit.
"""

from __future__ import annotations

from typing import Union

import numpy as np
from PIL import Image

from edgekit.arrays import Array, Uint8
from edgekit.preprocess import geometry, levels
from edgekit.preprocess.picture import Box, Picture
from edgekit.preprocess.resample import resample, resample_rounded
from edgekit.preprocess.weights import Axis, reach
from edgekit.specs.image import Geometry, ImageSpec

Pixels = Union[Image.Image, Uint8]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def transform(spec: ImageSpec, picture: Picture) -> tuple[dict[str, Array], Geometry]:
    """The tensor `spec.value` (batch axis 1), the mask if the spec names one, and where the tensor's pixels come from.

    Every array is new and belongs to the caller. Raises InputError when a step has no meaning for this size.
    """
    operations = geometry.plan(spec.steps, picture.height, picture.width)
    outer = None
    inner = operations
    if operations and isinstance(operations[-1], geometry.Window) and operations[-1].normalized:
        outer, inner = operations[-1], operations[:-1]
    pixels = _as_array(_move(picture, inner))
    tensors = {spec.value: _to_tensor(spec, pixels, outer)}
    where = geometry.trace(operations, picture.height, picture.width)
    if spec.mask is not None:
        tensors[spec.mask] = _mask(spec, pixels, outer, where)
    return tensors, where


def _move(picture: Picture, operations: list[geometry.Operation]) -> Pixels:
    """The geometric steps; a crop right after a resize is taken together with it."""
    pixels: Pixels = picture.pixels
    box = picture.box
    at = 0
    while at < len(operations):
        operation = operations[at]
        at += 1
        if isinstance(operation, geometry.Turn):
            turn = Image.Transpose.ROTATE_270
            pixels = pixels.transpose(turn) if isinstance(pixels, Image.Image) else np.rot90(pixels, 3)
        elif isinstance(operation, geometry.Window):
            pixels = _window(pixels, operation)
        else:
            cut = geometry.Window(
                top=0, left=0, height=operation.height, width=operation.width, fill=(), normalized=False
            )
            following = operations[at] if at < len(operations) else None
            if isinstance(following, geometry.Window) and _inside(following, operation):
                cut, at = following, at + 1
            pixels = _resize(pixels, operation, cut, box)
        height, width = _size(pixels)
        box = (0.0, 0.0, float(width), float(height))
    return pixels


def _inside(window: geometry.Window, scale: geometry.Scale) -> bool:
    fits = window.top + window.height <= scale.height and window.left + window.width <= scale.width
    return fits and window.top >= 0 and window.left >= 0


def _size(pixels: Pixels) -> tuple[int, int]:
    return (pixels.height, pixels.width) if isinstance(pixels, Image.Image) else (pixels.shape[0], pixels.shape[1])


def _as_array(pixels: Pixels) -> Uint8:
    if isinstance(pixels, Image.Image):
        array = np.asarray(pixels)
        return array if array.ndim == 3 else array[:, :, None]
    return pixels


def _as_image(pixels: Pixels) -> Image.Image:
    if isinstance(pixels, Image.Image):
        return pixels
    return Image.fromarray(np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]))


def _window(pixels: Pixels, window: geometry.Window) -> Pixels:
    """Crop, pad, or both at once: the part of the picture that the window shows, the rest filled."""
    height, width = _size(pixels)
    bottom, right = window.top + window.height, window.left + window.width
    if isinstance(pixels, Image.Image):
        if window.top >= 0 and window.left >= 0 and bottom <= height and right <= width:
            return pixels.crop((window.left, window.top, right, bottom))
        bands = len(pixels.getbands())
        fill = tuple(int(level) for level in window.fill) * (bands // len(window.fill))
        canvas = Image.new(pixels.mode, (window.width, window.height), fill if bands > 1 else fill[0])
        canvas.paste(pixels, (-window.left, -window.top))
        return canvas
    top, left = max(window.top, 0), max(window.left, 0)
    shown = pixels[top : min(bottom, height), left : min(right, width)]
    if shown.shape[:2] == (window.height, window.width):
        return shown
    array = np.empty((window.height, window.width, pixels.shape[2]), np.uint8)
    array[:] = window.fill
    down, across = top - window.top, left - window.left
    array[down : down + shown.shape[0], across : across + shown.shape[1]] = shown
    return array


def _resize(pixels: Pixels, scale: geometry.Scale, cut: geometry.Window, box: Box) -> Pixels:
    """The part `cut` of the picture scaled to (scale.height, scale.width)."""
    arithmetic = scale.step.arithmetic
    if scale.reduce != (1, 1) and arithmetic != "matrix":
        pixels, box = _reduce(_as_image(pixels), scale)
    if arithmetic in ("matrix", "pillow_matrix"):
        return _resize_matrix(_as_array(pixels), scale, cut, box)
    image = _as_image(pixels)
    if arithmetic == "pillow_fused" and _fuses(image, scale, cut):
        return _resize_fused(image, scale, cut, box)
    return _resize_exact(image, scale, cut, box)


def _resize_matrix(pixels: Uint8, scale: geometry.Scale, cut: geometry.Window, box: Box) -> Pixels:
    height, width = pixels.shape[:2]
    step = scale.step
    how = step.filter, step.antialias and step.filter != "nearest", step.coordinates == "asymmetric"
    rows = Axis(height, scale.height, cut.top, cut.top + cut.height, (box[1], box[3]), *how)
    columns = Axis(width, scale.width, cut.left, cut.left + cut.width, (box[0], box[2]), *how)
    if step.arithmetic == "matrix" or step.filter == "nearest":
        return resample(pixels, rows, columns)
    return resample_rounded(pixels, rows, columns, width_first=_width_first(pixels, scale.height, scale.width))


def _resize_fused(image: Image.Image, scale: geometry.Scale, cut: geometry.Window, box: Box) -> Image.Image:
    """Pillow's resize of the part that the crop shows; its corners are float32 in Pillow, hence the last bit."""
    across, down = (box[2] - box[0]) / scale.width, (box[3] - box[1]) / scale.height
    left, top = box[0] + cut.left * across, box[1] + cut.top * down
    right, bottom = box[0] + (cut.left + cut.width) * across, box[1] + (cut.top + cut.height) * down
    part = (left, top, min(right, float(image.width)), min(bottom, float(image.height)))
    return image.resize((cut.width, cut.height), _FILTERS[scale.step.filter], box=part)


def _fuses(image: Image.Image, scale: geometry.Scale, cut: geometry.Window) -> bool:
    """Whether the part alone is made as it is made in the whole: its passes in the same order, no filter that jumps."""
    same_order = _width_first(image, scale.height, scale.width) == _width_first(image, cut.height, cut.width)
    return same_order and scale.step.filter not in ("nearest", "box")


def _width_first(pixels: Pixels, new_height: int, new_width: int) -> bool:
    """Pillow's order of passes (Resample.c): since version 13 the height first where it shrinks by more than twice what
    the width does; before, the width first always."""
    height, width = _size(pixels)
    shrink_y, shrink_x = height - new_height, width - new_width
    return shrink_y <= 0 or shrink_y <= 2 * shrink_x


def _resize_exact(image: Image.Image, scale: geometry.Scale, cut: geometry.Window, box: Box) -> Image.Image:
    """Pillow's resize of the whole picture, then the crop; rows that the crop has no use for are left out if they can.

    Pillow rounds to 0-255 between its two passes. Where the width comes first, each row's result depends on that row
    alone: only those that the crop's rows are made of are resampled.
    """
    how = _FILTERS[scale.step.filter]
    full = box == (0.0, 0.0, image.width, image.height)
    two_passes = image.height != scale.height and image.width != scale.width and scale.step.filter != "nearest"
    if cut.height < scale.height and full and two_passes and _width_first(image, scale.height, scale.width):
        return _resize_needed_rows(image, scale, cut, how)
    image = image.resize((scale.width, scale.height), how, box=box)
    if (cut.height, cut.width) == (scale.height, scale.width):
        return image
    return image.crop((cut.left, cut.top, cut.left + cut.width, cut.top + cut.height))


def _resize_needed_rows(
    image: Image.Image, scale: geometry.Scale, cut: geometry.Window, how: Image.Resampling
) -> Image.Image:
    columns = (0.0, float(image.height))
    last_row = cut.top + cut.height - 1
    axis = Axis(image.height, scale.height, cut.top, last_row + 1, columns, scale.step.filter, True, False)
    low, high = reach(axis, cut.top)[0], reach(axis, last_row)[1]
    middle = image.resize((scale.width, high - low), how, box=(0, low, image.width, high))
    tall = Image.new(image.mode, (cut.width, image.height))
    tall.paste(middle.crop((cut.left, 0, cut.left + cut.width, high - low)), (0, low))
    return tall.resize((cut.width, scale.height), how).crop((0, cut.top, cut.width, cut.top + cut.height))


def _reduce(image: Image.Image, scale: geometry.Scale) -> tuple[Image.Image, Box]:
    """Averages over whole numbers of pixels first, as Pillow's `reducing_gap` does for a whole picture."""
    down, across = scale.reduce
    box = (0.0, 0.0, image.width / across, image.height / down)
    return image.reduce((across, down)), box


def _to_tensor(spec: ImageSpec, pixels: Uint8, outer: geometry.Window | None) -> Array:
    height, width, channels = pixels.shape
    table = levels.table(spec)
    top = left = 0
    full_height, full_width = height, width
    if outer is not None:
        top, left, full_height, full_width = -outer.top, -outer.left, outer.height, outer.width
    channels_first = spec.layout == "nchw"
    shape = (1, channels, full_height, full_width) if channels_first else (1, full_height, full_width, channels)
    tensor = np.empty(shape, table.dtype)
    planes = tensor[0] if channels_first else tensor[0].transpose(2, 0, 1)
    if outer is not None:
        planes[:] = levels.fill(spec, outer.fill)[:, None, None]
    planes = planes[:, top : top + height, left : left + width]
    if spec.colour == "bgr":
        pixels = pixels[:, :, ::-1]
    if levels.is_identity(table):
        planes[:] = pixels.transpose(2, 0, 1)
        return tensor
    if not channels_first and outer is None and (table == table[0]).all():
        np.take(table[0], pixels, out=tensor[0], mode="clip")
        return tensor
    chains = levels.arithmetic(spec)
    for channel in range(channels):
        plane = planes[channel]
        if chains is not None and plane.flags.c_contiguous:
            levels.compute(chains[channel], np.ascontiguousarray(pixels[:, :, channel]), plane)
        elif plane.flags.c_contiguous:
            np.take(table[channel], pixels[:, :, channel], out=plane, mode="clip")
        else:
            plane[...] = np.take(table[channel], pixels[:, :, channel], mode="clip")
    return tensor


def _mask(spec: ImageSpec, pixels: Uint8, outer: geometry.Window | None, where: Geometry) -> Array:
    height, width = (pixels.shape[0], pixels.shape[1]) if outer is None else (outer.height, outer.width)
    mask = np.zeros((1, height, width), np.int64)
    bottom, right = where.content_top + where.content_height, where.content_left + where.content_width
    mask[0, where.content_top : bottom, where.content_left : right] = 1
    return mask
