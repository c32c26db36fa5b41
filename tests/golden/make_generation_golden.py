"""Makes tests/golden/generation.json: what transformers' logits processors and its Whisper stitching answer.

Run in an environment of its own: transformers==4.57.6, torch==2.13.0. The cases are drawn by `cases` below, which the
tests use as well, so that only the answers are kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = 48
BEGIN, SILENT, EOS = 30, 29, 28
"""Times are the tokens from BEGIN on, one step a token; SILENT is <|notimestamps|>."""
STEP_S, RATE_HZ = 1.0, 10
KINDS: dict[str, dict[str, Any]] = {
    "repetition": {"repetition_penalty": 1.3},
    "repetition_below_1": {"repetition_penalty": 0.8},
    "ngram_1": {"no_repeat_ngram": 1},
    "ngram_2": {"no_repeat_ngram": 2},
    "ngram_3": {"no_repeat_ngram": 3},
    "min_length": {"min_length": 9},
    "suppress": {"suppress": [3, 5, 47]},
    "begin_suppress": {"begin_suppress": [2, 7]},
    "last": {"last": EOS, "max_length": 10},
    "timestamps": {"timestamps": True},
    "timestamps_limit": {"timestamps": True, "limit": 4, "suppress": [1, 2]},
    "many": {"repetition_penalty": 1.2, "no_repeat_ngram": 2, "min_length": 8, "suppress": [4], "begin_suppress": [6]},
}
DRAWS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.7},
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.8},
    "top_p_none": {"top_p": 0.0},
    "all": {"temperature": 1.4, "top_k": 12, "top_p": 0.9},
}
PROMPT = 3


def cases(kind: str) -> list[tuple[list[int], np.ndarray]]:
    """Tokens so far and logits; with timestamps the tokens are text and times as the rules allow them."""
    rng = np.random.default_rng(sum(kind.encode()))
    found = []
    for index in range(12):
        length = index % 9
        tokens = rng.integers(0, EOS, PROMPT + length).tolist()
        if kind.startswith("timestamps") and length:
            time, new = BEGIN, [BEGIN]
            while len(new) < length:
                time += int(rng.integers(1, 3))
                new += [int(rng.integers(0, EOS)), time, time][: length - len(new)]
            tokens = tokens[:PROMPT] + new
        elif kind == "many":
            tokens = rng.integers(0, 4, PROMPT + length).tolist()
        found.append((tokens, rng.standard_normal(VOCABULARY).astype(np.float32) * 3))
    return found


def overlaps() -> list[list[list[int]]]:
    """Lists of token sequences, each with a noisy copy of the one before's end at its start."""
    rng = np.random.default_rng(11)
    found = []
    for index in range(60):
        sequences = [rng.integers(0, 9, int(rng.integers(0, 14))).tolist()]
        for _ in range(int(rng.integers(0, 3))):
            shared = sequences[-1][-int(rng.integers(1, 8)) :]
            noisy = [int(t) if rng.random() > 0.2 else int(rng.integers(0, 9)) for t in shared]
            sequences.append(noisy + rng.integers(0, 9, int(rng.integers(0, 8))).tolist())
        found.append(sequences if index else [[], [1, 2], []])
    return found


def heard() -> list[list[tuple[list[int], tuple[int, int, int]]]]:
    """Sounds as pieces: tokens with times in each, and (length, left, right) of the piece in samples."""
    rng = np.random.default_rng(12)
    found = []
    for index in range(60):
        count = 1 + index % 4
        pieces = []
        for position in range(count):
            left, right = (30 if position else 0), (30 if position < count - 1 else 0)
            tokens, time = [], 0
            while time < 12:
                start, end = time, min(time + int(rng.integers(1, 5)), 16)
                tokens += [BEGIN + start, *rng.integers(0, EOS, int(rng.integers(1, 4))).tolist(), BEGIN + end]
                time = end
            if rng.random() < 0.3:
                tokens = tokens[:-1]
            pieces.append((tokens, (160, left, right)))
        found.append(pieces)
    return found


LENGTHS = [1, 25, 160, 161, 190, 191, 260, 261, 1000]


class _Tokenizer:
    """As much of a tokenizer as `_decode_asr` asks for: a token's text is its number."""

    all_special_ids = (EOS, SILENT)

    def convert_tokens_to_ids(self, token: str) -> int:
        return SILENT if token == "<|notimestamps|>" else 10_000

    def decode(self, tokens: list[int]) -> str:
        return "".join(f"[{t}]" for t in tokens)

    def _strip_prompt(self, tokens: list[int], *_: int) -> list[int]:
        return tokens


def _processors(kind: dict[str, Any]) -> Any:
    from transformers import GenerationConfig
    from transformers.generation import logits_process as lp

    found: list[Any] = []
    if "repetition_penalty" in kind:
        found.append(lp.RepetitionPenaltyLogitsProcessor(kind["repetition_penalty"]))
    if "no_repeat_ngram" in kind:
        found.append(lp.NoRepeatNGramLogitsProcessor(kind["no_repeat_ngram"]))
    if "min_length" in kind:
        found.append(lp.MinLengthLogitsProcessor(kind["min_length"], EOS))
    if "last" in kind:
        found.append(lp.ForcedEOSTokenLogitsProcessor(kind["max_length"], kind["last"]))
    if "begin_suppress" in kind:
        found.append(lp.SuppressTokensAtBeginLogitsProcessor(kind["begin_suppress"], PROMPT))
    if "suppress" in kind:
        found.append(lp.SuppressTokensLogitsProcessor(kind["suppress"]))
    if "timestamps" in kind:
        config = GenerationConfig(eos_token_id=EOS, no_timestamps_token_id=SILENT)
        config.max_initial_timestamp_index = kind.get("limit")
        found.append(lp.WhisperTimeStampLogitsProcessor(config, begin_index=PROMPT))
    if "temperature" in kind:
        found.append(lp.TemperatureLogitsWarper(kind["temperature"]))
    if "top_k" in kind:
        found.append(lp.TopKLogitsWarper(kind["top_k"]))
    if "top_p" in kind:
        found.append(lp.TopPLogitsWarper(kind["top_p"]))
    return lp.LogitsProcessorList(found)


def main() -> None:
    import torch
    from transformers.models.whisper.tokenization_whisper import _decode_asr, _find_longest_common_sequence
    from transformers.pipelines.automatic_speech_recognition import chunk_iter

    answers: dict[str, Any] = {"rules": {}, "draws": {}}
    for table, kinds in (("rules", KINDS), ("draws", DRAWS)):
        for name, kind in kinds.items():
            rows = []
            for tokens, logits in cases(name):
                scores = _processors(kind)(torch.tensor([tokens]), torch.from_numpy(logits.copy())[None])[0]
                if table == "draws":
                    rows.append([round(float(x), 6) for x in torch.softmax(scores.double(), -1)])
                else:  # what is allowed keeps its logit or has it changed: both show in the sum
                    allowed = torch.isfinite(scores)
                    rows.append([int(scores.argmax()), "".join("01"[int(a)] for a in allowed),
                                 round(float(scores[allowed].sum()), 4)])  # fmt: skip
            answers[table][name] = rows
    answers["stitched"] = [_find_longest_common_sequence(s) for s in overlaps()]
    answers["heard"] = []
    for pieces in heard():
        outputs = [
            {"tokens": np.array([tokens]), "stride": tuple(x / RATE_HZ for x in stride)} for tokens, stride in pieces
        ]
        text, extra = _decode_asr(
            _Tokenizer(), outputs, return_timestamps=True, return_language=False, time_precision=STEP_S
        )
        answers["heard"].append([text, [[*c["timestamp"], c["text"]] for c in extra["chunks"]]])

    class Extractor:
        sampling_rate = RATE_HZ

        def __call__(self, chunk: Any, **_: Any) -> dict[str, Any]:
            return {"first": int(chunk[0])}

    answers["pieces"] = [
        [[c["first"], *c["stride"]] for c in chunk_iter(np.arange(n), Extractor(), 160, 30, 30)] for n in LENGTHS
    ]
    path = Path(__file__).parent / "generation.json"
    path.write_text(json.dumps(answers, separators=(",", ":")) + "\n", "utf-8")
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
