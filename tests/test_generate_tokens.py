"""Issue 3, generation: the choice of tokens and the stitching of long sounds are transformers' (golden/generation.json,
made by golden/make_generation_golden.py), and text comes back piece by piece without half a character."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoding import CHOICE
from golden.make_generation_golden import (
    BEGIN,
    DRAWS,
    EOS,
    KINDS,
    LENGTHS,
    PROMPT,
    RATE_HZ,
    SILENT,
    STEP_S,
    cases,
    heard,
    overlaps,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.generation.detokenize import Pieces, clean_up
from edgekit.generation.token_choice import Bounds, chooser, margin, probabilities, rules
from edgekit.generation.transcript import Piece, Stitching, Timeline, pieces, seam
from edgekit.specs.generation import Chunks, Timestamps

ANSWERS: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "generation.json").read_text("utf-8"))
CHUNKS = Chunks(window=160, stride=30, least=1, silence=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rules_are_those_of_transformers(kind: str) -> None:
    """The same tokens allowed, the same logits left, the same winner."""
    said = KINDS[kind]
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items() if k in CHOICE.fields_}
    choice = CHOICE.replace(**fields)
    bounds = Bounds(PROMPT, (EOS,), said.get("min_length", 0), said.get("max_length", 99))
    times = Timestamps(begin=BEGIN, step_s=STEP_S, initial_limit=said.get("limit")) if "timestamps" in said else None
    active = rules(choice, bounds, times, SILENT)
    for (tokens, logits), (winner, allowed, total) in zip(cases(kind), ANSWERS["rules"][kind]):
        scores = logits.copy()
        assert chooser(choice, active, None)(scores, tokens) == winner
        finite = np.isfinite(scores)
        assert "".join("01"[int(a)] for a in finite) == allowed
        assert float(scores[finite].sum()) == pytest.approx(total, abs=2e-4)


def test_no_rule_costs_nothing() -> None:
    assert rules(CHOICE, Bounds(1, (0,), 0, 10), None, None) == []


def test_a_forced_token_is_the_only_one() -> None:
    from edgekit.specs.generation import Forced

    choice = CHOICE.replace(forced=(Forced(position=2, token=5),))
    choose = chooser(choice, rules(choice, Bounds(1, (0,), 0, 9), None, None), None)
    assert choose(np.arange(9, dtype=np.float32), [1, 1]) == 5
    assert choose(np.arange(9, dtype=np.float32), [1, 1, 5]) == 8


@pytest.mark.parametrize("kind", DRAWS)
def test_probabilities_are_those_of_transformers(kind: str) -> None:
    choice = CHOICE.replace(mode="sample", **DRAWS[kind])
    for (_, logits), want in zip(cases(kind), ANSWERS["draws"][kind]):
        np.testing.assert_allclose(probabilities(choice, logits), want, atol=2e-6)


def test_draws_follow_the_probabilities_and_the_seed() -> None:
    """20,000 draws: every frequency within five standard deviations of its probability; a seed repeats itself."""
    choice = CHOICE.replace(mode="sample", temperature=0.9, top_k=6)
    logits = np.random.default_rng(3).standard_normal(12).astype(np.float32)
    weights = probabilities(choice, logits)
    draw = chooser(choice, [], 7)
    count = 20_000
    drawn = [draw(logits.copy(), []) for _ in range(count)]
    frequencies = np.bincount(drawn, minlength=12) / count
    assert np.all(np.abs(frequencies - weights) <= 5 * np.sqrt(weights * (1 - weights) / count))
    again, other = chooser(choice, [], 7), chooser(choice, [], 8)
    assert [again(logits.copy(), []) for _ in range(100)] == drawn[:100]
    assert [other(logits.copy(), []) for _ in range(100)] != drawn[:100]


def test_a_seed_means_the_same_draws_everywhere() -> None:
    """PCG64(0) gives 0.6369616873214543 and 0.2697867137638703 first (numpy's own documentation of default_rng(0))."""
    choice = CHOICE.replace(mode="sample")
    draw = chooser(choice, [], 0)
    even = np.zeros(10, np.float32)
    assert [draw(even.copy(), []) for _ in range(2)] == [6, 2]


def test_the_margin_is_by_how_much_a_token_won() -> None:
    assert margin(np.array([1.0, 4.0, 3.0]), 1, 4.0) == 0.25
    assert margin(np.array([-np.inf, 4.0]), 1, 4.0) == np.inf


def test_overlapping_sequences_are_joined_as_transformers_joins_them() -> None:
    for sequences, want in zip(overlaps(), ANSWERS["stitched"]):
        stitching = Stitching()
        settled: list[int] = []
        for sequence in sequences:
            stitching.add(sequence)
            assert stitching.settled[: len(settled)] == settled, "what is settled stays"
            settled = list(stitching.settled)
        assert stitching.whole() == want


def test_times_of_long_sounds_are_those_of_transformers() -> None:
    for sound, (text, want) in zip(heard(), ANSWERS["heard"]):
        timeline = Timeline(Timestamps(begin=BEGIN, step_s=STEP_S, initial_limit=None), RATE_HZ)
        start = 0
        for tokens, (length, left, right) in sound:
            timeline.add(Piece(start, length, left, right), [t for t in tokens if t not in (EOS, SILENT)])
            start += length - 30 - 30
        timeline.end()
        found = [[s.start_s, s.end_s, "".join(f"[{t}]" for t in s.tokens)] for s in timeline.segments()]
        assert found == want
        assert "".join(f[2] for f in found) == text  # type: ignore[misc]


def test_pieces_of_a_sound_are_those_of_transformers() -> None:
    for count, want in zip(LENGTHS, ANSWERS["pieces"]):
        assert [list(p) for p in pieces(CHUNKS, count)] == want


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 400), st.floats(0.0, 0.49))
def test_every_sample_lies_in_a_piece(count: int, window: int, share: float) -> None:
    stride = int(window * share)
    if 2 * stride >= window:
        stride = 0
    found = pieces(Chunks(window=window, stride=stride, least=1, silence=0.0), count)
    reached = 0
    for piece in found:
        assert piece.start <= reached
        assert piece.length <= window
        reached = max(reached, piece.start + piece.length)
    assert reached == count


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=12), st.lists(st.integers(0, 5), max_size=12))
def test_a_seam_lies_within_both(left: list[int], right: list[int]) -> None:
    end, start = seam(left, right)
    assert 0 <= end <= len(left)
    assert 0 <= start <= len(right)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_pieces_make_the_text_and_never_half_a_character(text: str) -> None:
    """A token is a byte here, so that every character beyond ASCII comes in parts."""
    data = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    growing = Pieces(lambda tokens: bytes(tokens).decode("utf-8", "replace"), hold_words=False)
    found = [growing.add(list(data[: n + 1])) for n in range(len(data))]
    found.append(growing.end(list(data)))
    assert "".join(found) == data.decode()
    if "�" not in data.decode():
        assert not any("�" in piece for piece in found)


WORDS = ["I", " do", " n't", " know", " .", " He", " 's", " here", " ,", " ' ", "re", " !", " isn", "'t", " 've", "\n"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, len(WORDS) - 1), max_size=12))
def test_pieces_make_the_cleaned_text(tokens: list[int]) -> None:
    growing = Pieces(lambda t: clean_up("".join(WORDS[i] for i in t)), hold_words=True)
    found = [growing.add(tokens[: n + 1]) for n in range(len(tokens))]
    found.append(growing.end(tokens))
    assert "".join(found) == clean_up("".join(WORDS[i] for i in tokens))


def test_clean_up_is_what_transformers_documents() -> None:
    assert (
        clean_up("do n't . stop , now ! it 's I 'm we 've you 're a ' b ?")
        == "don't. stop, now! it's I'm we've you're a'b?"
    )
