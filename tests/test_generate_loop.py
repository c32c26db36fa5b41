"""Issue 3, generation: merged, split and cacheless decoders, and decoders without an encoder, write the same text."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from decoders import TOY, write_decoder_only, write_merged, write_split
from decoding import CHOICE, SETTINGS, TABLE, open_decoder, reference, write

from edgekit.errors import GraphRefused, InputError, ManifestError
from edgekit.generation import loop as generate
from edgekit.generation.token_choice import Bounds, chooser
from edgekit.manifest import GraphSpec
from edgekit.packaging.decoder_wiring import complete_generation, find_caches, wire_graph
from edgekit.runtimes.graph import Tensors
from edgekit.runtimes.loading import load_graph
from edgekit.specs.tensor import Port

COUNT = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("decoders")
    write_split(path)
    write_merged(path)
    return path


def states(seed: int, frames: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, frames, TOY.width)).astype(np.float32)


@pytest.mark.parametrize("kind", ["merged", "split", "cacheless"])
@pytest.mark.parametrize("prompt", [[1], [1, 5, 9, 2]])
def test_every_kind_of_decoder_writes_what_reading_all_anew_gives(folder: Path, kind: str, prompt: list[int]) -> None:
    spec, specs, graphs = open_decoder(folder, kind)
    decoder = generate.wire_decoder(spec, specs, graphs)
    assert generate.fixed_values(decoder) == ("encoder_hidden_states",)
    seen = set()
    for seed in range(6):
        values = {"encoder_hidden_states": states(seed, 3 + seed)}
        want = reference(folder, values["encoder_hidden_states"], prompt, COUNT)
        assert write(decoder, values, prompt, COUNT) == want
        seen.add(tuple(want))
    assert len(seen) == 6, "the toy answers differently to different inputs, or the test proves nothing"


class Counted:
    """A graph that remembers what it was given and what it gave."""

    def __init__(self, graph: generate.Graph) -> None:
        self._graph = graph
        self.spec = graph.spec
        self.calls: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = []

    def run(self, tensors: Tensors, outputs: object = None) -> dict[str, np.ndarray]:
        found = self._graph.run(tensors, outputs)  # type: ignore[arg-type]
        self.calls.append((dict(tensors), found))  # type: ignore[arg-type]
        return found  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["merged", "split"])
def test_a_cache_goes_back_in_as_the_very_array_that_came_out(folder: Path, kind: str) -> None:
    """No copy of the caches per step; the encoder's stay those of step one and are not fetched again."""
    spec, specs, graphs = open_decoder(folder, kind)
    counted = {name: Counted(graph) for name, graph in graphs.items()}
    decoder = generate.wire_decoder(spec, specs, counted)  # type: ignore[arg-type]
    write(decoder, {"encoder_hidden_states": states(0)}, [1], 5)
    calls = [call for graph in counted.values() for call in graph.calls]
    assert len(calls) == 5
    for (_, before), (given, made) in pairwise(calls):
        for n in range(TOY.layers):
            for part in ("key", "value"):
                past = given[f"past_key_values.{n}.decoder.{part}"]
                assert past is before[f"present.{n}.decoder.{part}"]
                assert given[f"past_key_values.{n}.encoder.{part}"] is calls[0][1][f"present.{n}.encoder.{part}"]
        assert not any(".encoder." in name for name in made)
    lengths = [given["past_key_values.0.decoder.key"].shape[2] for given, _ in calls[1:]]
    assert lengths == [1, 2, 3, 4]


def test_two_texts_at_once_do_not_mix(folder: Path) -> None:
    spec, specs, graphs = open_decoder(folder, "merged")
    decoder = generate.wire_decoder(spec, specs, graphs)
    bounds = Bounds(1, (), 0, 1 + COUNT)
    both = [{"encoder_hidden_states": states(seed)} for seed in (1, 2)]
    loops = [
        generate.decode(generate.begin(decoder, values), chooser(CHOICE, [], None), [1], bounds, None)
        for values in both
    ]
    mixed = list(zip(*loops))
    for index, values in enumerate(both):
        assert [pair[index] for pair in mixed] == reference(folder, values["encoder_hidden_states"], [1], COUNT)


def test_the_text_ends_at_an_end_token_and_at_the_limit(folder: Path) -> None:
    spec, specs, graphs = open_decoder(folder, "merged")
    decoder = generate.wire_decoder(spec, specs, graphs)
    values = {"encoder_hidden_states": states(3)}
    whole = write(decoder, values, [1], COUNT)
    end = whole[10]
    advance, choose = generate.begin(decoder, values), chooser(CHOICE, [], None)
    cut = list(generate.decode(advance, choose, [1], Bounds(1, (end, 999), 0, 1 + COUNT), None))
    assert cut == whole[: whole.index(end) + 1]
    assert write(decoder, values, [1], 4) == whole[:4]


@pytest.mark.parametrize("embeds", [False, True])
def test_a_decoder_without_an_encoder_goes_on_from_its_prompt(tmp_path: Path, embeds: bool) -> None:
    """Positions and mask grow with the text; a graph of embeddings may stand before the decoder."""
    write_decoder_only(tmp_path, embeds=embeds)
    names = {"decoder": "model.onnx", **({"embed": "embed_tokens.onnx"} if embeds else {})}
    graphs = {name: load_graph("onnxruntime", tmp_path / file, SETTINGS, None) for name, file in names.items()}
    wiring = wire_graph(graphs["decoder"].spec, "model.onnx", None)
    spec = complete_generation({**TABLE, "loop": "decoder_only", "start": []}, [wiring])
    assert [c.kept for c in spec.caches] == [False] * 2 * TOY.layers
    assert (spec.attention_mask, spec.position_ids) == ("decoder_attention_mask", "position_ids")
    specs = {"decoder": _graph_spec("decoder", wiring.inputs, wiring.outputs)}
    if embeds:
        spec = spec.replace(embedder="embed", embeds="inputs_embeds")
        tensors = graphs["embed"].spec
        ids, made = tensors.inputs[0], tensors.outputs[0]
        specs["embed"] = _graph_spec("embed", (_port(ids, spec.ids),), (_port(made, "inputs_embeds"),))
    decoder = generate.wire_decoder(spec, specs, graphs)
    prompt = [7, 3, 11]
    want = list(prompt)
    for _ in range(COUNT):
        ones, places = np.ones((1, len(want)), np.int64), np.arange(len(want))[None]
        ids_now = np.array([want], np.int64)
        first = {"input_ids": ids_now}
        if embeds:
            first = {"inputs_embeds": graphs["embed"].run({"input_ids": ids_now})["inputs_embeds"]}
        empty = {c.past: np.zeros(c.empty, np.float32) for c in spec.caches}
        feeds = {**first, "attention_mask": ones, "position_ids": places, **empty}
        want.append(int(graphs["decoder"].run(feeds)["logits"][0, -1].argmax()))
    assert write(decoder, {}, prompt, COUNT) == want[len(prompt) :]


def _port(tensor: object, value: str) -> Port:
    return Port(
        name=tensor.name,  # type: ignore[attr-defined]
        value=value,
        datatype=tensor.datatype,  # type: ignore[attr-defined]
        shape=tensor.shape,  # type: ignore[attr-defined]
        quantization=None,
    )


def _graph_spec(name: str, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> GraphSpec:
    return GraphSpec(
        name=name, file=f"{name}.onnx", data=None, runtime="onnxruntime", role=name, precision="float32",
        inputs=inputs, outputs=outputs, state=(), constants=(),
    )  # fmt: skip


def test_what_cannot_be_wired_is_refused_by_name(folder: Path) -> None:
    spec, specs, graphs = open_decoder(folder, "split")
    with pytest.raises(ManifestError, match="no graph is named 'other'"):
        generate.wire_decoder(spec.replace(decoder="other"), specs, graphs)
    with pytest.raises(ManifestError, match=r"generation\.logits"):
        generate.wire_decoder(spec.replace(logits="scores"), specs, graphs)
    with pytest.raises(ManifestError, match=r"generation\.ids"):
        generate.wire_decoder(spec.replace(ids="words"), specs, graphs)
    wiring = wire_graph(graphs["decoder_with_past"].spec, "rest.onnx", None)
    with pytest.raises(InputError, match=r"no output feeds its input 'past_key_values\.0\.encoder\.key'"):
        find_caches(wiring, wiring, "rest.onnx", None, None)
    with pytest.raises(ManifestError, match=r"generation\.logits"):
        complete_generation({**TABLE, "logits": "logits"}, [wire_graph(graphs["decoder"].spec, "first.onnx", None)])


def test_logits_that_are_no_numbers_are_refused(folder: Path) -> None:
    spec, specs, graphs = open_decoder(folder, "merged")
    decoder = generate.wire_decoder(spec, specs, graphs)
    with pytest.raises(GraphRefused, match="NaN"):
        write(decoder, {"encoder_hidden_states": np.full((1, 3, TOY.width), np.nan, np.float32)}, [1], 3)
