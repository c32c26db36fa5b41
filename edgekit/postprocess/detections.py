"""Boxes and class logits to things found in the original picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from edgekit.arrays import Array, Float64
from edgekit.errors import GraphRefused
from edgekit.postprocess.scores import sigmoid, softmax
from edgekit.specs.image import Geometry
from edgekit.specs.post import Anchors, Detections, Suppression


def detect(spec: Detections, logits: Array, boxes: Array, where: Geometry, labels: Sequence[str]) -> dict[str, Any]:
    """The fields of a Detections result: boxes as xyxy in original pixels, best first.

    logits (1, queries, classes), boxes (1, queries, 4 + 2 k). transformers' `post_process_object_detection`; with
    anchors and weighted suppression MediaPipe's TensorsToDetections and NonMaxSuppression calculators.
    """
    scores, classes, queries = _scored(spec, _one(spec.logits, logits).astype(np.float64))
    kept = np.flatnonzero(scores > spec.threshold)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    scores, classes, queries = scores[kept], classes[kept], queries[kept]
    if kept.size and int(classes.max()) >= len(labels):
        raise GraphRefused(f"'{spec.logits}' has class {int(classes.max())}, {spec.labels} {len(labels)} labels")
    points = _points(spec, _one(spec.boxes, boxes), queries)
    if spec.suppression is not None:
        left, points = _suppressed(spec.suppression, points, scores, classes)
        scores, classes = scores[left], classes[left]
    placed = _placed(spec, points, where).astype(np.float32)
    return {
        "boxes": _boxes(placed, turned=where.turned and spec.unit == "tensor"),
        "labels": [labels[i] for i in classes.tolist()],
        "scores": scores.tolist(),
        "keypoints": placed[:, 2:] if placed.shape[1] > 2 else None,
    }


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


def _points(spec: Detections, boxes: Array, queries: Array) -> Float64:
    """Two corners and the keypoints of each query's box, (n, 2 + k, 2) as (x, y)."""
    if boxes.shape[1] < 4 or boxes.shape[1] % 2:
        raise GraphRefused(f"'{spec.boxes}': expected (1, queries, 4 + 2 k), got {[1, *boxes.shape]}")
    points: Float64 = boxes[queries].astype(np.float64).reshape(len(queries), boxes.shape[1] // 2, 2)
    if spec.anchors is not None:
        centres = _centres(spec.anchors)
        if len(centres) != len(boxes):
            raise GraphRefused(f"'{spec.boxes}' has {len(boxes)} boxes, the manifest's anchors are {len(centres)}")
        points[:, [0, *range(2, points.shape[1])]] += centres[queries][:, None]
    if spec.format == "cxcywh":
        centre, half = points[:, 0].copy(), points[:, 1] / 2
        points[:, 0], points[:, 1] = centre - half, centre + half
    return points


@lru_cache(maxsize=4)
def _centres(anchors: Anchors) -> Float64:
    """The middle of each box's cell in tensor pixels, (boxes, 2) as (x, y)."""
    levels = []
    for stride, per_cell in zip(anchors.strides, anchors.per_cell):
        rows, columns = -(-anchors.height // stride), -(-anchors.width // stride)
        y, x = np.mgrid[:rows, :columns] + 0.5
        grid = np.stack([x * (anchors.width / columns), y * (anchors.height / rows)], axis=-1)
        levels.append(np.repeat(grid.reshape(-1, 2), per_cell, axis=0))
    centres = np.concatenate(levels)
    centres.setflags(write=False)
    return centres


def _suppressed(spec: Suppression, points: Float64, scores: Array, classes: Array) -> tuple[list[int], Float64]:
    """Which candidates are left, of candidates best first, and their points."""
    left: list[int] = []
    merged = []
    waiting = np.arange(len(points))
    while len(waiting):
        best = int(waiting[0])
        overlaps = _overlaps(points[best, :2], points[waiting, :2]) > spec.overlap
        near = overlaps & (classes[waiting] == classes[best])
        near[0] = True  # a box without an area overlaps nothing, itself included
        group = waiting[near]
        left.append(best)
        weights = scores[group] if spec.method == "weighted" else np.ones(1)
        merged.append(np.average(points[group[: len(weights)]], axis=0, weights=weights))
        waiting = waiting[~near]
    return left, np.array(merged, np.float64).reshape(-1, *points.shape[1:])


def _overlaps(box: Float64, others: Float64) -> Float64:
    """Intersection over union of a box (2, 2) with others (n, 2, 2)."""
    inner = np.minimum(box[1], others[:, 1]) - np.maximum(box[0], others[:, 0])
    shared = np.maximum(inner, 0.0).prod(axis=1)
    union = (box[1] - box[0]).prod() + (others[:, 1] - others[:, 0]).prod(axis=1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def _placed(spec: Detections, points: Float64, where: Geometry) -> Float64:
    """Points (n, m, 2) in the original picture's pixels."""
    if spec.unit == "picture":
        return np.asarray(points * np.array([where.width, where.height], np.float64))
    scale, offset = np.array([where.scale_x, where.scale_y]), np.array([where.offset_x, where.offset_y])
    turned = points * scale + offset
    if not where.turned:
        return np.asarray(turned)
    return np.stack([turned[..., 1], where.height - turned[..., 0]], axis=-1)  # the original's is (y, height - x)


def _boxes(placed: Array, *, turned: bool) -> Array:
    """Left, top, right, bottom of two corners, (n, 4); after a quarter turn the lower of the two comes first."""
    boxes = placed[:, :2].reshape(-1, 4)
    return boxes[:, [0, 3, 2, 1]] if turned else boxes
