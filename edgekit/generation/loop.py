"""The autoregressive loop: a decoder fed token by token, its caches carried by name and never copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edgekit.arrays import Array, Float32
from edgekit.errors import GraphRefused, ManifestError
from edgekit.generation.token_choice import Bounds, Choose, margin
from edgekit.manifest import GraphSpec
from edgekit.runtimes.graph import Graph
from edgekit.specs.generation import GenerationSpec
from edgekit.specs.tensor import NUMPY_NAMES

Advance = Callable[[Sequence[int]], Float32]
"""Feeds the tokens after those fed so far; the logits (vocabulary,) of what comes next. The array is the caller's."""


class Standing(NamedTuple):
    """How far a text has been read. feeds: of the next step, its caches among them, changed by nobody; tokens: for a
    decoder without caches, which reads all of them again; fed: how many were read."""

    feeds: Mapping[str, Array]
    tokens: tuple[int, ...]
    fed: int


Grow = Callable[["Standing | None", Sequence[int]], "tuple[Float32, Standing]"]
"""Feeds tokens to a text that stands somewhere (None: nothing was read): the logits, and where it stands then."""


class Part(NamedTuple):
    """One graph of the loop, its wiring worked out; names are the graph's own.

    fixed: input -> value that is the same in every step of one text. carried: (past, present, kept) by graph name.
    """

    graph: Graph
    file: str
    ids: str | None
    ids_dtype: str
    embeds: str | None
    logits: str
    branch: str | None
    mask: tuple[str, str] | None
    positions: tuple[str, str, int] | None
    fixed: dict[str, str]
    constants: dict[str, Array]
    caches: tuple[tuple[str | None, str | None, bool, Array], ...]


class Decoder(NamedTuple):
    """The loop's graphs: `first` runs the first step; `rest` the others, null where every step reads all tokens."""

    first: Part
    rest: Part | None
    embed: Callable[[Array], Array] | None


def wire_decoder(spec: GenerationSpec, specs: Mapping[str, GraphSpec], graphs: Mapping[str, Graph]) -> Decoder:
    """The decoder of loaded graphs. Raises ManifestError where the spec names what is not there."""
    first = _part(spec, _named(spec.decoder, "decoder", specs), graphs)
    embed = None
    if spec.embedder is not None:
        embed = _embed(spec, _named(spec.embedder, "embedder", specs), graphs[spec.embedder])
    if spec.decoder_with_past is not None:
        rest = _part(spec, _named(spec.decoder_with_past, "decoder_with_past", specs), graphs)
        _check_handover(first, rest)
        return Decoder(first, rest, embed)
    return Decoder(first, first if spec.caches else None, embed)


def _named(name: str, key: str, specs: Mapping[str, GraphSpec]) -> GraphSpec:
    if name not in specs:
        raise ManifestError(f"generation.{key}", f"no graph is named '{name}', there are {sorted(specs)}")
    return specs[name]


def _part(spec: GenerationSpec, graph: GraphSpec, graphs: Mapping[str, Graph]) -> Part:
    inputs = {p.value: p for p in graph.inputs}
    outputs = {p.value: p.name for p in graph.outputs}
    made = {spec.ids, spec.embeds, spec.branch, spec.attention_mask, spec.position_ids, *(c.past for c in spec.caches)}
    if spec.logits not in outputs:
        raise ManifestError("generation.logits", f"graph '{graph.name}' has no output with the value '{spec.logits}'")
    wanted = spec.embeds if spec.embeds is not None else spec.ids
    if wanted not in inputs:
        raise ManifestError("generation.ids", f"graph '{graph.name}' has no input with the value '{wanted}'")

    def typed(value: str | None) -> tuple[str, str] | None:
        port = inputs.get(value) if value is not None else None
        return None if port is None else (port.name, NUMPY_NAMES[port.datatype])

    rank = len(inputs[spec.position_ids].shape) if spec.position_ids in inputs else 0
    positions = typed(spec.position_ids)

    caches = []
    for cache in spec.caches:
        past = inputs.get(cache.past)
        dtype = NUMPY_NAMES[past.datatype] if past else "float32"
        caches.append(
            (past.name if past else None, outputs.get(cache.present), cache.kept, np.zeros(cache.empty, dtype))
        )
    ids, branch = typed(spec.ids), typed(spec.branch)
    return Part(
        graph=graphs[graph.name],
        file=graph.file,
        ids=ids[0] if ids else None,
        ids_dtype=ids[1] if ids else "int64",
        embeds=inputs[spec.embeds].name if spec.embeds is not None else None,
        logits=outputs[spec.logits],
        branch=branch[0] if branch else None,
        mask=typed(spec.attention_mask),
        positions=(*positions, rank) if positions else None,
        fixed={p.name: p.value for p in graph.inputs if p.value not in made},
        constants={c.name: np.array(c.data, NUMPY_NAMES[c.datatype]).reshape(c.shape) for c in graph.constants},
        caches=tuple(caches),
    )


def _check_handover(first: Part, rest: Part) -> None:
    """What the later steps read is what the first one writes, and what a step grows it also writes."""
    for (_, written, _, _), (read, again, kept, _) in zip(first.caches, rest.caches):
        if read is not None and written is None:
            raise ManifestError("generation.caches", f"{rest.file} reads '{read}', which {first.file} does not write")
        if read is not None and again is None and not kept:
            raise ManifestError("generation.caches", f"{rest.file} does not write what '{read}' grows to")


def _embed(spec: GenerationSpec, graph: GraphSpec, loaded: Graph) -> Callable[[Array], Array]:
    names = {p.value: p for p in graph.inputs}
    outputs = {p.value: p.name for p in graph.outputs}
    if spec.ids not in names or spec.embeds not in outputs:
        raise ManifestError("generation.embedder", f"graph '{graph.name}' does not turn '{spec.ids}' into embeddings")
    source, target = names[spec.ids], outputs[spec.embeds]
    dtype = NUMPY_NAMES[source.datatype]
    return lambda ids: loaded.run({source.name: ids.astype(dtype)}, (target,))[target]


def fixed_values(decoder: Decoder) -> tuple[str, ...]:
    """The values of the flow that the decoder reads beside what the loop makes (the encoder's states)."""
    parts = [decoder.first, *([decoder.rest] if decoder.rest else [])]
    return tuple(dict.fromkeys(value for part in parts for value in part.fixed.values()))


def begin(decoder: Decoder, values: Mapping[str, Array]) -> Advance:
    """A fresh run of the decoder over these values; it belongs to one text and one thread."""
    grow = branch(decoder, values)
    at: Standing | None = None

    def advance(new: Sequence[int]) -> Float32:
        nonlocal at
        row, at = grow(at, new)
        return row

    return advance


def branch(decoder: Decoder, values: Mapping[str, Array]) -> Grow:
    """As begin, for texts that share a beginning: two may go on from where one stands, its caches are theirs too."""
    return _recounting(decoder, values) if decoder.rest is None else _caching(decoder, decoder.rest, values)


def _recounting(decoder: Decoder, values: Mapping[str, Array]) -> Grow:
    """Every step reads all tokens: for a decoder without caches."""
    part = decoder.first
    standing = _standing(part, values)

    def grow(at: Standing | None, new: Sequence[int]) -> tuple[Float32, Standing]:
        feeds, tokens = dict(standing), (*(at.tokens if at is not None else ()), *new)
        _give(decoder, part, feeds, tokens, 0)
        return _last(part, part.graph.run(feeds, (part.logits,))), Standing({}, tokens, len(tokens))

    return grow


def _caching(decoder: Decoder, rest: Part, values: Mapping[str, Array]) -> Grow:
    first = decoder.first
    grown = [(p, w) for p, w, kept, _ in rest.caches if p is not None and w is not None and not kept]
    wanted = (rest.logits, *(written for _, written in grown))

    def grow(at: Standing | None, new: Sequence[int]) -> tuple[Float32, Standing]:
        if at is None:
            feeds = _standing(first, values)
            feeds.update({past: empty for past, _, _, empty in first.caches if past is not None})
            if first.branch is not None:
                feeds[first.branch] = np.zeros(1, np.bool_)
            _give(decoder, first, feeds, new, 0)
            outputs = first.graph.run(feeds, (first.logits, *(w for _, w, _, _ in first.caches if w is not None)))
            following = _second_feeds(first, rest, feeds, outputs, values)
            return _last(first, outputs), Standing(following, (), len(new))
        feeds = dict(at.feeds)
        _give(decoder, rest, feeds, new, at.fed)
        outputs = rest.graph.run(feeds, wanted)
        for past, written in grown:
            feeds[past] = outputs[written]
        return _last(rest, outputs), Standing(feeds, (), at.fed + len(new))

    return grow


def _second_feeds(
    first: Part, rest: Part, feeds: dict[str, Array], outputs: Mapping[str, Array], values: Mapping[str, Array]
) -> dict[str, Array]:
    """What stands ready for the second step: the caches that the first one wrote."""
    following = feeds if rest is first else _standing(rest, values)
    for (_, written, _, _), (past, _, _, empty) in zip(first.caches, rest.caches):
        if past is not None:
            following[past] = empty if written is None else outputs[written]
    if rest.branch is not None:
        following[rest.branch] = np.ones(1, np.bool_)
    return following


def _standing(part: Part, values: Mapping[str, Array]) -> dict[str, Array]:
    return {**part.constants, **{name: values[value] for name, value in part.fixed.items()}}


def _give(decoder: Decoder, part: Part, feeds: dict[str, Array], new: Sequence[int], fed: int) -> None:
    """The inputs of one step that depend on the tokens; `fed` tokens are in the caches."""
    ids = np.array([new], part.ids_dtype)
    if part.ids is not None:
        feeds[part.ids] = ids
    if part.embeds is not None and decoder.embed is not None:
        feeds[part.embeds] = decoder.embed(ids)
    if part.mask is not None:
        feeds[part.mask[0]] = np.ones((1, fed + len(new)), part.mask[1])
    if part.positions is not None:
        places = np.arange(fed, fed + len(new), dtype=part.positions[1])
        feeds[part.positions[0]] = places if part.positions[2] == 1 else places[None]


def _last(part: Part, outputs: Mapping[str, Array]) -> Float32:
    logits = outputs[part.logits]
    if logits.ndim != 3 or logits.shape[0] != 1 or not logits.shape[1]:
        raise GraphRefused(f"{part.file}: expected logits (1, tokens, vocabulary), got {list(logits.shape)}")
    row: Float32 = logits[0, -1].astype(np.float32, copy=False)
    return row


def decode(
    advance: Advance,
    choose: Choose,
    prompt: Sequence[int],
    bounds: Bounds,
    observe: Callable[[Float32, float], None] | None,
) -> Iterator[int]:
    """The tokens after the prompt as they are chosen, the one that ends the text among them.

    observe: called with each step's untouched logits and the margin by which its token won (see `margin`).
    Raises GraphRefused when the decoder's answer is no number.
    """
    tokens, ends = list(prompt), frozenset(bounds.eos)
    new: Sequence[int] = prompt
    while len(tokens) < bounds.max_length:
        logits = advance(new)
        if observe is None:
            token = choose(logits, tokens)
        else:
            untouched = logits.copy()
            token = choose(logits, tokens)
            observe(untouched, margin(logits, token, float(np.abs(untouched).max()) or 1.0))
        if logits[token] != logits[token]:
            raise GraphRefused("the decoder's logits are not numbers (NaN)")
        yield token
        if token in ends:
            return
        tokens.append(token)
        new = tokens[-1:]
