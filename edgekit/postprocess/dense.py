"""A number or a class for each pixel of the original picture."""

from __future__ import annotations

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import GraphRefused
from edgekit.specs.image import Geometry
from edgekit.specs.post import Depth, Segmentation

Taps = tuple[Array, Array]
"""Source positions (n, taps) and their float32 weights for each of n places."""

BLOCK_BYTES = 16 << 20
CUBIC = -0.75
"""torch.nn.functional.interpolate's coefficient of its cubic convolution (Keys 1981)."""


def taps(size: int, new_size: int, mode: str) -> Taps:
    """The weighted sum that each of `new_size` places is; torch's `interpolate(align_corners=False)`, no antialias.

    The middle of place i lies at (i + 0.5) * size / new_size - 0.5; outside, the edge goes on.
    """
    middle = (np.arange(new_size, dtype=np.float32) + np.float32(0.5)) * np.float32(size / new_size) - np.float32(0.5)
    if mode == "bilinear":
        middle = np.maximum(middle, np.float32(0))
        reach: tuple[int, ...] = (0, 1)
    else:
        reach = (-1, 0, 1, 2)
    start = np.floor(middle)
    t = middle - start
    positions = np.stack([np.clip(start.astype(np.int64) + k, 0, size - 1) for k in reach], axis=1)
    if mode == "bilinear":
        return positions, np.stack([1 - t, t], axis=1)
    return positions, np.stack([_outer(1 + t), _inner(t), _inner(1 - t), _outer(2 - t)], axis=1).astype(np.float32)


def _inner(x: Array) -> Array:
    """Keys' kernel for |x| <= 1."""
    return np.asarray(((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1)


def _outer(x: Array) -> Array:
    """Keys' kernel for 1 < |x| < 2."""
    return np.asarray(((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC)


def _gathered(planes: Array, along: Taps, axis: int) -> Array:
    positions, weights = along
    shape = [1] * planes.ndim
    shape[axis] = len(positions)
    parts = (
        np.take(planes, positions[:, k], axis=axis) * weights[:, k].reshape(shape) for k in range(positions.shape[1])
    )
    return np.asarray(sum(parts))


def resize(plane: Array, height: int, width: int, mode: str) -> Array:
    """(h, w) float32 to (height, width)."""
    if plane.shape == (height, width):
        return plane
    wide = _gathered(plane, taps(plane.shape[1], width, mode), 1)
    return _gathered(wide, taps(plane.shape[0], height, mode), 0)


def depth(spec: Depth, value: Array, where: Geometry) -> Array:
    """The depth of each pixel, float32 (height, width) of the original."""
    plane = value.reshape(value.shape[-2:]) if value.size == int(np.prod(value.shape[-2:])) else None
    if plane is None:
        raise GraphRefused(f"'{spec.value}': expected one map (1, h, w), got {list(value.shape)}")
    if not np.isfinite(plane).all():
        raise GraphRefused(f"'{spec.value}' has NaN or infinite numbers: no answer can be made of it")
    return resize(plane.astype(np.float32), where.height, where.width, spec.resize).astype(np.float32, copy=False)


def segment(spec: Segmentation, value: Array, where: Geometry, classes: int) -> Array:
    """The class of each pixel, (height, width) of the original, uint8 or for more than 256 classes uint16."""
    dtype = np.uint8 if classes <= 256 else np.uint16
    if value.ndim not in (3, 4) or len(value) != 1 or (value.ndim == 4 and value.shape[1] != classes):
        raise GraphRefused(f"'{spec.value}': expected (1, {classes}, h, w), got {list(value.shape)}")
    planes = value[0]
    if value.ndim == 3:
        rows = np.arange(where.height) * planes.shape[0] // where.height
        columns = np.arange(where.width) * planes.shape[1] // where.width
        return np.asarray(planes[rows][:, columns]).astype(dtype)
    if not np.isfinite(planes).all():
        raise GraphRefused(f"'{spec.value}' has NaN or infinite numbers: no answer can be made of it")
    planes = planes.astype(np.float32, copy=False)
    down, across = taps(planes.shape[1], where.height, "bilinear"), taps(planes.shape[2], where.width, "bilinear")
    mask = np.empty((where.height, where.width), dtype)
    block = max(1, BLOCK_BYTES // (4 * classes * max(where.width, 1)))
    for top in range(0, where.height, block):  # all classes at full size would not fit a board's memory
        part = (down[0][top : top + block], down[1][top : top + block])
        mask[top : top + block] = _gathered(_gathered(planes, part, 1), across, 2).argmax(axis=0)
    return mask
