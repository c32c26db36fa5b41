"""Boxes and class logits to things found in the original picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import GraphRefused
from edgekit.postprocess.scores import sigmoid, softmax
from edgekit.specs.image import Geometry
from edgekit.specs.post import Detections


def detect(
    spec: Detections, logits: Array, boxes: Array, where: Geometry, labels: Sequence[str]
) -> tuple[Array, list[str], list[float]]:
    """Boxes (n, 4) float32 as xyxy in original pixels, their labels and scores, best first.

    logits (1, queries, classes), boxes (1, queries, 4). transformers' `post_process_object_detection`.
    """
    scores, classes, queries = _scored(spec, _one(spec.logits, logits).astype(np.float64))
    kept = np.flatnonzero(scores > spec.threshold)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    if kept.size and int(classes[kept].max()) >= len(labels):
        raise GraphRefused(f"'{spec.logits}' has class {int(classes[kept].max())}, {spec.labels} {len(labels)} labels")
    corners = _corners(spec, _one(spec.boxes, boxes).astype(np.float64)[queries[kept]], where)
    return corners.astype(np.float32), [labels[i] for i in classes[kept].tolist()], scores[kept].tolist()


def _one(name: str, tensor: Array) -> Array:
    if tensor.ndim != 3 or len(tensor) != 1:
        raise GraphRefused(f"'{name}': expected (1, queries, n), got {list(tensor.shape)}")
    if not np.isfinite(tensor).all():
        raise GraphRefused(f"'{name}' has NaN or infinite numbers: no answer can be made of it")
    return np.asarray(tensor[0])


def _scored(spec: Detections, logits: Array) -> tuple[Array, Array, Array]:
    """Score, class and query of each candidate."""
    if spec.scoring == "softmax_no_object":
        probabilities = softmax(logits)[:, :-1]
        return probabilities.max(axis=-1), probabilities.argmax(axis=-1), np.arange(len(logits))
    flat = sigmoid(logits).reshape(-1)
    best = np.argsort(-flat, kind="stable")[: spec.top_k or len(logits)]
    return flat[best], best % logits.shape[1], best // logits.shape[1]


def _corners(spec: Detections, boxes: Array, where: Geometry) -> Array:
    if spec.format == "cxcywh":
        centre, half = boxes[:, :2], boxes[:, 2:] / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
    if spec.unit == "picture":
        return np.asarray(boxes * np.array([where.width, where.height] * 2, np.float64))
    scale, offset = [where.scale_x, where.scale_y] * 2, [where.offset_x, where.offset_y] * 2
    turned = np.asarray(boxes * np.array(scale) + np.array(offset))
    if not where.turned:
        return turned
    left, top, right, bottom = turned.T  # the original's point is (y, height - x)
    return np.stack([top, where.height - right, bottom, where.height - left], axis=1)
