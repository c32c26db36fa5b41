"""Frame by frame ids to text, by connectionist temporal classification (Graves 2006, best path)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import BundleError, GraphRefused
from edgekit.records import load_json
from edgekit.specs.post import Ctc

_CLEANED = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
            (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))  # fmt: skip
"""transformers' `clean_up_tokenization`."""


class Sign(NamedTuple):
    """One id as it was heard, from frame `start` up to `end`."""

    id: int
    start: int
    end: int


def read_vocabulary(data: bytes, name: str) -> dict[int, str]:
    """id -> token of a JSON file of token -> id. Raises BundleError."""
    document = load_json(data)
    if not isinstance(document, dict) or not all(type(i) is int for i in document.values()):
        raise BundleError(f"{name}: expected a JSON object of token -> id")
    return {i: token for token, i in document.items()}


def collapse(ids: Array, blank: int, first_frame: int) -> list[Sign]:
    """Runs of one id become one sign; blanks are left out."""
    if not len(ids):
        return []
    starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1))
    ends = np.append(starts[1:], len(ids))
    signs = zip(ids[starts].tolist(), starts.tolist(), ends.tolist())
    return [Sign(i, first_frame + s, first_frame + e) for i, s, e in signs if i != blank]


def transcribe(spec: Ctc, logits: Array, vocabulary: Mapping[int, str], samples: int) -> dict[str, Any]:
    """`text`, `tokens` and `timestamps` (words) from logits (rows, frames, ids) of a sound of `samples` samples."""
    if logits.ndim != 3 or not logits.shape[2]:
        raise GraphRefused(f"'{spec.value}': expected (rows, frames, ids), got {list(logits.shape)}")
    if not np.isfinite(logits).all():
        raise GraphRefused(f"'{spec.value}' has NaN or infinite numbers: no answer can be made of it")
    signs: list[Sign] = []
    for row, ids in enumerate(logits.argmax(axis=-1)):
        if spec.window:
            heard = min(spec.window, samples - row * spec.window)
            ids = ids[: max(0, (heard - spec.frame_length) // spec.frame_hop + 1)]
        signs += collapse(ids, spec.blank, row * spec.window // spec.frame_hop)
    unknown = next((s.id for s in signs if s.id not in vocabulary), None)
    if unknown is not None:
        raise GraphRefused(f"'{spec.value}' gives id {unknown}, which {spec.vocabulary} does not have")
    pieces = [" " if vocabulary[s.id] == spec.delimiter else vocabulary[s.id] for s in signs]
    return {
        "text": _finished(spec, "".join(pieces)),
        "tokens": [s.id for s in signs],
        "timestamps": _words(spec, signs, pieces),
    }


def _finished(spec: Ctc, text: str) -> str:
    text = text.strip()
    if spec.lowercase:
        text = text.lower()
    for before, after in _CLEANED if spec.cleanup else ():
        text = text.replace(before, after)
    return text


def _words(spec: Ctc, signs: list[Sign], pieces: list[str]) -> list[dict[str, Any]]:
    """start and end of each word in seconds: that of its first and last sign."""
    words: list[list[tuple[Sign, str]]] = [[]]
    for sign, piece in zip(signs, pieces):
        if piece == " ":
            words.append([])
        else:
            words[-1].append((sign, piece))
    second = spec.frame_hop / spec.rate_hz
    return [
        {
            "start": word[0][0].start * second,
            "end": word[-1][0].end * second,
            "text": _finished(spec, "".join(piece for _, piece in word)),
        }
        for word in words
        if word
    ]
