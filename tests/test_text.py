"""Texts become the ids that the original tokenizer gives, padded and cut as the spec says."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from edgekit.errors import BundleError, InputError
from edgekit.packaging.draft import LIMITS
from edgekit.preprocess import text
from edgekit.specs.text import CharacterCodes, TextSpec, TokenizerFile


def spec(**changes: object) -> TextSpec:
    """A text spec over `tokenizer.json` with the given changes."""
    usual: dict[str, object] = {
        "kind": "text",
        "ids": "input_ids",
        "mask": "attention_mask",
        "type_ids": "token_type_ids",
        "tokenizer": TokenizerFile(type="tokenizer_json", file="tokenizer.json", add_special_tokens=True),
        "lowercase": False,
        "max_length": 16,
        "truncation": "right",
        "padding": "longest",
        "pad_side": "right",
        "pad_id": 0,
        "dtype": "int64",
    }
    return TextSpec(**{**usual, **changes})


def toy_tokenizer() -> bytes:
    """A word-level tokenizer with [CLS] and [SEP], its own padding and truncation switched on."""
    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "dog", "and"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.enable_padding(length=32)
    tokenizer.enable_truncation(4)
    return tokenizer.to_str().encode()


def encode(made: TextSpec, *texts: str, read: Callable[[str], bytes] = lambda name: toy_tokenizer()) -> dict:
    """The arrays of some texts."""
    return text.transform(made, text.load_encoder(made, read), texts)[0]


def test_ids_mask_and_padding_to_the_longest() -> None:
    """Special tokens around, padding on the right, mask over real tokens: literal ids."""
    arrays = encode(spec(), "a cat", "a dog and a cat")
    np.testing.assert_array_equal(arrays["input_ids"], [[2, 4, 5, 3, 0, 0, 0], [2, 4, 6, 7, 4, 5, 3]])
    np.testing.assert_array_equal(arrays["attention_mask"], [[1, 1, 1, 1, 0, 0, 0], [1] * 7])
    np.testing.assert_array_equal(arrays["token_type_ids"], np.zeros((2, 7)))
    assert {a.dtype.name for a in arrays.values()} == {"int64"}


def test_fixed_length_left_padding_and_int32() -> None:
    """padding = max_length, pad_side = left, dtype = int32."""
    arrays = encode(spec(padding="max_length", max_length=6, pad_side="left", dtype="int32", type_ids=None), "a cat")
    np.testing.assert_array_equal(arrays["input_ids"], [[0, 0, 2, 4, 5, 3]])
    np.testing.assert_array_equal(arrays["attention_mask"], [[0, 0, 1, 1, 1, 1]])
    assert arrays.keys() == {"input_ids", "attention_mask"}
    assert arrays["input_ids"].dtype == np.int32


def test_truncation_keeps_the_special_tokens() -> None:
    """Content is cut, [CLS] and [SEP] stay (transformers' behaviour); `error` refuses instead."""
    np.testing.assert_array_equal(encode(spec(max_length=4), "a dog and a cat")["input_ids"], [[2, 4, 6, 3]])
    left = encode(spec(max_length=4, truncation="left"), "a dog and a cat")["input_ids"]
    np.testing.assert_array_equal(left, [[2, 4, 5, 3]])
    with pytest.raises(InputError, match="at most 4 tokens, got 7"):
        encode(spec(max_length=4, truncation="error"), "a dog and a cat")


def test_no_padding_refuses_different_lengths() -> None:
    """A model without padding takes texts of one length only."""
    assert encode(spec(padding="none"), "a cat", "a dog")["input_ids"].shape == (2, 4)
    with pytest.raises(InputError, match="different lengths"):
        encode(spec(padding="none"), "a cat", "cat")


def test_character_codes() -> None:
    """Position in the alphabet + 1; others dropped or one code; literal ids."""
    codes = CharacterCodes(type="characters", alphabet="abc ", unknown_id=-1)
    made = spec(tokenizer=codes, mask=None, type_ids=None, max_length=6, padding="max_length")
    np.testing.assert_array_equal(encode(made, "ca b!")["input_ids"], [[3, 1, 4, 2, 0, 0]])
    known = made.replace(tokenizer=codes.replace(unknown_id=9))
    np.testing.assert_array_equal(encode(known, "ca b!x")["input_ids"], [[3, 1, 4, 2, 9, 9]])
    np.testing.assert_array_equal(encode(known, "abcabcabc")["input_ids"], [[1, 2, 3, 1, 2, 3]])


def test_lower_case_comes_first() -> None:
    """The text is lower-cased before the tokenizer sees it."""
    made = spec(lowercase=True)
    assert text.decode(made, "A CAT", LIMITS) == "a cat"
    assert text.decode(spec(), "A CAT", LIMITS) == "A CAT"


@pytest.mark.parametrize("value", [None, 3, b"bytes", ["a"], "\ud800", "x" * ((1 << 20) + 1)])
def test_what_is_no_text_is_refused(value: object) -> None:
    """Another type, a lone surrogate, too many bytes: InputError."""
    with pytest.raises(InputError):
        text.decode(spec(), value, LIMITS)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"version":"1.0"}', b"[" * 5000])
def test_a_broken_tokenizer_is_a_bundle_error(data: bytes) -> None:
    """The library's own exceptions do not come through."""
    with pytest.raises(BundleError):
        encode(spec(), "a", read=lambda name: data)


def generated_texts(count: int) -> list[str]:
    """Words, whitespace, punctuation, emoji, scripts, combining marks and control characters, seeded."""
    source = random.Random(11)
    pools = [
        "abcdefghij  ",
        "éüñçß ",
        "日本語の文",
        "Привет мир ",
        "😀🚀👍🏽",
        "\t\n\r\u200b\u00a0",
        "a\u0301e\u0308",
        ".,!?[]()#@",
        "0123456789 ",
    ]
    return ["".join(source.choice(source.choice(pools)) for _ in range(source.randint(0, 60))) for _ in range(count)]


def test_generated_unicode_never_breaks(shared: Path) -> None:
    """5,000 generated texts: the ids are those of `tokenizers` itself with transformers' settings, 0 errors."""
    data = (shared / "models/minilm/tokenizer.json").read_bytes()
    reference = Tokenizer.from_str(data.decode())
    reference.no_padding()
    reference.enable_truncation(64)
    made = spec(max_length=64)
    encoder = text.load_encoder(made, lambda name: data)
    for line in generated_texts(5000):
        arrays, tokens = text.transform(made, encoder, [text.decode(made, line, LIMITS)])
        expected = reference.encode(line)
        assert arrays["input_ids"][0].tolist() == expected.ids
        assert arrays["attention_mask"][0].tolist() == expected.attention_mask
        assert tokens[0].encode().offsets == expected.offsets
