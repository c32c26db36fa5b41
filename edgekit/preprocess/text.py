"""Texts to token ids, exactly as `tokenizer.json` says, or by a table of characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import BackendError, BundleError, InputError
from edgekit.manifest import Limits
from edgekit.preprocess.word_memory import remember_words
from edgekit.specs.text import CharacterCodes, TextSpec, TokenizerFile

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Codes = Sequence[int]


class Tokens(NamedTuple):
    """One text's ids before padding.

    encode: makes the library's own encoding of the text, which knows the characters of each token; None without one.
    """

    ids: Codes
    type_ids: Codes
    encode: Callable[[], Encoding] | None


Encode = Callable[[str], Tokens]


def load_encoder(spec: TextSpec, read: Callable[[str], bytes]) -> Encode:
    """The function that turns one text into ids, truncated as the spec says; `read` gives a bundle's file."""
    if isinstance(spec.tokenizer, CharacterCodes):
        return _character_encoder(spec, spec.tokenizer)
    return _tokenizer_encoder(spec, load_tokenizer(read(spec.tokenizer.file)), spec.tokenizer)


def load_tokenizer(data: bytes) -> Tokenizer:
    """A tokenizer from the bytes of a `tokenizer.json`, its own truncation and padding switched off."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise BackendError(f"reading text needs tokenizers: {error}", hint="pip install tokenizers") from None
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises plain Exception
        raise BundleError(f"tokenizer.json is not readable: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _tokenizer_encoder(spec: TextSpec, tokenizer: Tokenizer, file: TokenizerFile) -> Encode:
    if spec.truncation != "error":
        try:
            tokenizer.enable_truncation(spec.max_length, direction=spec.truncation)
        except Exception as error:  # the library raises plain Exception
            raise BundleError(f"max_length {spec.max_length}: {error}") from None
    special = file.add_special_tokens
    remembered = remember_words(tokenizer, special, spec.max_length)

    def encode(text: str) -> Tokens:
        known = remembered(text) if remembered else None
        if known is not None:
            return Tokens(*known, lambda: tokenizer.encode(text, add_special_tokens=special))
        encoding = tokenizer.encode(text, add_special_tokens=special)
        return Tokens(encoding.ids, encoding.type_ids, lambda: encoding)

    return encode


def _character_encoder(spec: TextSpec, codes: CharacterCodes) -> Encode:
    table = {character: index + 1 for index, character in enumerate(codes.alphabet)}
    unknown = codes.unknown_id

    def encode(text: str) -> Tokens:
        ids = [i for i in (table.get(c, unknown) for c in text) if i >= 0]
        if spec.truncation == "right":
            ids = ids[: spec.max_length]
        elif spec.truncation == "left":
            ids = ids[-spec.max_length :]
        return Tokens(ids, [0] * len(ids), None)

    return encode


def decode(spec: TextSpec, value: object, limits: Limits) -> str:
    """The text, lower-cased if the spec says so. Raises InputError for what is no text or too much of it."""
    if not isinstance(value, str):
        hint = "decode bytes first: value.decode('utf-8')" if isinstance(value, bytes) else None
        raise InputError(f"text: expected a string, got {type(value).__name__}", hint=hint)
    try:
        size = len(value) if value.isascii() else len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InputError(f"text: not valid Unicode at character {error.start} (a lone surrogate)") from None
    if size > limits.text_bytes:
        raise InputError(
            f"text: at most {limits.text_bytes} bytes, got {size}", hint="cut the text, or raise limits.text_bytes"
        )
    return value.lower() if spec.lowercase else value


def transform(spec: TextSpec, encode: Encode, texts: Sequence[str]) -> tuple[dict[str, Array], list[Tokens]]:
    """Ids, mask and type ids as (texts, tokens) arrays of `spec.dtype`, and each text's tokens."""
    encoded = [encode(text) for text in texts]
    longest = max((len(t.ids) for t in encoded), default=0) if len(encoded) != 1 else len(encoded[0].ids)
    if longest > spec.max_length:
        raise InputError(f"text: at most {spec.max_length} tokens, got {longest}", hint="shorten the text")
    width = spec.max_length if spec.padding == "max_length" else longest
    if spec.padding == "none" and any(len(t.ids) != longest for t in encoded):
        raise InputError("text: texts of different lengths cannot be one batch, this model takes no padding")
    if len(encoded) == 1 and width == longest:  # nothing to pad, the usual case
        (tokens,) = encoded
        found = {spec.ids: np.array((tokens.ids,), spec.dtype)}
        if spec.mask is not None:
            found[spec.mask] = np.ones((1, width), spec.dtype)
        if spec.type_ids is not None:
            found[spec.type_ids] = np.array((tokens.type_ids,), spec.dtype)
        return found, encoded
    ids = np.full((len(texts), width), spec.pad_id, spec.dtype)
    mask = np.zeros((len(texts), width), spec.dtype)
    type_ids = np.zeros((len(texts), width), spec.dtype)
    for row, tokens in enumerate(encoded):
        count = len(tokens.ids)
        where = slice(0, count) if spec.pad_side == "right" else slice(width - count, width)
        ids[row, where] = tokens.ids
        mask[row, where] = 1
        type_ids[row, where] = tokens.type_ids
    named = ((spec.ids, ids), (spec.mask, mask), (spec.type_ids, type_ids))
    return {name: array for name, array in named if name is not None}, encoded
