"""How well a result agrees with another one or with a label, 0 to 1, by the kind of result."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from edgekit import results
from edgekit.arrays import Array
from edgekit.errors import InputError

IOU_SAME = 0.5

MEASURES: dict[type[results.Result], str] = {
    results.Classification: "same label",
    results.Similarity: "same label",
    results.Embedding: "cosine",
    results.Detections: "F1 at IoU 0.5",
    results.Segmentation: "same pixels",
    results.Depth: "1 - relative error",
    results.Entities: "F1 of entities",
    results.Transcript: "1 - word error rate",
    results.Text: "1 - word error rate",
    results.Raw: "cosine",
}
"""What agreement means for each kind of result."""


def measure_name(result: results.Result, *, labelled: bool) -> str:
    """The name of the score that `agreement` or `correctness` gives for this kind."""
    if labelled:
        return "word accuracy" if isinstance(result, (results.Transcript, results.Text)) else "accuracy"
    return MEASURES.get(type(result), "equality")


def correctness(result: results.Result, label: str) -> float:
    """1 for the right label, or 1 minus the word error rate of a text. Raises InputError for other results."""
    if isinstance(result, (results.Classification, results.Similarity)):
        return float(result.label == label)
    if isinstance(result, (results.Transcript, results.Text)):
        return 1.0 - min(1.0, word_error_rate(label.lower().split(), result.text.lower().split()))
    raise InputError(
        f"a {type(result).__name__.lower()} has no label to be right about",
        hint="leave the labels out: the first model's answers are the reference then",
    )


def agreement(reference: results.Result, other: results.Result) -> float:
    """How much the other result is like the reference, 0 to 1. Raises InputError for different kinds."""
    if type(reference) is not type(other):
        raise InputError(f"expected a {type(reference).__name__}, got a {type(other).__name__}")
    a: Any = reference
    b: Any = other
    if isinstance(reference, (results.Classification, results.Similarity)):
        return float(a.label == b.label)
    if isinstance(reference, results.Embedding):
        return cosine(a.embedding, b.embedding)
    if isinstance(reference, results.Detections):
        return _boxes_f1(a, b)
    if isinstance(reference, results.Segmentation):
        return float((a.mask == b.mask).mean()) if a.mask.shape == b.mask.shape else 0.0
    if isinstance(reference, results.Depth):
        return _relative(a.predicted_depth, b.predicted_depth)
    if isinstance(reference, results.Entities):
        return _f1([_entity(e) for e in a.entities], [_entity(e) for e in b.entities])
    if isinstance(reference, results.Transcript):
        return 1.0 - min(1.0, word_error_rate(a.text.split(), b.text.split()))
    if isinstance(reference, results.Text):
        return 1.0 - min(1.0, word_error_rate(a.tokens, b.tokens))
    if isinstance(reference, results.Raw):
        shared = [name for name in a.tensors if name in b.tensors and a.tensors[name].shape == b.tensors[name].shape]
        return min((cosine(a.tensors[name], b.tensors[name]) for name in shared), default=0.0)
    return float(reference == other)


def _entity(entity: dict[str, Any]) -> tuple[Hashable, ...]:
    return tuple(entity.get(key) for key in ("entity_group", "start", "end", "word"))


def cosine(a: Array, b: Array) -> float:
    """The cosine of two tensors as vectors; 1 for two zeros, 0 for other shapes and for NaN."""
    x, y = np.asarray(a, np.float64).reshape(-1), np.asarray(b, np.float64).reshape(-1)
    if x.shape != y.shape:
        return 0.0
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    if lengths == 0.0:
        return float(not x.any() and not y.any())
    found = float(x @ y) / lengths
    return found if np.isfinite(found) else 0.0


def _relative(a: Array, b: Array) -> float:
    if a.shape != b.shape:
        return 0.0
    x, y = a.astype(np.float64), b.astype(np.float64)
    error = float(np.abs(x - y).sum() / max(np.abs(x).sum(), 1e-12))
    return max(0.0, 1.0 - error) if np.isfinite(error) else 0.0


def _f1(want: Sequence[Hashable], got: Sequence[Hashable]) -> float:
    if not want and not got:
        return 1.0
    return 2 * len(set(want) & set(got)) / (len(set(want)) + len(set(got)))


def _boxes_f1(want: results.Detections, got: results.Detections) -> float:
    """Each box of the one may match one of the other: same label, IoU from 0.5 on, best score first."""
    n, m = len(want.labels), len(got.labels)
    if not n and not m:
        return 1.0
    left = set(range(n))
    matched = 0
    for i in range(m):
        best, overlap = -1, IOU_SAME
        for j in left:
            if want.labels[j] == got.labels[i]:
                iou = _iou(want.boxes[j], got.boxes[i])
                if iou >= overlap:
                    best, overlap = j, iou
        if best >= 0:
            left.discard(best)
            matched += 1
    return 2 * matched / (n + m)


def _iou(a: Any, b: Any) -> float:
    width = max(0.0, float(min(a[2], b[2]) - max(a[0], b[0])))
    height = max(0.0, float(min(a[3], b[3]) - max(a[1], b[1])))
    inside = width * height
    whole = float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])) - inside
    return inside / whole if whole > 0 else 0.0


def word_error_rate(want: Sequence[Hashable], got: Sequence[Hashable]) -> float:
    """Levenshtein distance by the number of wanted words; 0 for two empty ones."""
    if not want:
        return float(bool(got))
    row = list(range(len(got) + 1))
    for i, word in enumerate(want, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1] / len(want)
