"""Ids of words seen before, for tokenizers that take each word by itself (BERT's).

BERT's normaliser works character by character, its pre-tokenizer splits at white space and punctuation, and WordPiece
takes each piece by itself. So the ids of a text are those of its parts between spaces, one after the other, and the
library is asked for each part once. The ids are the library's own; what surrounds them is learnt from it as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORDS = 1 << 13
"""Parts that are remembered, about a megabyte; then the memory starts again."""
LONGEST_CHARACTERS = 64
"""Longer parts are not remembered."""
ADDED_TOKENS = 16
"""With more tokens that are found in a text before it is split, looking for them costs more than is won."""

PROBES = ("a b c", "a", "")
"""Texts of three, one and no words, to learn what the tokenizer puts around a text."""


class Template(NamedTuple):
    """The special tokens around a text: ids and type ids before and after it, and the type id of its own tokens."""

    before: list[int]
    after: list[int]
    types_before: list[int]
    types_after: list[int]
    own_type: int


Remembered = Callable[[str], "tuple[list[int], list[int]] | None"]
"""Ids and type ids of a text, None where the library has to be asked."""


def remember_words(tokenizer: Tokenizer, special: bool, longest: int) -> Remembered | None:
    """A memory for this tokenizer, None where it is of another kind.

    longest: texts with more tokens than this are left to the library, which knows how to cut them.
    """
    added = _added_tokens(tokenizer)
    template = _template(tokenizer, special) if added is not None else None
    if added is None or template is None:
        return None
    before, after, types_before, types_after, own_type = template
    most = longest - len(before) - len(after)
    memory: dict[str, list[int]] = {"": []}

    def learn(part: str) -> list[int]:
        ids = _own_ids(tokenizer, part)
        if len(part) <= LONGEST_CHARACTERS:
            if len(memory) >= WORDS:
                memory.clear()
            memory[part] = ids
        return ids

    def remembered(text: str) -> tuple[list[int], list[int]] | None:
        for token in added:
            if token in text:
                return None
        ids = before.copy()
        for part in text.split(" "):
            known = memory.get(part)
            ids += learn(part) if known is None else known
        count = len(ids) - len(before)
        if count > most:
            return None
        ids += after
        return ids, types_before + [own_type] * count + types_after

    return remembered


def _added_tokens(tokenizer: Tokenizer) -> tuple[str, ...] | None:
    """What the tokenizer looks for before it splits a text; None where words are not taken one by one."""
    parts = tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.model
    if tuple(type(part).__name__ for part in parts) != ("BertNormalizer", "BertPreTokenizer", "WordPiece"):
        return None
    tokens = tokenizer.get_added_tokens_decoder().values()
    # A normalised token is looked for in the normalised text, where another spelling may have become it.
    if len(tokens) > ADDED_TOKENS or any(token.normalized for token in tokens):
        return None
    return tuple(token.content for token in tokens)


def _template(tokenizer: Tokenizer, special: bool) -> Template | None:
    """What stands around every text alike; None where it depends on the text."""
    texts = [(tokenizer.encode(p, add_special_tokens=special), _own_ids(tokenizer, p)) for p in PROBES]
    whole, own = texts[0]
    starts = [at for at in range(len(whole.ids)) if whole.ids[at : at + len(own)] == own]
    if len(starts) != 1:
        return None
    at, end = starts[0], starts[0] + len(own)
    types = whole.type_ids
    template = Template(whole.ids[:at], whole.ids[end:], types[:at], types[end:], types[at])
    for other, ids in texts:
        if other.ids != template.before + ids + template.after:
            return None
        if other.type_ids != template.types_before + [template.own_type] * len(ids) + template.types_after:
            return None
    return template


def _own_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)
