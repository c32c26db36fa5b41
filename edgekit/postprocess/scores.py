"""Logits to probabilities, and probabilities to labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import GraphRefused
from edgekit.specs.post import Classification


def softmax(logits: Array) -> Array:
    """exp(x - max) / sum over the last axis, in float64."""
    exponent = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=-1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=-1, keepdims=True))


def sigmoid(logits: Array) -> Array:
    """1 / (1 + exp(-x)) in float64, without overflow."""
    x = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


ACTIVATIONS = {"none": lambda x: np.asarray(x, np.float64), "softmax": softmax, "sigmoid": sigmoid}


def activate(name: str, logits: Array) -> Array:
    """Logits through `none`, `softmax` or `sigmoid`, float64; NaN is the graph's failure, not an answer."""
    if not np.isfinite(logits).all():
        raise GraphRefused("the graph's output has NaN or infinite numbers: no answer can be made of it")
    return ACTIVATIONS[name](logits)


def classify(spec: Classification, logits: Array, labels: Sequence[str]) -> dict[str, float]:
    """Label -> score, best first; logits (rows, classes). Equal scores keep the labels' order."""
    rows = np.asarray(logits).reshape(-1, np.asarray(logits).shape[-1])
    if rows.shape[-1] != len(labels):
        raise GraphRefused(f"'{spec.value}' has {rows.shape[-1]} classes and {spec.labels} has {len(labels)} labels")
    if spec.aggregate == "none" and len(rows) != 1:
        raise GraphRefused(f"'{spec.value}' has {len(rows)} rows where one answer is expected")
    scores = activate(spec.activation, rows)
    total = scores.max(axis=0) if spec.aggregate == "max" else scores.mean(axis=0)
    return ranked(labels, total, spec.top_k)


def ranked(labels: Sequence[str], scores: Array, top_k: int) -> dict[str, float]:
    """Label -> score, best first, `top_k` of them (0 = all). Of classes with the same label the best stands."""
    order = np.argsort(-scores, kind="stable")[: top_k or None]
    ranking: dict[str, float] = {}
    for i in order.tolist():
        ranking.setdefault(labels[i], float(scores[i]))
    return ranking
