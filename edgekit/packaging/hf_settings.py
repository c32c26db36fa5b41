"""What generation_config.json and config.json say about how a text is written.

What they leave out has transformers' own defaults (GenerationConfig, 4.57).
"""

from __future__ import annotations

from typing import Any

from edgekit.errors import InputError, ManifestError
from edgekit.packaging.hub_folder import Config, HubFolder
from edgekit.specs.generation import Choice, Forced

USUAL_LENGTH = 20
"""GenerationConfig's max_length; transformers counts it from behind the prompt, what a config says from the start."""

UNBOUND_LENGTH = 4096
"""The most that a text may be asked to have where positions are relative and nothing bounds them: a limit of ours."""
_FACTS = frozenset(
    (
        "max_target_positions", "max_position_embeddings", "n_positions", "max_source_positions",
        "decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id",
    )
)  # fmt: skip
"""What may stand in any of the configs; the rest is taken from one place."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beam_groups": (1,),
    "penalty_alpha": (0, 0.0),
    "encoder_repetition_penalty": (1, 1.0),
    "encoder_no_repeat_ngram_size": (0,),
    "min_new_tokens": (0,),
    "force_words_ids": (),
    "constraints": (),
    "sequence_bias": (),
    "guidance_scale": (1, 1.0),
    "exponential_decay_length_penalty": (),
    "stop_strings": (),
    "watermarking_config": (),
    "dola_layers": (),
}
"""Ways of writing that are not done here, and the values that ask for nothing."""
_NEUTRAL_DRAWS: dict[str, tuple[Any, ...]] = {
    "min_p": (0, 0.0),
    "typical_p": (1, 1.0),
    "epsilon_cutoff": (0, 0.0),
    "eta_cutoff": (0, 0.0),
}
"""The same of a text that is drawn."""


class Settings:
    """generation_config.json before config.json, and that before its part about the decoder."""

    def __init__(self, folder: HubFolder) -> None:
        inner = folder.config.get("decoder")
        text = folder.config.get("text_config")
        self.decoder: Config = inner if isinstance(inner, dict) else text if isinstance(text, dict) else {}
        self.name = folder.name
        self._places: tuple[Config, ...] = (folder.generation, folder.config, self.decoder)
        # GenerationConfig.from_model_config: only without a generation_config.json do the other configs say how.
        self._ways: tuple[Config, ...] = self._places[:1] if folder.generation else self._places[1:]

    def get(self, key: str) -> Any:
        """A fact of the model or a token, None where nobody says."""
        return next((place[key] for place in self._places if place.get(key) is not None), None)

    def way(self, key: str) -> Any:
        """How the text is to be written: generation_config.json's alone where there is one."""
        return next((place[key] for place in self._ways if place.get(key) is not None), None)

    def whole(self, key: str) -> int | None:
        """A whole number from 0."""
        value = self.get(key) if key in _FACTS else self.way(key)
        if value is not None and (type(value) is not int or value < 0):
            raise InputError(f"{self.name}: '{key}': expected a whole number from 0, got {value!r}")
        return value

    def number(self, key: str, usual: float) -> float:
        """A number; usual: transformers' own default."""
        value = self.way(key)
        if value is None:
            return usual
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{self.name}: '{key}': expected a number, got {value!r}")
        return float(value)

    def tokens(self, key: str) -> tuple[int, ...]:
        """One token or a list of them; a negative one means none (old configs)."""
        value = self.get(key) if key in _FACTS else self.way(key)
        listed = [] if value is None else value if isinstance(value, list) else [value]
        if any(type(token) is not int for token in listed):
            raise InputError(f"{self.name}: '{key}': expected tokens, got {value!r}")
        return tuple(token for token in listed if token >= 0)


def read_choice(settings: Settings, model_type: str) -> tuple[Choice, tuple[str, ...]]:
    """How tokens are chosen, and a remark for each wish of the config that is not followed."""
    beams = settings.way("num_beams")
    beams = 1 if beams is None else beams
    if type(beams) is not int or not 1 <= beams <= 64:
        raise InputError(f"{settings.name}: 'num_beams': expected a whole number from 1 to 64, got {beams!r}")
    draws = settings.way("do_sample") is True
    remarks = [
        f"generation_config.json asks for '{key}' {value!r}: not done here, texts may differ from transformers'"
        for key, neutral in {**_NEUTRAL, **(_NEUTRAL_DRAWS if draws else {})}.items()
        if (value := settings.way(key)) is not None and value not in neutral
    ]
    if draws and beams > 1:
        remarks.append("generation_config.json asks for beams that are drawn: the best ones are taken instead")
    banned, longer = _banned(settings)
    if longer:
        remarks.append(f"generation_config.json: {longer} entries of bad_words_ids have several tokens: not forbidden")
    forced = [Forced(position=1, token=token) for token in settings.tokens("forced_bos_token_id")[:1]]
    pairs = settings.way("forced_decoder_ids")
    if isinstance(pairs, list) and model_type != "whisper":  # Whisper's are its prompt
        forced += [Forced(position=int(p), token=int(t)) for p, t in pairs if t is not None]
    last = settings.tokens("forced_eos_token_id")
    early = settings.way("early_stopping")
    try:
        choice = Choice(
            repetition_penalty=settings.number("repetition_penalty", 1.0),
            no_repeat_ngram=settings.whole("no_repeat_ngram_size") or 0,
            suppress=(*settings.tokens("suppress_tokens"), *banned),
            begin_suppress=settings.tokens("begin_suppress_tokens"),
            forced=tuple(forced),
            last=last[0] if last else None,
            mode="beam" if beams > 1 else "sample" if draws else "greedy",
            temperature=settings.number("temperature", 1.0),
            top_k=int(settings.number("top_k", 50.0)),
            top_p=settings.number("top_p", 1.0),
            beams=beams,
            length_penalty=settings.number("length_penalty", 1.0),
            early_stopping="never" if early == "never" else "full" if early is True else "likely",
            renormalize=settings.way("renormalize_logits") is True,
        )
    except ManifestError as error:
        raise InputError(f"{settings.name}: generation: '{error.key}' {error.problem}") from None
    return choice, tuple(remarks)


def _banned(settings: Settings) -> tuple[tuple[int, ...], int]:
    """bad_words_ids of one token, but for the end (NoBadWordsLogitsProcessor), and how many have several."""
    words = settings.way("bad_words_ids") or []
    if not isinstance(words, list) or not all(isinstance(w, list) and all(type(t) is int for t in w) for w in words):
        raise InputError(f"{settings.name}: 'bad_words_ids': expected lists of tokens, got {words!r}"[:300])
    ends = settings.tokens("eos_token_id")
    found = tuple(w[0] for w in words if len(w) == 1 and w[0] not in ends)
    return found, sum(len(w) > 1 for w in words)


def read_lengths(settings: Settings, prompt_length: int) -> tuple[int, int | None, int]:
    """(max_length, max_new_tokens, positions): the decoder's positions bound what the config asks for.

    prompt_length: of Whisper, whose max_length counts from behind its prompt (`_set_max_new_tokens_and_length`), or 0.
    """
    found = next(
        (
            n
            for key in ("max_target_positions", "max_position_embeddings", "n_positions")
            if (n := settings.whole(key)) is not None and n > 0
        ),
        None,
    )
    length, new = settings.whole("max_length") or USUAL_LENGTH, settings.whole("max_new_tokens")
    if prompt_length and found is not None:
        length += min(found // 2 - 1, prompt_length - 1)
    elif length == USUAL_LENGTH and new is None:
        new = USUAL_LENGTH
    positions = found if found is not None else max(length, new or 0, UNBOUND_LENGTH) + prompt_length
    return min(length, positions), new, positions


def head_count(settings: Settings) -> int | None:
    """Of a cache whose graph does not say it."""
    for key in ("decoder_num_key_value_heads", "num_key_value_heads", "decoder_attention_heads",
                "num_attention_heads", "n_head"):  # fmt: skip
        if (found := settings.decoder.get(key) or settings.get(key)) is not None:
            return int(found)
    return None


def head_width(settings: Settings) -> int | None:
    """Of a cache whose graph does not say it."""
    told = settings.decoder.get("head_dim") or settings.get("head_dim") or settings.get("d_kv")
    if isinstance(told, int):
        return told
    size = settings.decoder.get("d_model") or settings.decoder.get("hidden_size") or settings.decoder.get("n_embd")
    size = size or settings.get("d_model") or settings.get("hidden_size")
    heads = settings.decoder.get("decoder_attention_heads") or settings.decoder.get("num_attention_heads")
    heads = heads or settings.decoder.get("n_head") or settings.get("decoder_attention_heads")
    heads = heads or settings.get("decoder_num_attention_heads") or settings.get("num_attention_heads")
    return int(size) // int(heads) if size and heads else None
