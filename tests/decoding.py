"""What tests need to run the loop over the decoders of decoders.py: specs, loaded graphs, and a plain reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from decoders import FIRST, MERGED, REST

from edgekit.generation import loop as generate
from edgekit.generation.token_choice import Bounds, chooser, rules
from edgekit.manifest import GraphSpec
from edgekit.packaging.decoder_wiring import complete_generation, wire_graph
from edgekit.runtimes.graph import Graph, Settings
from edgekit.runtimes.loading import load_graph
from edgekit.specs.generation import Choice, GenerationSpec

SETTINGS = Settings(threads=1, spinning=False, providers=(), cache=None)
CHOICE = Choice(
    repetition_penalty=1.0,
    no_repeat_ngram=0,
    suppress=(),
    begin_suppress=(),
    forced=(),
    last=None,
    mode="greedy",
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    beams=1,
    length_penalty=1.0,
    early_stopping="likely",
    renormalize=False,
)
TABLE: dict[str, Any] = {
    "loop": "encoder_decoder",
    "decoder": "decoder",
    "start": [1],
    "prompt": "none",
    "eos": [0],
    "min_length": 0,
    "max_length": 40,
    "positions": 48,
    "tokens_per_second": 0.0,
    "choice": {name: list(v) if isinstance(v, tuple) else v for name, v in CHOICE.__dict__.items()},
    "tokenizer": "tokenizer.json",
    "clean_up_spaces": False,
    "result": "text",
    "tokens_with_prompt": False,
}


def open_decoder(folder: Path, kind: str) -> tuple[GenerationSpec, dict[str, GraphSpec], dict[str, Graph]]:
    """The loop's spec, graph specs and loaded graphs; kind: merged, split or cacheless."""
    files = {"merged": {"decoder": MERGED}, "split": {"decoder": FIRST, "decoder_with_past": REST},
             "cacheless": {"decoder": FIRST}}[kind]  # fmt: skip
    graphs = {name: load_graph("onnxruntime", folder / file, SETTINGS, None) for name, file in files.items()}
    wirings = [wire_graph(graph.spec, name, None) for name, graph in graphs.items()]
    specs = {
        name: GraphSpec(
            name=name,
            file=files[name],
            data=None,
            runtime="onnxruntime",
            role=name,
            precision="float32",
            inputs=wiring.inputs,
            outputs=wiring.outputs,
            state=(),
            constants=wiring.constants,
        )
        for name, wiring in zip(graphs, wirings)
    }
    table = {**TABLE, **({"decoder_with_past": "decoder_with_past"} if kind == "split" else {})}
    return complete_generation(table, wirings), specs, graphs


def write(decoder: generate.Decoder, values: dict[str, Any], prompt: Sequence[int], count: int) -> list[int]:
    """`count` tokens after the prompt, the likeliest each."""
    bounds = Bounds(len(prompt), (), 0, len(prompt) + count)
    choose = chooser(CHOICE, rules(CHOICE, bounds, None, None), None)
    return list(generate.decode(generate.begin(decoder, values), choose, prompt, bounds, None))


def reference(folder: Path, states: np.ndarray, prompt: Sequence[int], count: int) -> list[int]:
    """The same by onnxruntime alone, all tokens read anew for each."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(folder / FIRST), options)
    tokens = list(prompt)
    for _ in range(count):
        feeds = {"input_ids": np.array([tokens], np.int64), "encoder_hidden_states": states}
        tokens.append(int(session.run(["logits"], feeds)[0][0, -1].argmax()))
    return tokens[len(prompt) :]
