"""Folders with an encoder and a decoder: their graphs wired into the loop that writes text.

What generation_config.json leaves out has transformers' own defaults (GenerationConfig, 4.57).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.errors import InputError, ManifestError
from edgekit.manifest import GraphSpec, InputSpec
from edgekit.packaging import decoder_wiring as names
from edgekit.packaging.decoder_wiring import Wiring, find_caches, wire_graph
from edgekit.packaging.draft import LIMITS, Content, Draft
from edgekit.packaging.hf_graphs import Side, Staged, find_output, graph_spec, stage
from edgekit.packaging.hf_inputs import place, read_input, read_license
from edgekit.packaging.hf_speech import read_speech
from edgekit.packaging.hf_text import TOKENIZER, read_tokenizer
from edgekit.packaging.hub_folder import Config, HubFolder, HubGraph, choose_variant
from edgekit.packaging.questions import Questions
from edgekit.packaging.sampling import generated_sample
from edgekit.specs.audio import AudioSpec
from edgekit.specs.generation import Choice, Chunks, Forced, GenerationSpec
from edgekit.specs.post import Generated
from edgekit.targets import Target

SIDES: dict[str, Side] = {"image-to-text": "image", "automatic-speech-recognition": "audio"}
ENCODERS = ("encoder_model", "vision_encoder", "audio_encoder")
USUAL_LENGTH = 20
"""GenerationConfig's max_length."""

SILENCE = 1e-4
"""-80 dB of full scale, a tenth of a microphone's own noise; models write words of their own under it."""
MOONSHINE_TOKENS_PER_SECOND = 6.5
"""transformers' Moonshine page: the training data's upper bound, against endless repetition."""
MOONSHINE_LEAST_SAMPLES = 895
"""What its three convolutions need for one frame: 127 + 64 * (6 + 3 * 2)."""

Roles = Mapping[str, HubGraph]


def read_generation(
    folder: HubFolder,
    target: Target,
    *,
    variant: str | None,
    task: str,
    note: str,
    ask: Questions,
    source: str | None,
) -> Draft:
    """The draft of a folder that generates text. Raises InputError naming what is missing or contradictory."""
    variants, borrowed = _complete(folder)
    chosen, why = choose_variant(folder.name, variants, variant, target)
    roles = variants[chosen]
    files: dict[str, Content] = {}
    staged = {role: stage(graph, ask) for role, graph in roles.items()}
    for part in staged.values():
        place(part, files)
    tokenizer = read_tokenizer(folder)
    files[TOKENIZER] = folder.text_files[TOKENIZER]
    side = SIDES[task]
    encoder = next(staged[role] for role in ENCODERS if role in staged)
    spec, constants = read_input(folder, encoder, side, files, ask)
    states = find_output(encoder, ("last_hidden_state", names.STATES), "the encoder's states", ask)
    graphs = [graph_spec(encoder, "encoder", {names.STATES: states}, constants)]
    wirings, decoders = _decoders(staged, "attention_mask" if "attention_mask" in encoder.inputs else None)
    generation, remarks = _generation(folder, wirings, decoders, spec, tokenizer)
    version = ask.given("version") or "1"
    ask.finish()
    lent = borrowed.get(chosen)
    return Draft(
        name=folder.name,
        version=version,
        task=task,
        license=read_license(folder),
        source=source or f"hub folder {folder.name}",
        inputs={side: spec},
        graphs=(*graphs, *decoders),
        postprocess=Generated(task="generated"),
        files=files,
        samples=(generated_sample({side: spec}, files),),
        limits=LIMITS,
        notes=(note, why, *((lent,) if lent else ()), *remarks),
        generation=generation,
    )


def _complete(folder: HubFolder) -> tuple[dict[str, Roles], dict[str, str]]:
    """Each variant with the roles that the loop needs, and what it took from the plain one where its own are missing.

    A merged decoder is taken before a pair; a lone decoder_with_past is no use without the one of the first step.
    """
    found: dict[str, Roles] = {}
    borrowed: dict[str, str] = {}
    variants = folder.variants()
    plain = variants.get("fp32", {})
    for name, own in variants.items():
        roles: dict[str, HubGraph] = {}
        for source in (own, plain):
            encoder = next((r for r in ENCODERS if r in source), None)
            if encoder and not any(r in roles for r in ENCODERS):
                roles[encoder] = source[encoder]
            if not any(role.startswith("decoder") for role in roles):
                roles.update(_decoder_roles(source))
        if any(r in roles for r in ENCODERS) and any(r.startswith("decoder") for r in roles):
            missing = [graph.path.name for role, graph in roles.items() if role not in own]
            if len(missing) == len(roles):
                continue
            found[name] = roles
            if missing:
                borrowed[name] = f"variant {name} has no {' or '.join(missing)} of its own: the plain file is taken"
    if not found:
        listed = ", ".join(sorted({role for own in variants.values() for role in own})) or "none"
        raise InputError(
            f"{folder.name}: generating text needs an encoder and a decoder of one kind; there is {listed}",
            hint="encoder_model with decoder_model_merged, or with decoder_model and decoder_with_past_model",
        )
    return found, borrowed


def _decoder_roles(source: Roles) -> dict[str, HubGraph]:
    if "decoder_model_merged" in source:
        return {"decoder_model_merged": source["decoder_model_merged"]}
    if "decoder_model" in source:
        return {role: source[role] for role in ("decoder_model", "decoder_with_past_model") if role in source}
    return {}


def _decoders(staged: Mapping[str, Staged], mask: str | None) -> tuple[list[Wiring], list[GraphSpec]]:
    """The decoder of the first step, and of the others where that is another graph."""
    wirings, graphs = [], []
    for role, name in (("decoder_model_merged", "decoder"), ("decoder_model", "decoder"),
                       ("decoder_with_past_model", "decoder_with_past")):  # fmt: skip
        if role not in staged:
            continue
        part = staged[role]
        wiring = wire_graph(part.tensors, part.graph.path.name, mask)
        wirings.append(wiring)
        graphs.append(
            GraphSpec(
                name=name,
                file=part.file,
                data=part.data_name,
                runtime=part.graph.runtime,
                role=name,
                precision=part.graph.precision,
                inputs=wiring.inputs,
                outputs=wiring.outputs,
                state=(),
                constants=wiring.constants,
            )
        )
    return wirings, graphs


class _Settings:
    """generation_config.json before config.json, and that before its part about the decoder."""

    def __init__(self, folder: HubFolder) -> None:
        inner = folder.config.get("decoder")
        text = folder.config.get("text_config")
        self.decoder: Config = inner if isinstance(inner, dict) else text if isinstance(text, dict) else {}
        self.name = folder.name
        self._places: tuple[Config, ...] = (folder.generation, folder.config, self.decoder)

    def get(self, key: str) -> Any:
        """The value, None where nobody says."""
        return next((place[key] for place in self._places if place.get(key) is not None), None)

    def whole(self, key: str) -> int | None:
        """A whole number from 0."""
        value = self.get(key)
        if value is not None and (type(value) is not int or value < 0):
            raise InputError(f"{self.name}: '{key}': expected a whole number from 0, got {value!r}")
        return value

    def number(self, key: str, usual: float) -> float:
        """A number; usual: transformers' own default."""
        value = self.get(key)
        if value is None:
            return usual
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{self.name}: '{key}': expected a number, got {value!r}")
        return float(value)

    def tokens(self, key: str) -> tuple[int, ...]:
        """One token or a list of them; a negative one means none (old configs)."""
        value = self.get(key)
        listed = [] if value is None else value if isinstance(value, list) else [value]
        if any(type(token) is not int for token in listed):
            raise InputError(f"{self.name}: '{key}': expected tokens, got {value!r}")
        return tuple(token for token in listed if token >= 0)


def _generation(
    folder: HubFolder, wirings: list[Wiring], decoders: list[GraphSpec], spec: InputSpec, tokenizer: Config
) -> tuple[GenerationSpec, tuple[str, ...]]:
    settings = _Settings(folder)
    first, later = wirings[0], wirings[-1]
    file = decoders[-1].file
    model_type = str(folder.config.get("model_type", ""))
    start = settings.tokens("decoder_start_token_id") or settings.tokens("bos_token_id")
    if not start:
        raise InputError(f"{folder.name}: no decoder_start_token_id in generation_config.json or config.json")
    remarks = []
    if settings.number("num_beams", 1.0) > 1:
        remarks.append("generation_config.json asks for a beam search: each step takes the likeliest token instead")
    vocabulary = _vocabulary(folder, settings, decoders[0])
    speech, prompt_length = (None, 0)
    if model_type == "whisper":
        speech, prompt_length = read_speech(folder, settings.get, tokenizer, vocabulary, spec)
    length, positions = _lengths(settings, prompt_length)
    try:
        generation = GenerationSpec(
            loop="encoder_decoder",
            decoder=decoders[0].name,
            decoder_with_past=decoders[1].name if len(decoders) > 1 else None,
            embedder=None,
            ids=names.IDS,
            embeds=None,
            logits=names.LOGITS,
            branch=names.BRANCH if first.reads(names.BRANCH) else None,
            attention_mask=names.MASK if first.reads(names.MASK) or later.reads(names.MASK) else None,
            position_ids=names.POSITIONS if first.reads(names.POSITIONS) or later.reads(names.POSITIONS) else None,
            caches=find_caches(later, first, file, _heads(settings), _width(settings)),
            start=start,
            prompt=_prompt(folder, settings, model_type),
            eos=settings.tokens("eos_token_id"),
            min_length=settings.whole("min_length") or 0,
            max_length=length,
            max_new_tokens=settings.whole("max_new_tokens"),
            positions=positions,
            tokens_per_second=MOONSHINE_TOKENS_PER_SECOND if model_type == "moonshine" else 0.0,
            choice=_choice(settings, model_type),
            speech=speech,
            chunks=_chunks(spec, model_type, positions),
            tokenizer=TOKENIZER,
            clean_up_spaces=folder.tokenizer_config.get("clean_up_tokenization_spaces") is True,
            result="transcript" if isinstance(spec, AudioSpec) else "text",
            tokens_with_prompt=model_type != "whisper",
        )
    except ManifestError as error:
        raise InputError(f"{folder.name}: generation: '{error.key}' {error.problem}") from None
    _check_tokens(folder, generation, vocabulary)
    return generation, tuple(remarks)


def _vocabulary(folder: HubFolder, settings: _Settings, decoder: GraphSpec) -> int:
    """How many tokens the logits are of, -1 when nobody says. Raises InputError when config and graph differ."""
    said = settings.decoder.get("vocab_size") or folder.config.get("vocab_size")
    logits = next(port for port in decoder.outputs if port.value == names.LOGITS)
    made = logits.shape[-1] if logits.shape else -1
    if isinstance(said, int) and made > 0 and said != made:
        raise InputError(f"{folder.name}: config.json has a vocabulary of {said}, {decoder.file} gives {made} logits")
    return made if made > 0 else said if isinstance(said, int) else -1


def _check_tokens(folder: HubFolder, generation: GenerationSpec, vocabulary: int) -> None:
    named = {
        "decoder_start_token_id": generation.start,
        "eos_token_id": generation.eos,
        "suppress_tokens": generation.choice.suppress,
        "begin_suppress_tokens": generation.choice.begin_suppress,
        "forced tokens": tuple(f.token for f in generation.choice.forced),
    }
    for key, tokens in named.items():
        beyond = [token for token in tokens if 0 < vocabulary <= token]
        if beyond:
            raise InputError(f"{folder.name}: {key}: token {beyond[0]} is beyond the vocabulary of {vocabulary}")


def _lengths(settings: _Settings, prompt_length: int) -> tuple[int, int]:
    """(max_length, positions): the decoder's positions bound what the config asks for.

    Whisper's max_length counts from behind its prompt (`_set_max_new_tokens_and_length`).
    """
    found = next(
        (
            n
            for key in ("max_target_positions", "max_position_embeddings", "n_positions")
            if (n := settings.whole(key)) is not None and n > 0
        ),
        None,
    )
    length = settings.whole("max_length") or USUAL_LENGTH
    if prompt_length and found is not None:
        length += min(found // 2 - 1, prompt_length - 1)
    positions = found if found is not None else max(length, settings.whole("max_new_tokens") or 0) + prompt_length
    return min(length, positions), positions


def _heads(settings: _Settings) -> int | None:
    for key in ("decoder_num_key_value_heads", "num_key_value_heads", "decoder_attention_heads",
                "num_attention_heads", "n_head"):  # fmt: skip
        if (found := settings.decoder.get(key) or settings.get(key)) is not None:
            return int(found)
    return None


def _width(settings: _Settings) -> int | None:
    size = settings.decoder.get("d_model") or settings.decoder.get("hidden_size") or settings.decoder.get("n_embd")
    size = size or settings.get("d_model") or settings.get("hidden_size")
    heads = settings.decoder.get("decoder_attention_heads") or settings.decoder.get("num_attention_heads")
    heads = heads or settings.decoder.get("n_head") or settings.get("decoder_attention_heads")
    heads = heads or settings.get("decoder_num_attention_heads") or settings.get("num_attention_heads")
    return int(size) // int(heads) if size and heads else None


def _choice(settings: _Settings, model_type: str) -> Choice:
    draws = settings.get("do_sample") is True
    forced = []
    first = settings.tokens("forced_bos_token_id")
    if first:
        forced.append(Forced(position=1, token=first[0]))
    pairs = settings.get("forced_decoder_ids")
    if isinstance(pairs, list) and model_type != "whisper":  # Whisper's are its prompt
        forced += [Forced(position=int(p), token=int(t)) for p, t in pairs if t is not None]
    last = settings.tokens("forced_eos_token_id")
    return Choice(
        repetition_penalty=settings.number("repetition_penalty", 1.0),
        no_repeat_ngram=settings.whole("no_repeat_ngram_size") or 0,
        suppress=settings.tokens("suppress_tokens"),
        begin_suppress=settings.tokens("begin_suppress_tokens"),
        forced=tuple(forced),
        last=last[0] if last else None,
        mode="sample" if draws else "greedy",
        temperature=settings.number("temperature", 1.0),
        top_k=int(settings.number("top_k", 50.0)),
        top_p=settings.number("top_p", 1.0),
    )


def _prompt(folder: HubFolder, settings: _Settings, model_type: str) -> Any:
    """Whether a prompt stands behind the start token, or in its place (Donut: its start is the task's own token)."""
    if model_type != "vision-encoder-decoder":
        return "none"
    encoder = folder.config.get("encoder")
    donut = isinstance(encoder, dict) and "donut" in str(encoder.get("model_type", ""))
    return "replace" if donut else "append"


def _chunks(spec: InputSpec, model_type: str, positions: int) -> Chunks | None:
    """Windows for a sound that is too long, overlapping by a sixth on each side (transformers' speech pipeline)."""
    if not isinstance(spec, AudioSpec):
        return None
    if model_type == "moonshine":
        window = int(positions / MOONSHINE_TOKENS_PER_SECOND) * spec.rate_hz
        return Chunks(window=window, stride=window // 6, least=MOONSHINE_LEAST_SAMPLES, silence=SILENCE)
    if spec.length is not None:
        return Chunks(window=spec.length.samples, stride=spec.length.samples // 6, least=1, silence=SILENCE)
    return None
