"""How pictures are decoded and resized: a choice of speed over exactness, and what it costs in levels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from edgekit.errors import InputError, ManifestError
from edgekit.manifest import Limits
from edgekit.packaging.draft import LIMITS, Draft
from edgekit.packaging.sampling import drawn_pixels
from edgekit.preprocess.image import transform
from edgekit.preprocess.picture import decode as decode_picture
from edgekit.specs.image import ImageSpec, Resize
from edgekit.specs.tensor import Quantization


class Pixels(NamedTuple):
    """decode: `ImageSpec.decode`; arithmetic: `Resize.arithmetic`; None leaves what the source has."""

    decode: str | None = None
    arithmetic: str | None = None


def with_pixels(draft: Draft, wanted: Pixels) -> Draft:
    """The draft with every picture decoded and resized this way. Raises InputError where it takes none, or cannot."""
    if wanted == Pixels():
        return draft
    pictures = {keyword: spec for keyword, spec in draft.inputs.items() if isinstance(spec, ImageSpec)}
    if not pictures:
        raise InputError(
            f"'{draft.name}' takes no picture", hint="leave out --decode and --arithmetic: they are for pictures"
        )
    try:
        changed = {keyword: _changed(spec, wanted) for keyword, spec in pictures.items()}
    except ManifestError as error:
        raise InputError(f"--arithmetic {wanted.arithmetic}: {error.problem}", hint="leave it out") from None
    return draft._replace(inputs={**draft.inputs, **changed})


def _changed(spec: ImageSpec, wanted: Pixels) -> ImageSpec:
    steps = spec.steps
    if wanted.arithmetic is not None:
        steps = tuple(s.replace(arithmetic=wanted.arithmetic) if isinstance(s, Resize) else s for s in steps)
    return spec.replace(decode=wanted.decode or spec.decode, steps=steps)


def pixel_deviation(draft: Draft) -> list[str]:
    """A line per picture input that is not exact: how far its pixels are from the exact ones, in levels of 255.

    Measured on a drawn JPEG of eight times the model's size and on the JPEG files of the draft's samples.
    """
    limits = draft.limits.replace(  # the drawn picture is ours, and may be larger than what the bundle takes
        pixels=max(draft.limits.pixels, LIMITS.pixels), image_bytes=max(draft.limits.image_bytes, LIMITS.image_bytes)
    )
    lines = []
    for keyword, spec in draft.inputs.items():
        if not isinstance(spec, ImageSpec):
            continue
        mine, exact = _levels(spec), _levels(_exact(spec))
        if mine == exact:
            continue
        found = [np.abs(_pixels(mine, limits, jpeg) - _pixels(exact, limits, jpeg)) for jpeg in _pictures(draft, spec)]
        mean, most = max(float(f.mean()) for f in found), max(int(f.max(initial=0)) for f in found)
        ways = sorted({s.arithmetic for s in spec.steps if isinstance(s, Resize)})
        lines.append(
            f"{keyword}: decode {spec.decode}, {' and '.join(ways) or 'no resize'}: mean {mean:.2g}, "
            f"at most {most} of 255 from exact pixels, measured on {_counted(len(found) - 1)}"
        )
    return lines


def _counted(samples: int) -> str:
    return "a drawn JPEG" + (f" and {samples} of the samples" if samples else "")


def _exact(spec: ImageSpec) -> ImageSpec:
    """To the bit what the original does: Pillow's, and where nothing is averaged on reduction `matrix` itself."""
    steps = (
        step.replace(arithmetic="pillow") if isinstance(step, Resize) and step.antialias else step
        for step in spec.steps
    )
    return spec.replace(decode="exact", steps=tuple(steps))


def _levels(spec: ImageSpec) -> ImageSpec:
    """The spec with the pixels themselves as its numbers."""
    channels = len(spec.mean)
    whole = Quantization(scale=1.0, zero_point=0, rounding="nearest_even")
    return spec.replace(
        scale=1.0, offset=0.0, mean=(0.0,) * channels, std=(1.0,) * channels, dtype="uint8", quantization=whole
    )


def _pixels(spec: ImageSpec, limits: Limits, jpeg: bytes) -> np.ndarray:
    return transform(spec, decode_picture(spec, jpeg, limits))[0][spec.value].astype(np.int16)


def _pictures(draft: Draft, spec: ImageSpec) -> Iterator[bytes]:
    from PIL import Image

    first = next((s for s in spec.steps if isinstance(s, Resize)), None)
    side = min(max(8 * min(first.height, first.width), 480), 3024) if first is not None else 480
    file = io.BytesIO()
    Image.fromarray(drawn_pixels(side * 4 // 3, side)).save(file, "JPEG", quality=92)
    yield file.getvalue()
    for name, content in draft.files.items():
        if name.startswith("golden/") and name.endswith((".jpg", ".jpeg")):
            yield content if isinstance(content, bytes) else content.read_bytes()
