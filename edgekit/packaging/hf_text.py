"""Tokenizers of a Hugging Face folder: how texts become ids, and what a CTC vocabulary means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from edgekit.errors import InputError
from edgekit.packaging.draft import Content
from edgekit.packaging.hub_folder import Config, HubFolder, read_object
from edgekit.packaging.questions import Questions
from edgekit.specs.post import Ctc
from edgekit.specs.text import TextSpec, TokenizerFile

TOKENIZER = "tokenizer.json"
VOCABULARY = "vocab.json"
LENGTH_LIMIT = 1_000_000
"""tokenizer_config's `model_max_length` above it means that nobody set one (transformers writes 1e30)."""
UNBOUNDED = 4096
"""The most tokens of a text where the model's positions bound nothing: a limit of ours, a longer text is refused."""

_PADDED_POSITIONS = frozenset(
    ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "data2vec-text", "ibert", "xmod")
)
"""Models whose positions begin behind the padding id (transformers' create_position_ids_from_input_ids)."""


class TextPorts(NamedTuple):
    """What a graph takes of a text: value names, null for what it does not have.

    tokens: its fixed number of tokens, -1 for any.
    """

    ids: str
    mask: str | None
    type_ids: str | None
    dtype: str
    tokens: int


def read_text(folder: HubFolder, ports: TextPorts, files: dict[str, Content], ask: Questions) -> TextSpec:
    """The text input of a folder; its tokenizer is added to the files. Raises InputError without a tokenizer."""
    tokenizer = read_tokenizer(folder)
    files[TOKENIZER] = folder.text_files[TOKENIZER]
    longest = max_length(folder, ask)
    if ports.tokens > 0:
        if longest < ports.tokens and folder.config.get("max_position_embeddings", longest) < ports.tokens:
            raise InputError(f"{folder.name}: the graph takes {ports.tokens} tokens, config.json allows {longest}")
        longest = ports.tokens
    pads = ports.tokens > 0 or str(folder.config.get("model_type", "")).startswith("siglip")
    pad_id = _pad_id(folder, tokenizer)
    if pad_id is None:
        pad_id = int(ask.number("pad_id", "the id that fills a text up")) if pads else 0
    truncation, side = _sides(folder)
    return TextSpec(
        kind="text",
        ids=ports.ids,
        mask=ports.mask,
        type_ids=ports.type_ids,
        tokenizer=TokenizerFile(type="tokenizer_json", file=TOKENIZER, add_special_tokens=True),
        lowercase=False,
        max_length=longest,
        # Where nothing bounds a text, nothing says that it may be cut.
        truncation="error" if longest == UNBOUNDED else truncation,  # type: ignore[arg-type]  # checked by _sides
        # SigLIP was trained on padded texts without a mask (its processor's padding="max_length").
        padding="max_length" if pads else "longest",
        pad_side=side,  # type: ignore[arg-type]  # checked by _sides
        pad_id=pad_id,
        dtype="int32" if ports.dtype == "INT32" else "int64",
    )


def read_tokenizer(folder: HubFolder) -> Config:
    """The document of `tokenizer.json`. Raises InputError where it is missing or is none."""
    path = folder.text_files.get(TOKENIZER)
    if path is None:
        there = [n for n in folder.text_files if n in ("vocab.txt", "vocab.json", "merges.txt", "spiece.model")]
        raise InputError(
            f"{folder.name}: tokenizer.json is missing" + (f"; there is {', '.join(there)}" if there else ""),
            hint="transformers writes it: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )
    document = _read_big_object(path.read_bytes(), TOKENIZER)
    if not isinstance(document.get("model"), dict):
        raise InputError(f"{folder.name}: tokenizer.json has no 'model'")
    return document


def max_length(folder: HubFolder, ask: Questions) -> int:
    """The most tokens of a text, special ones included: the least that the tokenizer, sentence-transformers and the
    model's positions allow."""
    config = text_config(folder)
    found = [folder.tokenizer_config.get("model_max_length")]
    sentence = folder.text_files.get("sentence_bert_config.json")
    if sentence is not None:
        found.append(read_object(sentence).get("max_seq_length"))
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and str(config.get("model_type")) in _PADDED_POSITIONS:
        pad = config.get("pad_token_id")
        positions -= (pad if isinstance(pad, int) else 1) + 1
    found.append(positions)
    if positions is None and "relative_attention_num_buckets" not in config:  # T5's own number bounds nothing
        found.append(config.get("n_positions"))
    lengths = [int(n) for n in found if isinstance(n, (int, float)) and 0 < n <= LENGTH_LIMIT]
    if not lengths and _is_unbounded(config):
        return UNBOUNDED
    return min(lengths) if lengths else int(ask.number("max_length", "the most tokens of one text"))


def _is_unbounded(config: Config) -> bool:
    """Whether the model's positions are relative, so that a text of any length has them."""
    return "relative_attention_num_buckets" in config or config.get("model_type") in ("bloom", "mpt")


def text_config(folder: HubFolder) -> Config:
    """The part of config.json that speaks of texts."""
    inner = folder.config.get("text_config")
    return inner if isinstance(inner, dict) else folder.config


def special_token(folder: HubFolder, name: str) -> str | None:
    """The text of a special token such as `pad_token`, from tokenizer_config.json or special_tokens_map.json."""
    for config in (folder.tokenizer_config, folder.special_tokens):
        token = config.get(name)
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str):
            return token
    return None


def token_id(tokenizer: Config, token: str) -> int | None:
    """The id of a token of a `tokenizer.json`."""
    for added in tokenizer.get("added_tokens") or ():
        if isinstance(added, dict) and added.get("content") == token and isinstance(added.get("id"), int):
            return int(added["id"])
    vocabulary = tokenizer["model"].get("vocab")
    if isinstance(vocabulary, dict) and isinstance(vocabulary.get(token), int):
        return int(vocabulary[token])
    if isinstance(vocabulary, list):  # Unigram: pairs of token and score
        for index, entry in enumerate(vocabulary):
            if isinstance(entry, list) and entry and entry[0] == token:
                return index
    return None


def _pad_id(folder: HubFolder, tokenizer: Config) -> int | None:
    token = special_token(folder, "pad_token")
    found = token_id(tokenizer, token) if token is not None else None
    if found is None and token is None:
        configured = text_config(folder).get("pad_token_id")
        found = configured if isinstance(configured, int) else None
    return found


def _sides(folder: HubFolder) -> tuple[str, str]:
    """(truncation, padding); `right` is transformers' own default of both."""
    sides = []
    for key in ("truncation_side", "padding_side"):
        side = folder.tokenizer_config.get(key) or "right"
        if side not in ("right", "left"):
            raise InputError(f"tokenizer_config.json: '{key}' is {side!r}, expected right or left")
        sides.append(str(side))
    return sides[0], sides[1]


def read_ctc(folder: HubFolder, value: str, rate_hz: int, window: int, files: dict[str, Content]) -> Ctc:
    """How the frames of a CTC model become text; its vocabulary is added to the files."""
    vocabulary = _ctc_vocabulary(folder)
    pad = special_token(folder, "pad_token")
    if pad is None or pad not in vocabulary:
        raise InputError(f"{folder.name}: the CTC blank (tokenizer_config.json's pad_token) is not in the vocabulary")
    blank = vocabulary[pad]
    configured = folder.config.get("pad_token_id")
    if isinstance(configured, int) and configured != blank:
        raise InputError(f"{folder.name}: pad_token '{pad}' has id {blank}, config.json says pad_token_id {configured}")
    files[VOCABULARY] = json.dumps(vocabulary, sort_keys=True, ensure_ascii=True).encode()
    length, hop = frames(folder)
    tokenizer = folder.tokenizer_config
    delimiter = tokenizer.get("word_delimiter_token", "|")  # Wav2Vec2CTCTokenizer's default
    return Ctc(
        task="ctc",
        value=value,
        audio="audio",
        vocabulary=VOCABULARY,
        blank=blank,
        delimiter=delimiter if isinstance(delimiter, str) else "",
        lowercase=tokenizer.get("do_lower_case") is True,
        cleanup=tokenizer.get("clean_up_tokenization_spaces") is True,
        rate_hz=rate_hz,
        frame_length=length,
        frame_hop=hop,
        window=window,
    )


def _ctc_vocabulary(folder: HubFolder) -> dict[str, int]:
    path = folder.text_files.get(VOCABULARY)
    if path is not None:
        vocabulary: Any = _read_big_object(path.read_bytes(), VOCABULARY)
        language = folder.tokenizer_config.get("target_lang")
        if isinstance(language, str) and isinstance(vocabulary.get(language), dict):
            vocabulary = vocabulary[language]
    elif TOKENIZER in folder.text_files:
        document = read_tokenizer(folder)
        vocabulary = dict(document["model"].get("vocab") or {})
        for added in document.get("added_tokens") or ():
            vocabulary[added["content"]] = added["id"]
    else:
        raise InputError(f"{folder.name}: a CTC model without vocab.json or tokenizer.json")
    if not vocabulary or not all(type(i) is int and i >= 0 for i in vocabulary.values()):
        raise InputError(f"{folder.name}: {VOCABULARY} is no table of token -> id")
    if len(set(vocabulary.values())) != len(vocabulary):
        raise InputError(f"{folder.name}: {VOCABULARY} gives two tokens the same id")
    for key, entry in _added(folder.tokenizer_config).items():
        vocabulary.setdefault(entry, key)
    return dict(vocabulary)


def _added(config: Config) -> dict[int, str]:
    added = config.get("added_tokens_decoder")
    if not isinstance(added, dict):
        return {}
    return {int(k): v["content"] for k, v in added.items() if k.isdigit() and isinstance(v, dict) and "content" in v}


def frames(folder: HubFolder) -> tuple[int, int]:
    """Samples that one frame of a convolutional feature encoder sees, and from one frame to the next.

    Composition of unpadded convolutions: length = 1 + sum (kernel - 1) * strides before, hop = product of strides.
    """
    kernels, strides = folder.config.get("conv_kernel"), folder.config.get("conv_stride")
    if not _whole(kernels) or not _whole(strides) or len(kernels) != len(strides):  # type: ignore[arg-type]
        raise InputError(f"{folder.name}: config.json has no conv_kernel and conv_stride of the same length")
    length, hop = 1, 1
    for kernel, stride in zip(kernels, strides):  # type: ignore[arg-type]
        length += (kernel - 1) * hop
        hop *= stride
    return length, hop


def _whole(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(type(n) is int and n > 0 for n in value)


def _read_big_object(data: bytes, name: str) -> Mapping[str, Any]:
    """A JSON object that may hold more lists than a config (a Unigram vocabulary is a list of pairs)."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not JSON ({error})") from None
    if not isinstance(document, dict):
        raise InputError(f"{name}: expected a JSON object")
    return document
