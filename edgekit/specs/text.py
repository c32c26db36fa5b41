"""How a text becomes token ids."""

from __future__ import annotations

from typing import Literal, Union

from edgekit.records import Record


class TokenizerFile(Record):
    """A Hugging Face `tokenizer.json` of the bundle, run by the `tokenizers` library."""

    type: Literal["tokenizer_json"]
    file: str
    add_special_tokens: bool


class CharacterCodes(Record):
    """Each character is its position in `alphabet` + 1; others are `unknown_id`, or dropped when it is -1."""

    type: Literal["characters"]
    alphabet: str
    unknown_id: int


class TextSpec(Record):
    """A text input; `ids`, `mask` and `type_ids` name the values it makes, shape (1, tokens).

    max_length: in tokens, special ones included; truncation `error` refuses a longer text instead of cutting it.
    padding: `max_length` pads to it, `longest` to the longest of a batch, `none` leaves the length.
    """

    kind: Literal["text"]
    ids: str
    mask: str | None
    type_ids: str | None
    tokenizer: Union[TokenizerFile, CharacterCodes]
    lowercase: bool
    max_length: int
    truncation: Literal["right", "left", "error"]
    padding: Literal["max_length", "longest", "none"]
    pad_side: Literal["right", "left"]
    pad_id: int
    dtype: Literal["int64", "int32"]
