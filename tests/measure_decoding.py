"""What decoding a token costs beside the decoder's own session.run: python tests/measure_decoding.py [FOLDER]

Without a folder (one with decoder_model_merged.onnx), a random decoder of whisper-tiny's size is made. After each step
of the loop the session alone runs that step again on the same tensors; the median of the paired ratios is the figure.
Greedy with Whisper's 88 suppressed tokens. `--streaming` decodes the text of every token as well.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from decoders import Size, write_merged
from decoding import CHOICE, TABLE

from edgekit.generation import loop as generate
from edgekit.generation.detokenize import Pieces
from edgekit.generation.token_choice import Bounds, chooser, rules
from edgekit.manifest import GraphSpec
from edgekit.packaging.decoder_wiring import complete_generation, wire_graph
from edgekit.runtimes.graph import Settings, Tensors
from edgekit.runtimes.loading import load_graph

WHISPER_TINY = Size(vocabulary=51865, width=384, heads=6, layers=4, positions=448, wide=0.3)
FRAMES, TOKENS, ROUNDS = 1500, 100, 5


class Recording:
    """Remembers what the last step was given."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.spec = graph.spec
        self.last: tuple[dict[str, Any], Any] = ({}, None)

    def run(self, tensors: Tensors, outputs: Any = None) -> Any:
        self.last = (dict(tensors), outputs)
        return self.graph.run(tensors, outputs)


def measure(folder: Path, streaming: bool) -> list[tuple[float, float]]:
    """(step of the loop, session.run alone) in milliseconds per token."""
    settings = Settings(threads=0, spinning=False, providers=(), cache=None)
    graph = Recording(load_graph("onnxruntime", folder / "decoder_model_merged.onnx", settings, None))
    wiring = wire_graph(graph.spec, "decoder", None)
    positions = {**TABLE, "positions": 448, "max_length": 448}
    spec = complete_generation(positions, [wiring])
    graph_spec = GraphSpec(
        name="decoder", file="decoder", data=None, runtime="onnxruntime", role="decoder", precision="float32",
        inputs=wiring.inputs, outputs=wiring.outputs, state=(), constants=(),
    )  # fmt: skip
    decoder = generate.wire_decoder(spec, {"decoder": graph_spec}, {"decoder": graph})  # type: ignore[dict-item]
    choice = CHOICE.replace(suppress=tuple(range(1, 89)), begin_suppress=(220, 50257))
    session, found = graph.graph.session(), []
    for seed in range(ROUNDS):
        states = np.random.default_rng(seed).standard_normal((1, FRAMES, WHISPER_TINY.width)).astype(np.float32)
        bounds = Bounds(4, (0,), 0, 4 + TOKENS)
        choose = chooser(choice, rules(choice, bounds, None, None), None)
        advance = generate.begin(decoder, {"encoder_hidden_states": states})
        steps = generate.decode(advance, choose, [50258 % WHISPER_TINY.vocabulary, 5, 6, 7], bounds, None)
        pieces, tokens = Pieces(lambda t: "".join(map(chr, t)), hold_words=False), []
        for index in range(TOKENS):
            before = perf_counter_ns()
            tokens.append(next(steps))
            if streaming:
                pieces.add(tokens)
            middle = perf_counter_ns()
            feeds, outputs = graph.last
            session.run(outputs, feeds)
            after = perf_counter_ns()
            if index:  # the first step reads the whole prompt
                found.append(((middle - before) / 1e6, (after - middle) / 1e6))
    return found


def main() -> None:
    given = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given[0]) if given else Path(scratch)
        if not given:
            write_merged(folder, WHISPER_TINY)
        pairs = measure(folder, "--streaming" in sys.argv)
    ratios = sorted(loop / alone for loop, alone in pairs)
    print(f"{len(pairs)} tokens: loop {statistics.median(p[0] for p in pairs):.3f} ms, "
          f"session.run alone {statistics.median(p[1] for p in pairs):.3f} ms, ratio "
          f"median {statistics.median(ratios):.3f}, quartiles {ratios[len(ratios) // 4]:.3f} "
          f"{ratios[3 * len(ratios) // 4]:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
