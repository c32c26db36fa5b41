"""Folders whose decoder writes text, after an encoder or alone: their graphs wired into the loop.

What generation_config.json leaves out has transformers' own defaults (GenerationConfig, 4.57).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.errors import InputError, ManifestError
from edgekit.manifest import GraphSpec, InputSpec
from edgekit.packaging import decoder_wiring as names
from edgekit.packaging.decoder_wiring import Wiring, find_caches, wire_graph
from edgekit.packaging.draft import LIMITS, Content, Draft, Sample
from edgekit.packaging.hf_graphs import Side, Staged, find_output, graph_spec, port, stage
from edgekit.packaging.hf_inputs import place, read_input, read_license
from edgekit.packaging.hf_settings import Settings, head_count, head_width, read_choice, read_lengths
from edgekit.packaging.hf_speech import read_speech
from edgekit.packaging.hf_tasks import TEXT_TO_TEXT
from edgekit.packaging.hf_text import TOKENIZER, TextPorts, read_text, read_tokenizer
from edgekit.packaging.hub_folder import Config, HubFolder, HubGraph, choose_variant
from edgekit.packaging.questions import Questions
from edgekit.packaging.sampling import generated_sample
from edgekit.specs.audio import AudioSpec
from edgekit.specs.generation import Chunks, GenerationSpec
from edgekit.specs.post import Generated
from edgekit.targets import Target

SIDES: dict[str, Side] = {
    "image-to-text": "image",
    "automatic-speech-recognition": "audio",
    **dict.fromkeys((*TEXT_TO_TEXT, "text-generation"), "text"),
}
DECODERS = ("decoder_model_merged", "decoder_model", "decoder_with_past_model", "model")
EMBEDDER = "embed_tokens"
ENCODERS = ("encoder_model", "vision_encoder", "audio_encoder")
SILENCE = 1e-4
"""-80 dB of full scale, a tenth of a microphone's own noise; models write words of their own under it."""
MOONSHINE_TOKENS_PER_SECOND = 6.5
"""transformers' Moonshine page: the training data's upper bound; here it says what fits into a window."""
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
    alone = task == "text-generation"
    variants, borrowed = _complete(folder, alone)
    chosen, why = choose_variant(folder.name, variants, variant, target)
    roles = variants[chosen]
    files: dict[str, Content] = {}
    staged = {role: stage(graph, ask) for role, graph in roles.items()}
    for role, part in staged.items():
        if role != EMBEDDER:
            place(part, files)
    tokenizer = read_tokenizer(folder)
    files[TOKENIZER] = folder.text_files[TOKENIZER]
    side = SIDES[task]
    graphs: list[GraphSpec] = []
    mask = None
    spec: InputSpec
    if not alone:
        encoder = next(staged[role] for role in ENCODERS if role in staged)
        spec, constants = read_input(folder, encoder, side, files, ask)
        states = find_output(encoder, ("last_hidden_state", names.STATES), "the encoder's states", ask)
        graphs = [graph_spec(encoder, "encoder", {names.STATES: states}, constants)]
        mask = "attention_mask" if "attention_mask" in encoder.inputs else None
    wirings, decoders = _decoders(staged, mask)
    embedder = _embedder(staged, wirings[0], ask) if alone else None
    if embedder is not None:
        place(staged[EMBEDDER], files)
        graphs = [embedder]
    if alone:
        ports = TextPorts(names.IDS, None, None, "INT64", -1)
        spec = read_text(folder, ports, files, ask).replace(truncation="error")  # the end of a prompt is what goes on
    generation, remarks = _generation(folder, wirings, decoders, spec, tokenizer, alone, embedder is not None)
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
        samples=(_sample(side, spec, generation, files),),
        limits=LIMITS,
        notes=(note, why, *((lent,) if lent else ()), *remarks),
        generation=generation,
    )


def _sample(side: str, spec: InputSpec, generation: GenerationSpec, files: dict[str, Content]) -> Sample:
    """A drawn sample; a text that is drawn would not be the same twice, so its likeliest tokens are taken."""
    sample = generated_sample({side: spec}, files)
    if generation.choice.mode != "sample":
        return sample
    return sample._replace(inputs=tuple({**entry, "mode": {"text": "greedy"}} for entry in sample.inputs))


def _complete(folder: HubFolder, alone: bool) -> tuple[dict[str, Roles], dict[str, str]]:
    """Each variant with the roles that the loop needs, and what it took from the plain one where its own are missing.

    alone: without an encoder. A merged decoder is taken before a pair; a lone decoder_with_past is no use without the
    one of the first step.
    """
    found: dict[str, Roles] = {}
    borrowed: dict[str, str] = {}
    variants = folder.variants()
    plain = variants.get("fp32", {})
    for name, own in variants.items():
        roles: dict[str, HubGraph] = {}
        for source in (own, plain):
            encoder = next((r for r in ENCODERS if r in source), None)
            if encoder and not alone and not any(r in roles for r in ENCODERS):
                roles[encoder] = source[encoder]
            if not any(role in DECODERS for role in roles):
                roles.update(_decoder_roles(source, alone))
            if alone and EMBEDDER in source:
                roles.setdefault(EMBEDDER, source[EMBEDDER])
        if (alone or any(r in roles for r in ENCODERS)) and any(r in DECODERS for r in roles):
            missing = [graph.path.name for role, graph in roles.items() if role not in own]
            if len(missing) == len(roles):
                continue
            found[name] = roles
            if missing:
                borrowed[name] = f"variant {name} has no {' or '.join(missing)} of its own: the plain file is taken"
    if not found:
        listed = ", ".join(sorted({role for own in variants.values() for role in own})) or "none"
        needs = "a decoder" if alone else "an encoder and a decoder of one kind"
        hint = "decoder_model_merged, or decoder_model and decoder_with_past_model"
        raise InputError(
            f"{folder.name}: generating text needs {needs}; there is {listed}",
            hint=f"model, or {hint}" if alone else f"encoder_model with {hint}",
        )
    return found, borrowed


def _decoder_roles(source: Roles, alone: bool) -> dict[str, HubGraph]:
    for role in ("decoder_model_merged", *(("model",) if alone else ())):
        if role in source:
            return {role: source[role]}
    if "decoder_model" in source:
        return {role: source[role] for role in ("decoder_model", "decoder_with_past_model") if role in source}
    return {}


def _embedder(staged: Mapping[str, Staged], decoder: Wiring, ask: Questions) -> GraphSpec | None:
    """The graph from ids to embeddings, None for a decoder that takes ids. Raises InputError where it is missing."""
    if decoder.reads(names.IDS) or not decoder.reads(names.EMBEDS):
        return None
    part = staged.get(EMBEDDER)
    if part is None or "input_ids" not in part.inputs:
        raise InputError(
            f"the decoder takes '{names.EMBEDS}', and no graph makes them of tokens",
            hint=f"{EMBEDDER}.onnx belongs beside it",
        )
    made = find_output(part, (names.EMBEDS,), "the tokens' embeddings", ask)
    spec = graph_spec(part, "embedder", {names.EMBEDS: made})
    return spec.replace(inputs=(port(part.inputs["input_ids"], names.IDS),))


def _decoders(staged: Mapping[str, Staged], mask: str | None) -> tuple[list[Wiring], list[GraphSpec]]:
    """The decoder of the first step, and of the others where that is another graph."""
    wirings, graphs = [], []
    for role in (r for r in DECODERS if r in staged):
        name = "decoder_with_past" if role == "decoder_with_past_model" else "decoder"
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


def _generation(
    folder: HubFolder,
    wirings: list[Wiring],
    decoders: list[GraphSpec],
    spec: InputSpec,
    tokenizer: Config,
    alone: bool,
    embeds: bool,
) -> tuple[GenerationSpec, tuple[str, ...]]:
    settings = Settings(folder)
    first, later = wirings[0], wirings[-1]
    file = decoders[-1].file
    model_type = str(folder.config.get("model_type", ""))
    start = () if alone else settings.tokens("decoder_start_token_id") or settings.tokens("bos_token_id")[:1]
    if not start and not alone:
        raise InputError(f"{folder.name}: no decoder_start_token_id in generation_config.json or config.json")
    choice, remarks = read_choice(settings, model_type)
    vocabulary = _vocabulary(folder, settings, decoders[0])
    speech, prompt_length = (None, 0)
    if model_type == "whisper":
        speech, prompt_length = read_speech(folder, settings.get, tokenizer, vocabulary, spec)
    length, new_tokens, positions = read_lengths(settings, prompt_length)
    try:
        generation = GenerationSpec(
            loop="decoder_only" if alone else "encoder_decoder",
            decoder=decoders[0].name,
            decoder_with_past=decoders[1].name if len(decoders) > 1 else None,
            embedder="embedder" if embeds else None,
            ids=names.IDS,
            embeds=names.EMBEDS if embeds else None,
            logits=names.LOGITS,
            branch=names.BRANCH if first.reads(names.BRANCH) else None,
            attention_mask=names.MASK if first.reads(names.MASK) or later.reads(names.MASK) else None,
            position_ids=names.POSITIONS if first.reads(names.POSITIONS) or later.reads(names.POSITIONS) else None,
            caches=find_caches(later, first, file, head_count(settings), head_width(settings)),
            start=start,
            prompt=_prompt(folder, settings, model_type),
            eos=settings.tokens("eos_token_id"),
            min_length=settings.whole("min_length") or 0,
            max_length=length,
            max_new_tokens=new_tokens,
            positions=positions,
            tokens_per_second=0.0,
            choice=choice,
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
    return generation, remarks


def _vocabulary(folder: HubFolder, settings: Settings, decoder: GraphSpec) -> int:
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


def _prompt(folder: HubFolder, settings: Settings, model_type: str) -> Any:
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
