"""Models that put several kinds of input into one space: each side is embedded alone, texts only once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from edgekit import results
from edgekit.arrays import Array
from edgekit.clock import Lap
from edgekit.errors import InputError
from edgekit.postprocess import Fields, embedding
from edgekit.specs.post import Embeddings, Similarity

Values = dict[str, Array]
Run = Callable[[Mapping[str, Any], Sequence[str], Lap], Values]
"""Prepares the inputs given by keyword and runs the flow for the wanted values."""


class TextMemory:
    """The embeddings of texts seen before: at most `size` read-only arrays, the least recently used go first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[str, Array] = OrderedDict()
        self._lock = Lock()

    def get(self, text: str) -> Array | None:
        """The (1, width) embedding of this text, or None."""
        with self._lock:
            if text in self._known:
                self._known.move_to_end(text)
            return self._known.get(text)

    def put(self, text: str, vector: Array) -> Array:
        """Remember the embedding; from here on nobody can write to it."""
        kept = vector.copy()
        kept.setflags(write=False)
        with self._lock:
            self._known[text] = kept
            while len(self._known) > self._size:
                self._known.popitem(last=False)
        return kept


class Sides:
    """Embeds one input at a time for a Similarity or Embeddings task."""

    def __init__(self, spec: Similarity | Embeddings, run: Run, *, candidates: int, text_memory: int) -> None:
        self._spec = spec
        self._run = run
        self._candidates = candidates
        self._normalize = isinstance(spec, Similarity) or spec.normalize  # a cosine is of unit vectors
        self._memory = TextMemory(text_memory) if text_memory else None

    def answer(self, given: Mapping[str, Any], lap: Lap, seen: Values) -> Fields:
        """An Embedding for one side alone, a Similarity for an image or a sound against texts."""
        spec = self._spec
        texts = given.get("text")
        others = [keyword for keyword in given if keyword != "text"]
        if isinstance(spec, Embeddings) or len(given) == 1:
            if len(given) != 1:
                raise InputError(f"one input at a time has an embedding, got {', '.join(given)}")
            keyword = next(iter(given))
            if keyword == "text" and isinstance(texts, (list, tuple)):
                raise InputError(
                    f"text: expected one string, got a {type(texts).__name__}",
                    hint="several texts are the candidates for an image or a sound; give that too",
                )
            return results.Embedding, {"embedding": self._embed(keyword, given[keyword], lap, seen)[0]}
        if len(others) != 1 or texts is None:
            raise InputError(f"expected one of image or audio against text, got {', '.join(given)}")
        return self._compare(spec, others[0], given[others[0]], _labels(texts, self._candidates), lap, seen)

    def _compare(
        self, spec: Similarity, keyword: str, value: Any, labels: Sequence[str], lap: Lap, seen: Values
    ) -> Fields:
        query = self._embed(keyword, value, lap, seen)
        rows = [self._embed("text", spec.template.replace("{}", label), lap, seen) for label in labels]
        candidates = np.concatenate(rows)
        scores = embedding.similarity(spec, query, candidates)
        order = np.argsort(-scores, kind="stable").tolist()
        ranking = {labels[i]: float(scores[i]) for i in order}
        embeddings = {f"{side}_embedding": None for side in ("image", "audio")}
        return results.Similarity, {
            "label": labels[order[0]],
            "score": ranking[labels[order[0]]],
            "scores": ranking,
            **embeddings,
            f"{keyword}_embedding": query[0],
            "text_embedding": candidates,
        }

    def _embed(self, keyword: str, value: Any, lap: Lap, seen: Values) -> Array:
        known = self._memory.get(value) if self._memory and keyword == "text" and isinstance(value, str) else None
        if known is not None:
            return known
        source = self._spec.sources[keyword]
        wanted = [source.value]
        values = self._run({keyword: value}, wanted, lap)
        seen.update(values)
        vector = embedding.embed(source, values, self._normalize)
        if len(vector) != 1:
            raise InputError(f"{keyword}: expected one item, got {len(vector)}")
        return self._memory.put(value, vector) if self._memory and keyword == "text" else vector


def _labels(texts: object, limit: int) -> list[str]:
    labels = [texts] if isinstance(texts, str) else texts
    if not isinstance(labels, (list, tuple)) or not all(isinstance(label, str) for label in labels):
        raise InputError(f"text: expected a list of candidate strings, got {type(texts).__name__}")
    if not 0 < len(labels) <= limit:
        raise InputError(f"text: expected 1 to {limit} candidates, got {len(labels)}")
    if len(set(labels)) != len(labels):
        raise InputError("text: a candidate stands twice")
    return list(labels)
