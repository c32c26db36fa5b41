"""From tokens back to text, whole or piece by piece, never half a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from edgekit.preprocess.text import load_tokenizer
from edgekit.specs.generation import GenerationSpec

Decode = Callable[[Sequence[int]], str]

HALF_A_CHARACTER = "�"
_SPACES = (
    *((f" {mark}", mark) for mark in ".?!,"),
    (" ' ", "'"),
    *((f" {end}", end) for end in ("n't", "'m", "'s", "'ve", "'re")),
)
"""What transformers' `clean_up_tokenization` replaces, in its order."""


def load_decoder(spec: GenerationSpec, read: Callable[[str], bytes]) -> Decode:
    """The text of tokens, special ones left out; `read` gives a bundle's file. Raises BundleError, BackendError."""
    tokenizer = load_tokenizer(read(spec.tokenizer))

    def decode(tokens: Sequence[int]) -> str:
        text: str = tokenizer.decode(list(tokens), skip_special_tokens=True)
        return clean_up(text) if spec.clean_up_spaces else text

    return decode


def load_encoder(spec: GenerationSpec, read: Callable[[str], bytes]) -> Callable[[str], list[int]]:
    """The tokens of a prompt of the user's, without those that a tokenizer puts around a text."""
    tokenizer = load_tokenizer(read(spec.tokenizer))
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def clean_up(text: str) -> str:
    """The text without the spaces that word-level tokenizers leave before punctuation."""
    return reduce(lambda whole, pair: whole.replace(*pair), _SPACES, text)


class Pieces:
    """The text as it grows: `add` gives what has become certain, and all that is given makes `decode(tokens)`."""

    def __init__(self, decode: Decode, *, hold_words: bool) -> None:
        """hold_words: keep back what follows the last space, which cleaning up may still join."""
        self._decode = decode
        self._hold_words = hold_words
        self._given = ""

    def add(self, tokens: Sequence[int]) -> str:
        """The new text of all tokens so far; "" while it ends in half a character."""
        text = self._decode(tokens)
        if text.endswith(HALF_A_CHARACTER):
            return ""
        if self._hold_words:
            text = text[: max(text.rfind(" "), 0)]
        return self._give(text)

    def end(self, tokens: Sequence[int]) -> str:
        """The rest of the text when no token follows."""
        return self._give(self._decode(tokens))

    def _give(self, text: str) -> str:
        if not text.startswith(self._given):
            return ""
        new = text[len(self._given) :]
        self._given = text
        return new
