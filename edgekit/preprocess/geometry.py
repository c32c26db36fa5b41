"""Sizes and offsets: what a list of geometric steps does to a picture of a given size. No pixels here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Union

from edgekit.errors import InputError
from edgekit.records import Record
from edgekit.specs.image import Align, Crop, Geometry, Pad, Resize

WORKING_PIXELS = 1 << 24
"""What a picture may always be scaled to, however small the limit on pictures is."""


class Turn(Record):
    """A quarter clockwise."""


class Scale(Record):
    """To (height, width), `reduce` times averaged first by whole factors of (y, x)."""

    height: int
    width: int
    reduce: tuple[int, int]
    step: Resize


class Window(Record):
    """A picture of (height, width) whose corner lies at (top, left) of the one before; what is outside is `fill`."""

    top: int
    left: int
    height: int
    width: int
    fill: tuple[float, ...]
    normalized: bool


Operation = Union[Turn, Scale, Window]
Steps = Sequence[Union[Align, Resize, Crop, Pad]]
Size = tuple[int, int]


def plan(steps: Steps, height: int, width: int) -> list[Operation]:
    """The operations on a picture of this size. Raises InputError when a step has no meaning for it."""
    operations: list[Operation] = []
    for step in steps:
        operation = _operation(step, height, width)
        if operation is None:
            continue
        operations.append(operation)
        height, width = (width, height) if isinstance(operation, Turn) else (operation.height, operation.width)
    return operations


def check_size(operations: Sequence[Operation], height: int, width: int, limit_pixels: int) -> None:
    """Refuse a picture so narrow that scaling it would need more than the pixels that are allowed."""
    allowed = max(limit_pixels, WORKING_PIXELS)
    tall = height
    for operation in operations:
        if isinstance(operation, Turn):
            tall = width
            continue
        needed = operation.width * max(tall, operation.height)  # the pass along rows comes first
        if needed > allowed:
            raise InputError(
                f"the picture is {height} x {width}: scaled to {operation.height} x {operation.width} it needs "
                f"{needed} pixels, allowed are {allowed}",
                hint="crop the picture to a less extreme aspect ratio",
            )
        tall = operation.height


def _operation(step: Align | Resize | Crop | Pad, height: int, width: int) -> Operation | None:
    if isinstance(step, Align):
        other_way = (step.width < step.height and width > height) or (step.width > step.height and width < height)
        return Turn() if other_way else None
    if isinstance(step, Resize):
        return _scale(step, height, width)
    if isinstance(step, Crop):
        return _crop(step, height, width)
    return _pad(step, height, width)


def _scale(step: Resize, height: int, width: int) -> Scale | None:
    new_height, new_width = target_size(step, height, width)
    if step.shrink_only and (new_height > height or new_width > width):
        return None
    if min(new_height, new_width) < 1:
        raise InputError(
            f"the picture is {height} x {width}: scaled ({step.mode}) it would be {new_height} x {new_width}",
            hint="crop the picture to a less extreme aspect ratio",
        )
    if (new_height, new_width) == (height, width):
        return None
    reduce = (1, 1)
    if step.mode == "thumbnail":  # Pillow's resize(reducing_gap=2.0)
        reduce = (int(height / new_height / 2.0) or 1, int(width / new_width / 2.0) or 1)
    return Scale(height=new_height, width=new_width, reduce=reduce, step=step)


def target_size(step: Resize, height: int, width: int) -> Size:
    """(height, width) after the step, in the order of operations of the implementation that each mode is from."""
    if step.mode == "stretch":
        if step.multiple_of == 1:
            return step.height, step.width
        factor_y, factor_x = step.height / height, step.width / width
    elif step.mode == "shortest_edge":
        return _shortest_edge(step, height, width)
    elif step.mode == "longest_edge":
        short = _whole(step.height * min(height, width) / max(height, width), step)
        long = _whole(step.height, step)
        return (long, short) if height > width else (short, long)
    elif step.mode == "thumbnail":
        return _thumbnail(step, height, width)
    else:
        factor_y, factor_x = step.height / height, step.width / width
        if step.mode == "fit":
            factor = min(factor_y, factor_x)
        elif step.mode == "cover":
            factor = max(factor_y, factor_x)
        else:  # transformers' DPT
            factor = factor_x if abs(1 - factor_x) < abs(1 - factor_y) else factor_y
        factor_y = factor_x = factor
    return _whole(factor_y * height, step), _whole(factor_x * width, step)


def _shortest_edge(step: Resize, height: int, width: int) -> Size:
    """transformers' get_resize_output_image_size, and with `longest` DETR's and YOLOS' get_size_with_aspect_ratio."""
    size: float = step.height
    short = step.height
    if step.longest and max(height, width) / min(height, width) * size > step.longest:
        size = step.longest * float(min(height, width)) / max(height, width)
        short = round(size)
        kept = height <= width if step.multiple_of > 1 else True  # YOLOS asks for the upright picture first
        if kept and min(height, width) == short:
            return _whole(height, step), _whole(width, step)
    if width < height:
        return _whole(_whole_side(size * height / width, step), step), _whole(short, step)
    return _whole(short, step), _whole(_whole_side(size * width / height, step), step)


def _whole_side(length: float, step: Resize) -> float:
    """DETR's and YOLOS's sides are cut to whole pixels before anything else."""
    return int(length) if step.longest else length


def _thumbnail(step: Resize, height: int, width: int) -> Size:
    new_height, new_width = min(height, step.height), min(width, step.width)
    if (new_height, new_width) == (height, width):
        return height, width
    if height > width:
        return new_height, _whole(width * new_height / height, step)
    if width > height:
        return _whole(height * new_width / width, step), new_width
    return new_height, new_width


def _whole(length: float, step: Resize) -> int:
    count = length / step.multiple_of
    if step.rounding == "floor":
        whole = math.floor(count)
    elif step.rounding == "ceil":
        whole = math.ceil(count)
    else:
        whole = round(count) if step.rounding == "nearest_even" else math.floor(count + 0.5)
    return whole * step.multiple_of


def _crop(step: Crop, height: int, width: int) -> Window | None:
    if step.fraction > 0.0:
        top, left = int((height - height * step.fraction) / 2), int((width - width * step.fraction) / 2)
        new_height, new_width = height - 2 * top, width - 2 * left
    else:
        new_height, new_width = step.height, step.width
        top, left = _crop_offset(step, height, new_height), _crop_offset(step, width, new_width)
    if (new_height, new_width) == (height, width):
        return None
    return Window(top=top, left=left, height=new_height, width=new_width, fill=(step.fill,), normalized=False)


def _crop_offset(step: Crop, length: int, new_length: int) -> int:
    if step.rounding == "floor":
        return (length - new_length) // 2
    if new_length > length:  # torchvision pads by a floor of its own
        return -((new_length - length) // 2)
    return round((length - new_length) / 2.0)


def _pad(step: Pad, height: int, width: int) -> Window | None:
    if step.to == "square":
        new_height = new_width = max(height, width)
    elif step.to == "multiple":
        new_height, new_width = (-(-side // step.multiple_of) * step.multiple_of for side in (height, width))
    else:
        new_height, new_width = step.height, step.width
    if new_height < height or new_width < width:
        raise InputError(f"the picture is {height} x {width} here and cannot be padded to {new_height} x {new_width}")
    if (new_height, new_width) == (height, width):
        return None
    centred = step.position == "center"
    top, left = ((new_height - height) // 2, (new_width - width) // 2) if centred else (0, 0)
    return Window(
        top=-top,
        left=-left,
        height=new_height,
        width=new_width,
        fill=step.fill,
        normalized=step.stage == "normalized",
    )


def trace(operations: Sequence[Operation], height: int, width: int) -> Geometry:
    """Where the pixels come from after all operations."""
    scale_y = scale_x = 1.0
    offset_y = offset_x = 0.0
    turned = False
    now_height, now_width = height, width
    top, left, content_height, content_width = 0, 0, height, width
    for operation in operations:
        if isinstance(operation, Turn):
            turned = True
            now_height, now_width = content_height, content_width = now_width, now_height
            continue
        if isinstance(operation, Scale):
            factor_y, factor_x = now_height / operation.height, now_width / operation.width
            scale_y, scale_x = scale_y * factor_y, scale_x * factor_x
            bottom, right = round((top + content_height) / factor_y), round((left + content_width) / factor_x)
            top, left = round(top / factor_y), round(left / factor_x)
        else:
            offset_y, offset_x = offset_y + operation.top * scale_y, offset_x + operation.left * scale_x
            bottom = min(top + content_height - operation.top, operation.height)
            right = min(left + content_width - operation.left, operation.width)
            top, left = max(top - operation.top, 0), max(left - operation.left, 0)
        content_height, content_width = bottom - top, right - left
        now_height, now_width = operation.height, operation.width
    return Geometry(
        height=height,
        width=width,
        scale_y=scale_y,
        scale_x=scale_x,
        offset_y=offset_y,
        offset_x=offset_x,
        content_top=top,
        content_left=left,
        content_height=content_height,
        content_width=content_width,
        turned=turned,
    )
