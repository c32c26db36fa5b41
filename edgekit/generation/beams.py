"""Beam search: several texts grow side by side, and the best of those that ended is taken.

The rule is that of transformers 4.57 (`_beam_search` in `generation/utils.py`) for one input. Each text has caches of
its own that are never moved: going on from another one is to take its arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from edgekit.arrays import Float32
from edgekit.errors import GraphRefused
from edgekit.generation.loop import Grow, Standing
from edgekit.generation.token_choice import Bounds, Rule
from edgekit.specs.generation import Choice

Row = Float32


class Open(NamedTuple):
    """A text that may go on. score: the sum of its tokens' log probabilities; unread: tokens not fed yet."""

    score: np.float32
    tokens: tuple[int, ...]
    at: Standing | None
    unread: tuple[int, ...]


class Ended(NamedTuple):
    """A text that ended, with its score / length ** length_penalty."""

    score: np.float32
    tokens: tuple[int, ...]


def search(
    grow: Grow,
    choice: Choice,
    active: Sequence[Rule],
    prompt: Sequence[int],
    bounds: Bounds,
    observe: Callable[[Row, float], None] | None,
) -> list[int]:
    """The tokens after the prompt of the best text, the one that ends it among them.

    observe: called for each of them, with the first step's logits and the margin by which the whole text won, relative
    to its score. Raises GraphRefused when the decoder's answer is no number.
    """
    running, ended = [Open(np.float32(0), tuple(prompt), None, tuple(prompt))], list[Ended]()
    ends, count = frozenset(bounds.eos), choice.beams
    first: Row | None = None
    length, improvable = len(prompt), length_left(bounds)
    while improvable:
        rows, standing = [], []
        for text in running:
            logits, at = grow(text.at, text.unread)
            if first is None:
                first = logits.copy()
            rows.append(_scored(logits, text, choice, active))
            standing.append(at)
        places, scores = _top(np.concatenate(rows), max(2, 1 + len(ends)) * count)
        found = [divmod(place, len(rows[0])) for place in places]
        length += 1
        hits = [token in ends or length >= bounds.max_length for _, token in found]
        if len(ended) < count or choice.early_stopping != "full":
            over = np.float32((length - len(prompt)) ** choice.length_penalty)
            new = [
                Ended(np.float32(score / over), (*running[beam].tokens, token))
                for (beam, token), score, hit in zip(found[:count], scores, hits)
                if hit
            ]
            ended = sorted([*ended, *new], key=lambda text: -text.score)[:count]
        running = [
            Open(score, (*running[beam].tokens, token), standing[beam], (token,))
            for (beam, token), score, hit in zip(found, scores, hits)
            if not hit
        ][:count]
        if not running or (len(ended) == count and choice.early_stopping == "full"):
            break
        improvable = len(ended) < count or _may_improve(running[0].score, ended[-1].score, length, bounds, choice)
    if not ended:
        raise GraphRefused("the decoder leaves no token to go on with")
    tokens = list(ended[0].tokens[len(prompt) :])
    if observe is not None and first is not None:
        gap = float(ended[0].score - ended[1].score) if len(ended) > 1 else np.inf
        for _ in tokens:
            observe(first, gap / max(abs(float(ended[0].score)), 1e-12))
    return tokens


def length_left(bounds: Bounds) -> bool:
    """Whether the text may get a token."""
    return bounds.prompt_length < bounds.max_length


def _may_improve(open_score: np.float32, worst: np.float32, length: int, bounds: Bounds, choice: Choice) -> bool:
    """Whether the best open text could still come among the ended ones."""
    longest = choice.early_stopping == "never" and choice.length_penalty > 0.0
    reach = (bounds.max_length if longest else length) - bounds.prompt_length
    return bool(np.float32(open_score / np.float32(reach**choice.length_penalty)) > worst)


def _scored(logits: Row, text: Open, choice: Choice, active: Sequence[Rule]) -> Row:
    """The score of the text with each token."""
    scores = _log_softmax(logits)
    if np.isnan(scores).any():
        raise GraphRefused("the decoder's logits are not numbers (NaN)")
    for rule in active:
        rule(scores, text.tokens)
    if choice.renormalize:
        scores = _log_softmax(scores)
    scores += text.score
    return scores


def _log_softmax(logits: Row) -> Row:
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum(dtype=np.float32)), np.float32)


def _top(scores: Row, count: int) -> tuple[list[int], list[np.float32]]:
    """The places of the largest scores that are allowed at all, best first, and the scores."""
    if count < len(scores):
        places = np.sort(np.argpartition(-scores, count)[:count])
    else:
        places = np.arange(len(scores))
    places = places[np.argsort(-scores[places], kind="stable")]
    places = places[scores[places] > -np.inf]
    return places.tolist(), list(scores[places])
