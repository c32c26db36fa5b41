"""From what a user passes as an image to pixels: checked before they are decoded, oriented, in the right colours."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError, InputError
from edgekit.manifest import Limits
from edgekit.preprocess import container, geometry, jpeg
from edgekit.preprocess.frame import CHANNELS, Frame
from edgekit.records import Record
from edgekit.specs.image import ImageSpec, Resize

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Box = tuple[float, float, float, float]

_EXPECTED = "a path, bytes, a PIL image, an array (H, W, 3) or (H, W) of uint8, or a Frame"
_ONE_FILE = "name one picture file that you may read"

_TO_UINT8 = {
    "f": "scale floats from 0..1 with (array * 255).round().clip(0, 255).astype('uint8')",
    "other": "array.astype('uint8') where the values are 0 to 255; 16-bit ones first: (array >> 8)",
}

SIDE_LIMIT_PIXELS = 65535
"""What a JPEG file can hold; it bounds the weights of resampling, which grow with the side."""


class Picture(Record):
    """Decoded pixels in the colours that the spec asks for.

    pixels: a PIL image (RGB or L) where Pillow's resampling follows, else uint8 (H, W, channels).
    height, width: of the original, after its orientation was applied.
    box: where the original lies in `pixels`, (left, top, right, bottom); it differs from (0, 0, width, height)
        only for a picture decoded at a reduced size.
    """

    pixels: Any
    height: int
    width: int
    box: Box


def decode(spec: ImageSpec, value: Any, limits: Limits) -> Picture:
    """The picture that a path, bytes, PIL image, array or Frame stands for.

    Too many bytes or pixels, another format than JPEG, PNG, BMP or WebP, and damage are refused with InputError;
    the size is checked before anything is decoded. Of several frames the first is taken.
    """
    if isinstance(value, Frame):
        return _from_array(spec, value.array, value.order, limits)
    if isinstance(value, (bytes, bytearray, memoryview)):
        size = memoryview(value).nbytes
        _check_bytes(size, "the image", limits)
        return _from_bytes(spec, bytes(value), f"the image ({size} bytes)", limits)
    if isinstance(value, (str, os.PathLike)):
        return _from_bytes(spec, _read(value, limits), f"image {os.fspath(value)!r}", limits)
    import numpy as np
    from PIL import Image

    if isinstance(value, np.ndarray):
        return _from_array(spec, value, "rgb", limits)
    if isinstance(value, Image.Image):
        return _from_pillow(spec, value, limits)
    raise InputError(f"image: expected {_EXPECTED}, got {type(value).__name__}", hint=_one_picture(value))


def _one_picture(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "one picture at a time; predict_batch takes several"
    if hasattr(value, "read"):
        return "pass the file's bytes (file.read()) or its path"
    return "for example image='photo.jpg'"


def _read(path: str | os.PathLike[str], limits: Limits) -> bytes:
    name = f"image {os.fspath(path)!r}"
    try:
        with open(path, "rb", opener=_open_unblocked) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise InputError(f"{name}: expected a file, got something else (a device or a pipe)", hint=_ONE_FILE)
            _check_bytes(facts.st_size, name, limits)
            return file.read(limits.image_bytes + 1)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file", hint="give its whole path, or go to its folder first") from None
    except IsADirectoryError:
        raise InputError(f"{name}: expected a file, got a folder", hint=_ONE_FILE) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{name}: cannot be read ({reason})", hint=_ONE_FILE) from None


def _open_unblocked(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a named pipe would wait for a writer


def _check_bytes(size: int, name: str, limits: Limits) -> None:
    if size > limits.image_bytes:
        raise InputError(
            f"{name}: {size} bytes, allowed are {limits.image_bytes}",
            hint="save it smaller, or package with a larger limits.image_bytes",
        )


def _check_pixels(width: int, height: int, name: str, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise InputError(f"{name}: empty, {height} x {width} pixels", hint="expected at least 1 x 1")
    if max(width, height) > SIDE_LIMIT_PIXELS:
        raise InputError(
            f"{name}: {height} x {width} pixels, a side has at most {SIDE_LIMIT_PIXELS}", hint="scale or cut it first"
        )
    if width * height > limits.pixels:
        raise InputError(
            f"{name}: {height} x {width} = {height * width} pixels, allowed are {limits.pixels}",
            hint="scale it down, or package with a larger limits.pixels",
        )


def _from_bytes(spec: ImageSpec, data: bytes, name: str, limits: Limits) -> Picture:
    form = container.sniff(data)
    if form is None:
        if not data:
            raise InputError(
                f"{name}: expected a JPEG, PNG, BMP or WebP picture, got an empty file", hint="save or copy it again"
            )
        raise InputError(
            f"{name}: expected a JPEG, PNG, BMP or WebP picture, got bytes that start with {data[:12]!r}",
            hint="save it as one of these; another format opened with Pillow can be passed as the image itself",
        )
    try:
        return _open(spec, data, form, name, limits)
    except EdgekitError:
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise InputError(
            f"{name}: a damaged or unsupported {form} file ({type(error).__name__}: {str(error)[:200]})",
            hint="open it in an image editor and save it again",
        ) from None


def _open(spec: ImageSpec, data: bytes, form: container.Format, name: str, limits: Limits) -> Picture:
    """The plugins are called directly: Image.open tries others and warns about sizes that are checked here."""
    from io import BytesIO

    orientation = 1
    image: PillowImage
    straight: Callable[[int], Any] | None = None
    if form == "JPEG":
        from PIL.JpegImagePlugin import JpegImageFile

        stripped = container.strip_jpeg(data)
        orientation = stripped.orientation
        image = opened = JpegImageFile(BytesIO(stripped.data))
        if spec.colour != "grey" and not _wants_pillow(spec):
            straight = partial(jpeg.decode_array, opened, stripped.data)
    elif form == "PNG":
        from PIL.PngImagePlugin import PngImageFile

        stripped = container.strip_png(data)
        orientation = stripped.orientation
        image = PngImageFile(BytesIO(stripped.data))
    elif form == "BMP":
        from PIL.BmpImagePlugin import BmpImageFile

        image = BmpImageFile(BytesIO(data))
    else:
        from PIL.WebPImagePlugin import WebPImageFile

        declared = container.webp_size(data)
        if declared is None:
            raise InputError(f"{name}: a damaged WEBP file (no size in its header)")
        _check_pixels(*declared, name, limits)
        image = WebPImageFile(BytesIO(data))
        orientation = container.orientation(image.info.get("exif", b""), image.info.get("xmp", b""))
    _check_pixels(*image.size, name, limits)
    orientation = orientation if spec.orientation == "exif" else 1
    drafted = form == "JPEG" and spec.decode == "scaled"
    return _finish(spec, image, orientation, limits, drafted=drafted, straight=straight if orientation == 1 else None)


def _from_pillow(spec: ImageSpec, image: PillowImage, limits: Limits) -> Picture:
    name = f"the PIL image (mode {image.mode})"
    _check_pixels(*image.size, name, limits)
    try:
        orientation = image.getexif().get(0x0112, 1) if spec.orientation == "exif" else 1
    except Exception:  # unreadable metadata says nothing about the pixels
        orientation = 1
    try:
        image.load()
        return _finish(spec, image, orientation, limits, drafted=False)
    except EdgekitError:
        raise
    except Exception as error:
        raise InputError(
            f"{name}: cannot be used ({type(error).__name__}: {str(error)[:200]})",
            hint="open it again, and do not close it before predict",
        ) from None


def _finish(
    spec: ImageSpec,
    image: PillowImage,
    orientation: int,
    limits: Limits,
    *,
    drafted: bool,
    straight: Callable[[int], Any] | None = None,
) -> Picture:
    """straight: gives the array at this reduction without the image, or None where that cannot be."""
    from PIL import Image

    turned = orientation in (5, 6, 7, 8)
    width, height = reversed(image.size) if turned else image.size
    operations = geometry.plan(spec.steps, height, width)
    geometry.check_size(operations, height, width, limits.pixels)
    box: Box = (0.0, 0.0, float(image.width), float(image.height))
    reduction = _reduction(operations, height, width) if drafted else 1
    if reduction > 1:
        done = jpeg.draft(image, reduction)
        box = box if done is None else done[1]
    array = None if straight is None else straight(reduction)
    if array is not None:
        return Picture(pixels=array, height=height, width=width, box=box)
    image.load()
    image = _eight_bits(image)
    if orientation in range(2, 9):
        box = _turn_box(box, orientation, *image.size)
        image = image.transpose(_methods(Image)[orientation])
    image = _to_colour(spec, image)
    pixels = image if _wants_pillow(spec) else _to_array(image)
    return Picture(pixels=pixels, height=height, width=width, box=box)


def _reduction(operations: Sequence[geometry.Operation], height: int, width: int) -> int:
    """The largest reduction that leaves at least twice the pixels that the first resize makes, per side."""
    first = operations[0] if operations else None
    if not isinstance(first, geometry.Scale) or first.reduce != (1, 1):
        return 1
    fitting = [r for r in jpeg.REDUCTIONS if height // r >= 2 * first.height and width // r >= 2 * first.width]
    return fitting[0] if fitting else 1


def _methods(image_module: Any) -> dict[int, Any]:
    turn = image_module.Transpose
    return {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }


def _turn_box(box: Box, orientation: int, width: int, height: int) -> Box:
    """Where the box lies after the orientation's turn or flip of an image of width x height."""
    left, top, right, bottom = box
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)


def _eight_bits(image: PillowImage) -> PillowImage:
    """A 16-bit grey picture by its upper bytes, as decoders read 16-bit colours: Pillow's conversion stops at 255.

    Pillow before 11 opens such a PNG file as mode I. Modes I and F of a user's own have no agreed full scale.
    """
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if not deep and image.mode not in ("I", "F"):
        return image
    if not deep:
        raise InputError(
            f"the PIL image (mode {image.mode}): what of its values is white is not known",
            hint="make uint8 of it first: Image.fromarray(values.astype('uint8')), with 0 to 255",
        )
    import numpy as np
    from PIL import Image

    return Image.fromarray((np.asarray(image).astype(np.int32) >> 8).clip(0, 255).astype(np.uint8))


def _to_colour(spec: ImageSpec, image: PillowImage) -> PillowImage:
    """The image as RGB or L; alpha is dropped, or blended onto the background that the spec names."""
    from PIL import Image

    wanted = "L" if spec.colour == "grey" else "RGB"
    if image.mode == wanted and "transparency" not in image.info:
        return image
    see_through = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if see_through and spec.alpha != "drop":
        colours = image.convert("RGBA")
        ground = Image.new("RGBA", colours.size, spec.alpha)
        image = Image.alpha_composite(ground, colours)
    elif "transparency" in image.info:  # Pillow warns about it when it converts, and the pixels are the same
        image = image.copy()
        del image.info["transparency"]
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return image if image.mode == wanted else image.convert(wanted)


def _wants_pillow(spec: ImageSpec) -> bool:
    return any(isinstance(s, Resize) and s.arithmetic in ("pillow", "pillow_fused") for s in spec.steps)


def _to_array(image: PillowImage) -> Any:
    import numpy as np

    array = np.asarray(image)
    return array if array.ndim == 3 else array[:, :, None]


def _from_array(spec: ImageSpec, array: Any, order: str, limits: Limits) -> Picture:
    import numpy as np
    from PIL import Image

    if order not in CHANNELS:
        raise InputError(f"Frame: expected an order of {', '.join(CHANNELS)}, got {order!r}")
    if not isinstance(array, np.ndarray):
        raise InputError(f"image: expected {_EXPECTED}, got {type(array).__name__}")
    if array.dtype != np.uint8:
        raise InputError(
            f"image array: expected uint8 (0 to 255), got {array.dtype}",
            hint=_TO_UINT8["f" if array.dtype.kind == "f" else "other"],
        )
    if array.ndim == 2 and order == "rgb":
        order = "grey"
    channels = CHANNELS[order]
    shape_fits = array.ndim == 3 and array.shape[2] == channels
    if not (shape_fits or (array.ndim == 2 and order == "grey")):
        raise InputError(
            f"image array: expected shape (H, W, {channels}) for {order}, got {array.shape}",
            hint="other orders come in a Frame(array, order='bgr'); channels are the last axis",
        )
    height, width = array.shape[:2]
    _check_pixels(width, height, "image array", limits)
    geometry.check_size(geometry.plan(spec.steps, height, width), height, width, limits.pixels)
    array = array.reshape(height, width, channels)
    plain = {"rgb": "rgb", "bgr": "rgb", "grey": "grey"}.get(order)
    if not _wants_pillow(spec) and plain == ("grey" if spec.colour == "grey" else "rgb"):
        pixels: Any = array[:, :, ::-1] if order == "bgr" else array
    else:
        mode, raw = {"rgb": ("RGB", "RGB"), "bgr": ("RGB", "BGR"), "grey": ("L", "L")}.get(
            order, ("RGBA", order.upper())
        )
        image = Image.frombuffer(mode, (width, height), np.ascontiguousarray(array), "raw", raw, 0, 1)
        image = _to_colour(spec, image)
        pixels = image if _wants_pillow(spec) else _to_array(image)
    return Picture(pixels=pixels, height=height, width=width, box=(0.0, 0.0, float(width), float(height)))
