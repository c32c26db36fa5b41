"""The memory of words gives the library's own ids for every text, and is not used for a tokenizer it does not fit."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from tokenizers.processors import BertProcessing, TemplateProcessing

from edgekit.preprocess import word_memory
from edgekit.preprocess.word_memory import remember_words

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CASES = {"lower": {"lowercase": True}, "cased": {"lowercase": False}, "accents": {"strip_accents": False}}


def bert(**normalizer: bool) -> Tokenizer:
    """BERT's own parts over a vocabulary of every printable ASCII character, alone and inside a word."""
    letters = [chr(code) for code in range(33, 127)]
    words = [*SPECIAL, *letters, *(f"##{x}" for x in letters), "cat", "##ing", "über", "é", "中", "##к", "к"]
    tokenizer = Tokenizer(WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**normalizer)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def drawn_texts(count: int) -> list[str]:
    """Words, all kinds of white space, controls, combining marks, special tokens in the text, any Unicode; seeded."""
    draw = random.Random(5)
    usual = [*"abcdefgh ABC  ", "cat", "catING", "über", " ", ".", "[", "]", "[SEP]", "[MASK]", "x" * 101]
    odd = [*"\t\n\r\x0b\x0c\x1c\x1f\x00\x7f\x85\xa0\u2028\u3000\u0301\u0308\u200b\u200d\ufeffİßΣςﬁ中가क्к😀\ufffd"]
    texts = []
    for _ in range(count):
        pools: list[list[str] | None] = draw.choice([[usual], [usual, odd], [odd], [usual, None]])
        pieces = []
        for _ in range(draw.randrange(25)):
            pool = draw.choice(pools)
            code = draw.choice([draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)])
            pieces.append(chr(code) if pool is None else draw.choice(pool))
        texts.append("".join(pieces))
    return texts


@pytest.mark.parametrize("normalizer", CASES.values(), ids=CASES)
@pytest.mark.parametrize("special", [True, False])
def test_every_id_is_the_librarys(normalizer: dict[str, bool], special: bool) -> None:
    """4,000 drawn texts, each asked twice: the ids and type ids of `tokenizers`, or the text is left to it."""
    tokenizer = bert(**normalizer)
    remembered = remember_words(tokenizer, special, 64)
    assert remembered is not None
    answered = 0
    for text in drawn_texts(4000):
        expected = tokenizer.encode(text, add_special_tokens=special)
        for _ in range(2):
            found = remembered(text)
            assert found in (None, (expected.ids, expected.type_ids)), text
        answered += found is not None
    assert answered > 2000


def test_what_the_library_must_cut_or_find_itself_is_left_to_it() -> None:
    """A text of more tokens than allowed, and one that names a special token, even in the middle of a word."""
    remembered = remember_words(bert(), True, 6)
    assert remembered is not None
    assert remembered("cat cat cat cat") == ([2, *[bert().token_to_id("cat")] * 4, 3], [0] * 6)
    assert remembered("cat cat cat cat cat") is None
    assert remembered("a[MASK]b") is None


def test_a_template_with_other_types_and_several_tokens_is_learnt() -> None:
    """Two tokens before, one after, types 1 and 2: as the library gives them."""
    tokenizer = bert()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS]:1 [MASK]:2 $A:2 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3), ("[MASK]", 4)]
    )
    remembered = remember_words(tokenizer, True, 64)
    assert remembered is not None
    expected = tokenizer.encode("cat a")
    assert remembered("cat a") == (expected.ids, expected.type_ids)


def test_the_memory_starts_again_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight words of room, two hundred words: still the library's ids."""
    monkeypatch.setattr(word_memory, "WORDS", 8)
    tokenizer = bert()
    remembered = remember_words(tokenizer, True, 512)
    assert remembered is not None
    draw = random.Random(1)
    for _ in range(50):
        text = " ".join(str(draw.randrange(200)) for _ in range(20))
        assert remembered(text) == (tokenizer.encode(text).ids, tokenizer.encode(text).type_ids)


def _doubled(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = TemplateProcessing(single="$A [SEP] $A", special_tokens=[("[SEP]", 3)])


def _whitespace(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()


def _joining(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Replace(" ", "")


def _normalized(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("new york", normalized=True)])


@pytest.mark.parametrize("change", [_doubled, _whitespace, _joining, _normalized])
def test_another_tokenizer_gets_no_memory(change: Callable[[Tokenizer], None]) -> None:
    """A text that appears twice, other splitting, other normalising, a token looked for in the normalised text."""
    tokenizer = bert()
    change(tokenizer)
    assert remember_words(tokenizer, True, 64) is None
