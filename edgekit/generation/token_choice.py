"""From logits to the next token: rules that forbid or weigh tokens, then the largest, or a draw.

The rules and their order are those of transformers 4.57 (`generation/logits_process.py`; for timestamps OpenAI's
whisper, `decoding.py`). A draw is numpy's: PCG64 from the seed, one uniform number a token, so that a seed gives the
same text with the same logits on every machine; it is not the draw that another library makes from the same seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from edgekit.arrays import Array, Float32, Float64
from edgekit.specs.generation import Choice, Timestamps

Scores = Float32
Rule = Callable[[Scores, Sequence[int]], None]
"""Changes scores (vocabulary,) in place, given all tokens so far, the prompt's among them."""
Choose = Callable[[Scores, Sequence[int]], int]

FORBIDDEN = np.float32(-np.inf)


class Bounds(NamedTuple):
    """Where one text stands: its prompt's length, which tokens end it, and how long it may and must be.

    min_length, max_length: tokens in all, the prompt among them.
    """

    prompt_length: int
    eos: tuple[int, ...]
    min_length: int
    max_length: int


def rules(choice: Choice, bounds: Bounds, times: Timestamps | None, no_timestamps: int | None) -> list[Rule]:
    """Only the rules that this choice has. times: those of a transcript that is to have timestamps."""
    found: list[Rule] = []
    if choice.repetition_penalty != 1.0:
        found.append(repetition(choice.repetition_penalty))
    if choice.no_repeat_ngram:
        found.append(no_repeat(choice.no_repeat_ngram))
    if bounds.min_length > bounds.prompt_length:
        found.append(not_yet(bounds.eos, bounds.min_length))
    if choice.begin_suppress:
        found.append(not_at(choice.begin_suppress, _first_free(choice, bounds)))
    if choice.suppress:
        found.append(never(choice.suppress))
    if times is not None:
        found.append(timestamps(times, no_timestamps, bounds.prompt_length, bounds.eos[0]))
    if choice.forced:
        found.append(forced({f.position: f.token for f in choice.forced}))
    if choice.last is not None:
        found.append(forced({bounds.max_length - 1: choice.last}))
    return found


def _first_free(choice: Choice, bounds: Bounds) -> int:
    """The position of the first token that is chosen: a forced one behind a prompt of one token is not."""
    return 2 if bounds.prompt_length == 1 and any(f.position == 1 for f in choice.forced) else bounds.prompt_length


def chooser(choice: Choice, active: Sequence[Rule], seed: int | None) -> Choose:
    """The function that gives the next token; seed None draws from the system's entropy. Scores are changed."""
    take = _largest if choice.mode == "greedy" else drawer(choice, seed)
    if not active:
        return lambda scores, tokens: take(scores)

    def choose(scores: Scores, tokens: Sequence[int]) -> int:
        for rule in active:
            rule(scores, tokens)
        return take(scores)

    return choose


def _largest(scores: Scores) -> int:
    return int(scores.argmax())


def repetition(penalty: float) -> Rule:
    """Tokens seen before: logit / penalty, or times it when negative."""
    factor = np.float32(penalty)

    def apply(scores: Scores, tokens: Sequence[int]) -> None:
        seen = np.asarray(tokens, np.int64)
        own = scores[seen]
        scores[seen] = np.where(own < 0, own * factor, own / factor)

    return apply


def no_repeat(size: int) -> Rule:
    """What followed an earlier run like the last size - 1 tokens is forbidden."""

    def apply(scores: Scores, tokens: Sequence[int]) -> None:
        if len(tokens) + 1 < size:
            return
        tail = list(tokens[len(tokens) - size + 1 :])
        for end in range(size - 1, len(tokens)):
            if list(tokens[end - size + 1 : end]) == tail:
                scores[tokens[end]] = FORBIDDEN

    return apply


def not_yet(eos: Sequence[int], min_length: int) -> Rule:
    """No end before min_length tokens in all."""
    ends = np.asarray(eos, np.int64)

    def apply(scores: Scores, tokens: Sequence[int]) -> None:
        if len(tokens) < min_length:
            scores[ends] = FORBIDDEN

    return apply


def not_at(banned: Sequence[int], position: int) -> Rule:
    """Forbidden as the token at this position."""
    ids = np.asarray(banned, np.int64)

    def apply(scores: Scores, tokens: Sequence[int]) -> None:
        if len(tokens) == position:
            scores[ids] = FORBIDDEN

    return apply


def never(banned: Sequence[int]) -> Rule:
    """Forbidden everywhere."""
    ids = np.asarray(banned, np.int64)

    def apply(scores: Scores, tokens: Sequence[int]) -> None:
        scores[ids] = FORBIDDEN

    return apply


def forced(positions: dict[int, int]) -> Rule:
    """The one token that may stand at a position."""

    def apply(scores: Scores, tokens: Sequence[int]) -> None:
        token = positions.get(len(tokens))
        if token is not None:
            scores.fill(FORBIDDEN)
            scores[token] = 0.0

    return apply


def timestamps(times: Timestamps, no_timestamps: int | None, prompt_length: int, eos: int) -> Rule:
    """Times come first, in pairs, never go back, and are taken when together they are likelier than any word."""
    begin, first = times.begin, times.initial_limit

    def apply(scores: Scores, tokens: Sequence[int]) -> None:
        if no_timestamps is not None:
            scores[no_timestamps] = FORBIDDEN
        new = tokens[prompt_length:]
        if not new:
            scores[:begin] = FORBIDDEN
            if first is not None:
                scores[begin + first + 1 :] = FORBIDDEN
        else:
            _pair(scores, new, begin, eos)
        words, marks = scores[:begin], scores[begin:]
        top = marks.max(initial=FORBIDDEN)
        if top > FORBIDDEN:
            together = top + np.log(np.exp(marks - top).sum())
            if together > words.max(initial=FORBIDDEN):
                words.fill(FORBIDDEN)

    return apply


def _pair(scores: Scores, new: Sequence[int], begin: int, eos: int) -> None:
    """After the first token: an opening time needs words after it, a closing one another time or the end."""
    last_is_time = new[-1] >= begin
    open_pair = last_is_time and len(new) >= 2 and new[-2] < begin
    if last_is_time:
        if open_pair:
            scores[:eos] = FORBIDDEN
        else:
            scores[begin:] = FORBIDDEN
    latest = next((token for token in reversed(new) if token >= begin), None)
    if latest is not None:
        scores[begin : latest if open_pair else latest + 1] = FORBIDDEN


def drawer(choice: Choice, seed: int | None) -> Callable[[Scores], int]:
    """Draws one token from what temperature, top_k and top_p leave."""
    random = np.random.Generator(np.random.PCG64(seed))

    def draw(scores: Scores) -> int:
        weights = probabilities(choice, scores)
        sums = np.cumsum(weights)
        return int(np.searchsorted(sums, random.random() * sums[-1], side="right").clip(0, len(sums) - 1))

    return draw


def probabilities(choice: Choice, scores: Scores) -> Float64:
    """softmax(scores / temperature) over the top_k largest and the fewest that reach top_p; zero elsewhere."""
    logits = scores.astype(np.float64) / choice.temperature
    if 0 < choice.top_k < len(logits):
        logits[logits < np.partition(logits, -choice.top_k)[-choice.top_k]] = -np.inf
    weights = np.asarray(np.exp(logits - logits.max()))
    weights /= weights.sum()
    if choice.top_p < 1.0:
        order = np.argsort(weights, kind="stable")
        unlikely = np.cumsum(weights[order]) <= 1.0 - choice.top_p
        unlikely[-1] = False
        weights[order[unlikely]] = 0.0
        weights /= weights.sum()
    return weights


def margin(scores: Array, token: int, scale: float) -> float:
    """By how much this token's score exceeds the next best, relative to `scale`; infinite where it is alone."""
    others = np.delete(scores, token)
    best = float(others.max(initial=-np.inf))
    return np.inf if best == -np.inf else (float(scores[token]) - best) / scale
