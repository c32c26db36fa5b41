"""The ports and caches of a decoder, from its tensors' names as optimum and transformers.js write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edgekit.errors import InputError, ManifestError
from edgekit.manifest import Constant
from edgekit.records import dump, parse
from edgekit.runtimes.graph import GraphTensors, TensorSpec
from edgekit.specs.generation import Cache, GenerationSpec
from edgekit.specs.tensor import Port

IDS = "decoder_input_ids"
EMBEDS = "inputs_embeds"
STATES = "encoder_hidden_states"
LOGITS = "logits"
BRANCH = "use_cache_branch"
MASK = "decoder_attention_mask"
POSITIONS = "position_ids"

_VALUES = {
    "input_ids": IDS,
    "decoder_input_ids": IDS,
    "inputs_embeds": EMBEDS,
    "decoder_inputs_embeds": EMBEDS,
    "encoder_hidden_states": STATES,
    "encoder_outputs": STATES,
    "use_cache_branch": BRANCH,
    "attention_mask": MASK,
    "decoder_attention_mask": MASK,
    "position_ids": POSITIONS,
    "cache_position": POSITIONS,
}
"""The value of the flow or of the loop that each input of a decoder reads, by the input's name."""

_ONLY_LAST = ("num_logits_to_keep", "logits_to_keep")
_PAST = ("past_key_values.", "past.")
_PRESENT = ("present.", "present_key_values.")


class Wiring(NamedTuple):
    """A decoder's ports; values of caches have their tensors' names."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: tuple[Constant, ...]

    def reads(self, value: str) -> bool:
        """Whether an input has this value."""
        return any(port.value == value for port in self.inputs)


def wire_graph(tensors: GraphTensors, file: str, encoder_mask: str | None) -> Wiring:
    """The wiring of one decoder graph; encoder_mask: the value of the mask that the encoder read, if any.

    Raises InputError for an input that nothing is known to feed.
    """
    inputs, constants = [], []
    for tensor in tensors.inputs:
        if tensor.name in _ONLY_LAST:
            shape = tuple(max(n, 1) for n in tensor.shape)
            constants.append(Constant(name=tensor.name, datatype=tensor.datatype, shape=shape, data=(1.0,)))
            continue
        inputs.append(_port(tensor, _value(tensor.name, file, encoder_mask)))
    outputs = [_port(t, t.name) for t in tensors.outputs if t.name == LOGITS or t.name.startswith(_PRESENT)]
    if not any(port.value == LOGITS for port in outputs):
        listed = ", ".join(t.name for t in tensors.outputs)
        raise InputError(f"{file}: no output '{LOGITS}'", hint=f"its outputs: {listed}")
    return Wiring(tuple(inputs), tuple(outputs), tuple(constants))


def find_caches(reading: Wiring, written: Wiring, file: str, heads: int | None, width: int | None) -> tuple[Cache, ...]:
    """The caches that a decoder reads: `reading` is the graph of the later steps, `written` that of the first.

    heads, width: of a cache whose graph leaves them open. Raises InputError for one that no output feeds.
    """
    grown = {port.value for port in reading.outputs}
    made = {port.value for port in written.outputs}
    found = []
    for port in reading.inputs:
        start = next((p for p in _PAST if port.value.startswith(p)), None)
        if start is None:
            continue
        rest = port.value.removeprefix(start)
        present = next((f"{p}{rest}" for p in _PRESENT if f"{p}{rest}" in made), None)
        if present is None:
            raise InputError(f"{file}: no output feeds its input '{port.value}'")
        kept = ".encoder." in port.value or present not in grown
        found.append(Cache(past=port.value, present=present, kept=kept, empty=_empty(port, file, heads, width)))
    return tuple(found)


def complete_generation(table: Mapping[str, Any], wirings: Sequence[Wiring]) -> GenerationSpec:
    """The spec of a recipe's table and what the decoders' graphs say; wirings: first step's, other steps'.

    Raises ManifestError naming the key, InputError for a cache that cannot be wired.
    """
    first, later = wirings[0], wirings[-1]
    derived = {
        "ids": IDS,
        "logits": LOGITS,
        "embedder": None,
        "embeds": None,
        **{
            key: value if first.reads(value) or later.reads(value) else None
            for key, value in (("branch", BRANCH), ("attention_mask", MASK), ("position_ids", POSITIONS))
        },
        "caches": dump(find_caches(later, first, str(table.get("decoder")), None, None)),
    }
    doubled = sorted(derived.keys() & table.keys())
    if doubled:
        raise ManifestError(f"generation.{doubled[0]}", "follows from the decoder's graph")
    return parse(GenerationSpec, {**derived, **table}, key="generation", by_hand=True)


def _value(name: str, file: str, encoder_mask: str | None) -> str:
    if name == "encoder_attention_mask" and encoder_mask is not None:
        return encoder_mask
    if name.startswith(_PAST):
        return name
    if name not in _VALUES:
        raise InputError(
            f"{file}: takes '{name}', which a text that is generated has no value for",
            hint=f"known: {', '.join(_VALUES)}, past_key_values.*; export the decoder without it",
        )
    return _VALUES[name]


def _port(tensor: TensorSpec, value: str) -> Port:
    return Port(name=tensor.name, value=value, datatype=tensor.datatype, shape=tensor.shape, quantization=None)


def _empty(port: Port, file: str, heads: int | None, width: int | None) -> tuple[int, ...]:
    """(batch, heads, tokens, width) of no token yet."""
    shape: Sequence[int] = port.shape
    if len(shape) != 4:
        raise InputError(f"{file}: cache '{port.name}' has shape {list(shape)}, expected four axes")
    known = (heads if shape[1] < 0 else shape[1], width if shape[3] < 0 else shape[3])
    if known[0] is None or known[1] is None:
        raise InputError(f"{file}: cache '{port.name}' says neither its heads nor its width, and config.json does not")
    return (1, known[0], 0, known[1])
