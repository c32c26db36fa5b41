"""One input of a bundle: from what the user passes under its keyword to the values the flow starts with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit.arrays import Array
from edgekit.clock import Lap
from edgekit.errors import InputError
from edgekit.manifest import InputSpec, Limits
from edgekit.specs.audio import AudioSpec
from edgekit.specs.image import ImageSpec
from edgekit.specs.tensor import NUMPY_NAMES, TensorInput
from edgekit.specs.text import TextSpec


class Prepared:
    """The values an input gives, and what postprocessing must know about it.

    context: a Geometry, a Sound, or a text with its Tokens.
    """

    __slots__ = ("context", "values")

    def __init__(self, values: dict[str, Array], context: Any) -> None:
        self.values = values
        self.context = context


Prepare = Callable[[Any, Lap], Prepared]


def preparer(spec: InputSpec, limits: Limits, read: Callable[[str], bytes]) -> Prepare:
    """The function that decodes and transforms one input; a modality's modules are imported here, not before."""
    if isinstance(spec, ImageSpec):
        return _image(spec, limits)
    if isinstance(spec, AudioSpec):
        return _audio(spec, limits)
    if isinstance(spec, TextSpec):
        return _text(spec, limits, read)
    return _tensor(spec)


def _image(spec: ImageSpec, limits: Limits) -> Prepare:
    from edgekit.preprocess import image, picture

    def prepare(value: Any, lap: Lap) -> Prepared:
        decoded = picture.decode(spec, value, limits)
        lap("decode")
        tensors, geometry = image.transform(spec, decoded)
        lap("preprocess")
        return Prepared(tensors, geometry)

    return prepare


def _audio(spec: AudioSpec, limits: Limits) -> Prepare:
    from edgekit.preprocess import audio, sound

    def prepare(value: Any, lap: Lap) -> Prepared:
        decoded = sound.decode(spec, value, limits)
        lap("decode")
        tensors = audio.transform(spec, decoded)
        lap("preprocess")
        return Prepared(tensors, decoded)

    return prepare


def _text(spec: TextSpec, limits: Limits, read: Callable[[str], bytes]) -> Prepare:
    from edgekit.preprocess import text

    encode = text.load_encoder(spec, read)

    def prepare(value: Any, lap: Lap) -> Prepared:
        decoded = text.decode(spec, value, limits)
        values, tokens = text.transform(spec, encode, [decoded])
        lap("preprocess")
        return Prepared(values, (decoded, tokens[0]))

    return prepare


def _tensor(spec: TensorInput) -> Prepare:
    dtype = np.dtype(NUMPY_NAMES[spec.datatype])
    shape, name = spec.shape, spec.value
    fixed = [(axis, size) for axis, size in enumerate(shape) if size >= 0]

    def fits(array: Array) -> bool:
        return array.ndim == len(shape) and all(array.shape[axis] == size for axis, size in fixed)

    def prepare(value: Any, lap: Lap) -> Prepared:
        try:
            array = np.asarray(value)
        except ValueError as error:  # lists of unequal lengths
            raise InputError(
                f"'{name}': expected {dtype.name} of shape {list(shape)}, got no array ({error})"
            ) from None
        if array.dtype != dtype or (array.shape != shape and not fits(array)):
            raise InputError(
                f"'{name}': expected {dtype.name} of shape {list(shape)}, "
                f"got {array.dtype.name} of {list(array.shape)}",
                hint="-1 is a free axis; convert with numpy's astype and reshape",
            )
        lap("preprocess")
        return Prepared({name: array}, None)

    return prepare
