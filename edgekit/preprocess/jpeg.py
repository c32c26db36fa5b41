"""JPEG files straight into arrays, by simplejpeg where it is installed (`edgekit-sdk[jpeg]`).

Pillow keeps four bytes a pixel and hands an array out in pieces; the same libjpeg-turbo can write the array itself.
It is used only where it gives Pillow's own pixels, which is tried once, and only for what it takes without complaint.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from edgekit.arrays import Uint8

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from PIL.JpegImagePlugin import JpegImageFile

REDUCTIONS = (8, 4, 2)
"""What libjpeg-turbo leaves out while decoding, per side: all but one pixel of so many."""


def draft(image: PillowImage, reduction: int) -> Any:
    """Let Pillow decode at this reduction: what `Image.draft` answers, (mode, box) or None."""
    size = (image.width // reduction, image.height // reduction)
    return image.draft(None, size)  # type: ignore[arg-type,unused-ignore]  # older Pillows declare a str, and take None


def decode_array(image: JpegImageFile, data: bytes, reduction: int) -> Uint8 | None:
    """(H, W, 3) as `np.asarray(image)` would give it; None where Pillow has to decode.

    image: opened from `data`, its size checked, after `draft` for a reduction above 1.
    """
    library = _library()
    return None if library is None else _decoded(library, image, data, reduction)


def _decoded(library: Any, image: JpegImageFile, data: bytes, reduction: int) -> Uint8 | None:
    width, height = image.size
    smaller = {"min_height": height, "min_width": width, "min_factor": float(reduction)} if reduction > 1 else {}
    try:
        header = library.decode_jpeg_header(data, **smaller)
        if header[:3] != (height, width, "YCbCr") or image.mode != "RGB":  # what it allocates was checked by Pillow
            return None
        pixels: Uint8 = library.decode_jpeg(data, "RGB", **smaller)
    except ValueError:  # damage: Pillow tells what is still a picture
        return None
    return pixels


@lru_cache(maxsize=1)
def _library() -> Any:
    """simplejpeg, if it is here and decodes one picture as Pillow does at every reduction."""
    try:
        import simplejpeg
    except ImportError:
        return None
    import numpy as np
    from PIL import Image, JpegImagePlugin

    colours = np.add.outer(np.arange(40), 7 * np.arange(56))[:, :, None] * np.array([3, 5, 11]) % 256
    file = BytesIO()
    Image.fromarray(colours.astype(np.uint8)).save(file, "JPEG", quality=90)
    for reduction in (1, *REDUCTIONS):
        image = JpegImagePlugin.JpegImageFile(BytesIO(file.getvalue()))
        if reduction > 1:
            draft(image, reduction)
        mine = _decoded(simplejpeg, image, file.getvalue(), reduction)
        if mine is None or not np.array_equal(mine, np.asarray(image)):
            return None
    return simplejpeg
