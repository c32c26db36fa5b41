"""Labels of tokens to entities of a text, as transformers' token classification pipeline groups them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import BackendError, BundleError, GraphRefused
from edgekit.postprocess.scores import activate
from edgekit.specs.post import Entities

Join = Callable[[list[str]], str]


class Words(NamedTuple):
    """What grouping must know about a tokenizer.

    join: tokens to the text they stand for. prefixed: it marks the pieces inside a word. unknown: its token for what it
    does not know, or None.
    """

    join: Join
    prefixed: bool
    unknown: str | None


class Piece(NamedTuple):
    """A token or a word with its label's scores; start, end: its characters."""

    word: str
    scores: Array
    start: int
    end: int
    inside: bool


class Labelled(NamedTuple):
    """A token or a word with its label."""

    label: str
    score: float
    word: str
    start: int
    end: int


def load_words(data: bytes, name: str) -> Words:
    """The facts of a `tokenizer.json`. Raises BundleError, BackendError without the tokenizers package."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise BackendError(f"grouping tokens needs tokenizers: {error}", hint="pip install tokenizers") from None
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises plain Exception
        raise BundleError(f"{name} is not readable: {error}") from None
    decoder, model = tokenizer.decoder, tokenizer.model
    join: Join = " ".join if decoder is None else decoder.decode
    return Words(join, bool(getattr(model, "continuing_subword_prefix", None)), getattr(model, "unk_token", None))


def find_entities(
    spec: Entities, logits: Array, text: str, encoding: Any, labels: Sequence[str], words: Words
) -> list[dict[str, Any]]:
    """Dictionaries of `entity_group, score, word, start, end` in the text's order, without the outside label.

    logits (1, tokens, classes), tokens padded on the right. encoding: of the tokenizers library.
    """
    if logits.ndim != 3 or len(logits) != 1 or logits.shape[2] != len(labels) or logits.shape[1] < len(encoding.ids):
        expected = f"(1, {len(encoding.ids)} or more, {len(labels)})"
        raise GraphRefused(f"'{spec.value}': expected {expected}, got {list(logits.shape)}")
    scores = activate("softmax", logits[0, : len(encoding.ids)])
    pieces = _pieces(scores, text, encoding, words)
    if spec.aggregation == "simple":
        found = [_labelled(labels, p.scores, p.word, p.start, p.end) for p in pieces]
    else:
        found = [_word(spec.aggregation, group, labels, words.join) for group in _by_word(pieces)]
    groups = [_group(group, words.join) for group in _runs(found)]
    return [group for group in groups if group["entity_group"] != spec.outside]


def _pieces(scores: Array, text: str, encoding: Any, words: Words) -> list[Piece]:
    pieces = []
    for index, token in enumerate(encoding.tokens):
        if encoding.special_tokens_mask[index]:
            continue
        start, end = encoding.offsets[index]
        shown = text[start:end]
        if words.prefixed:
            inside = len(token) != len(shown)
        else:
            inside = start > 0 and " " not in text[start - 1 : start + 1]
        if token == words.unknown:
            token, inside = shown, False
        pieces.append(Piece(token, scores[index], start, end, inside))
    return pieces


def _labelled(labels: Sequence[str], scores: Array, word: str, start: int, end: int) -> Labelled:
    best = int(scores.argmax())
    return Labelled(labels[best], float(scores[best]), word, start, end)


def _by_word(pieces: Sequence[Piece]) -> list[list[Piece]]:
    groups: list[list[Piece]] = []
    for piece in pieces:
        if groups and piece.inside:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _word(aggregation: str, pieces: Sequence[Piece], labels: Sequence[str], join: Join) -> Labelled:
    if aggregation == "first":
        scores = pieces[0].scores
    elif aggregation == "max":
        scores = max(pieces, key=lambda p: float(p.scores.max())).scores
    else:
        scores = np.mean([p.scores for p in pieces], axis=0)
    return _labelled(labels, scores, join([p.word for p in pieces]), pieces[0].start, pieces[-1].end)


def _runs(found: Sequence[Labelled]) -> list[list[Labelled]]:
    """Neighbours of one kind are one entity; `B-` begins a new one."""
    groups: list[list[Labelled]] = []
    for item in found:
        kind, begins = _kind(item.label)
        if groups and not begins and kind == _kind(groups[-1][-1].label)[0]:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def _kind(label: str) -> tuple[str, bool]:
    """An IOB label's kind, and whether it begins an entity."""
    return (label[2:], label.startswith("B-")) if label.startswith(("B-", "I-")) else (label, False)


def _group(group: Sequence[Labelled], join: Join) -> dict[str, Any]:
    return {
        "entity_group": group[0].label.split("-", 1)[-1],
        "score": float(np.mean([item.score for item in group])),
        "word": join([item.word for item in group]),
        "start": group[0].start,
        "end": group[-1].end,
    }
