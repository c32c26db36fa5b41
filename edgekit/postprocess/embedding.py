"""Token states to one vector, and vectors to similarities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import GraphRefused
from edgekit.postprocess.scores import activate
from edgekit.specs.post import EmbeddingSource, Pooling, Similarity


def pool(pooling: Pooling, states: Array, mask: Array | None) -> Array:
    """(n, tokens, width) to (n, width) over the tokens whose mask is 1 (sentence-transformers' `Pooling`)."""
    if mask is None:
        mask = np.ones(states.shape[:2], np.int64)
    if pooling.mode == "cls":
        return np.asarray(states[:, 0])
    if pooling.mode == "last":
        last = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
        return np.asarray(states[np.arange(len(states)), last])
    weights = mask.astype(states.dtype)[:, :, None]
    if pooling.mode == "max":
        return np.asarray(np.where(weights > 0, states, states.dtype.type(-1e9)).max(axis=1))
    return np.asarray((states * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9))


def embed(source: EmbeddingSource, values: Mapping[str, Array], normalize: bool) -> Array:
    """The (n, width) float32 embeddings of one input; with `normalize`, x / max(|x|, 1e-12)."""
    states = np.asarray(values[source.value], np.float32)
    if source.pooling is not None:
        mask = values[source.pooling.mask] if source.pooling.mask is not None else None
        states = pool(source.pooling, states, mask)
    rows = states.reshape(len(states), -1)
    if not np.isfinite(rows).all():
        raise GraphRefused(f"'{source.value}' has NaN or infinite numbers: no embedding can be made of it")
    return unit(rows) if normalize else rows


def unit(rows: Array) -> Array:
    """Each row divided by its Euclidean length."""
    lengths = np.sqrt((rows * rows).sum(axis=-1, keepdims=True))
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)


def similarity(spec: Similarity, query: Array, candidates: Array) -> Array:
    """score = activation(scale * cos(query, candidate) + bias); query (1, width), candidates (n, width) -> (n,)."""
    cosines = unit(candidates).astype(np.float64) @ unit(query).astype(np.float64)[0]
    return activate(spec.activation, spec.scale * cosines + spec.bias)
