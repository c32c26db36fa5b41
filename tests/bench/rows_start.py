"""Rows measured in fresh processes, in shuffled order round after round: C1 to C5, I6, R5."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import image_specs

from bench import bundles, data, graphs, rows_text
from bench.environment import Environment, child_environment
from bench.measure import Claim, Finding, Group, judge
from edgekit.specs.tensor import Port, TensorInput


class Programs(NamedTuple):
    """Programs of `child` by the name they have in the table, and what is claimed of which of their numbers.

    claims: (key of what the program prints, unit, claim). times: rounds for each round of the others, where programs
    are short and what is claimed is small.
    """

    name: str
    programs: Mapping[str, str]
    claims: Sequence[tuple[str, str, Claim]]
    times: int = 1


FULL = {"image_hf_torch", "peak_hf_torch"}
"""Programs that need torch."""

ROWS = (
    Programs(
        "first image, against programs of the same packages",
        {"edgekit": "image_edgekit", "by hand": "image_floor", "by hand, as usual": "image_plain"},
        [
            ("seconds", "ms", Claim("C1 spawn to first image", "edgekit", "by hand", 1.15, 1.25)),
            ("seconds", "ms", Claim("C1 spawn to first image", "edgekit", "by hand, as usual", None, None)),
        ],
        times=5,
    ),
    Programs(
        "first image",
        {
            "edgekit": "image_edgekit",
            "by hand": "image_floor",
            "HF without torch": "image_hf",
            "HF with torch": "image_hf_torch",
        },
        [
            ("seconds", "ms", Claim("C1 spawn to first image", "edgekit", "HF without torch", 0.18, 0.20, "by hand")),
            ("seconds", "ms", Claim("C1 spawn to first image", "edgekit", "HF with torch", 0.06, 0.06, "by hand")),
            ("peak_mib", "MiB", Claim("C3 its peak memory", "edgekit", "HF without torch", 0.6, 0.65, "by hand")),
            ("peak_mib", "MiB", Claim("C3 its peak memory", "edgekit", "HF with torch", 0.17, 0.17, "by hand")),
        ],
    ),
    Programs(
        "first text",
        {"edgekit": "text_edgekit", "by hand": "text_floor", "AutoTokenizer without torch": "text_hf"},
        [
            ("seconds", "ms", Claim("C2 spawn to first text", "edgekit", "by hand", None, 1.25)),
            ("seconds", "ms", Claim("C2 spawn to first text", "edgekit", "AutoTokenizer without torch", None, 0.25)),
        ],
    ),
    Programs(
        "second load",
        {"edgekit": "load_edgekit", "InferenceSession": "load_session"},
        [
            ("work_s", "ms", Claim("C4 90 MB, load and first run", "edgekit", "InferenceSession", 0.40, 0.45)),
            ("resident_mib", "MiB", Claim("C4 90 MB, resident memory", "edgekit", "InferenceSession", 0.45, 0.50)),
            ("private_mib", "MiB", Claim("C4 90 MB, private memory", "edgekit", "InferenceSession", None, None)),
        ],
    ),
    Programs(
        "import",
        {"edgekit": "import_edgekit", "numpy, Pillow, runtime": "import_bare", "python": "import_nothing"},
        [
            (
                "own_s",
                "ms",
                Claim("C5 import edgekit, all names", "edgekit", "numpy, Pillow, runtime", None, 15.0, excess=True),
            ),
        ],
        times=8,
    ),
    Programs(
        "peak memory at 12 MP",
        {
            "scaled (pillow_fused)": "peak_scaled_pillow",
            "scaled (matrix)": "peak_scaled",
            "exact (pillow_matrix)": "peak_exact_matrix",
            "exact (pillow_fused)": "peak_exact",
            "exact (pillow)": "peak_exact_pillow",
            "HF without torch": "peak_hf",
            "HF with torch": "peak_hf_torch",
        },
        [
            ("growth_mib", "MiB", Claim("I6 12 MP", "scaled (matrix)", "HF with torch", 0.08, 0.09)),
            ("growth_mib", "MiB", Claim("I6 12 MP", "scaled (pillow_fused)", "HF with torch", 0.08, 0.09)),
            ("growth_mib", "MiB", Claim("I6 12 MP", "exact (pillow_matrix)", "HF with torch", 0.32, 0.35)),
            ("growth_mib", "MiB", Claim("I6 12 MP", "exact (pillow_fused)", "HF with torch", 0.32, 0.35)),
            ("growth_mib", "MiB", Claim("I6 12 MP", "exact (pillow)", "HF with torch", 0.32, 0.35)),
            ("growth_mib", "MiB", Claim("I6 12 MP", "exact (pillow_fused)", "HF without torch", None, None)),
        ],
    ),
    Programs(
        "paced",
        {
            "edgekit, 1 thread": "paced_edgekit_1",
            "edgekit, 2 threads": "paced_edgekit",
            "ONNX Runtime as it comes": "paced_default",
        },
        [
            (key, "ms", Claim(f"R5 20 Hz, {what}", ours, "ONNX Runtime as it comes", goal, gate))
            for key, what, goal, gate in (("cpu_s", "CPU per call", 0.10, 0.10), ("latency_s", "p50", None, 1.5))
            for ours in ("edgekit, 1 thread", "edgekit, 2 threads")
        ],
    ),
)


def prepare(folder: Path, environment: Environment) -> None:
    """Every file the programs read, and each program once, so that caches are filled as on a second start."""
    import onnxruntime as ort

    for size in ("640x480", "12MP"):
        (folder / f"{size}.jpg").write_bytes(data.jpeg(size))
    (folder / "photo.jpg").write_bytes(data.jpeg("1080p"))
    model = graphs.convolutions(folder / "convolutions.onnx")
    spec = image_specs.clip_spec(
        arithmetic="pillow_fused", decode="scaled", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), value="x"
    )
    shape = (1, 3, 224, 224)
    graph = bundles.graph(
        "model.onnx",
        "onnxruntime",
        [Port(name="x", value="x", datatype="FP32", shape=shape, quantization=None)],
        [Port(name="y", value="y", datatype="FP32", shape=(1, 100), quantization=None)],
    )
    content = {"model.onnx": model.read_bytes()}
    bundles.write(folder / "convolutions.edgekit", {"image": spec}, (graph,), content)
    taken = TensorInput(kind="tensor", value="x", datatype="FP32", shape=shape)
    bundles.write(folder / "tensor.edgekit", {"x": taken}, (graph,), content)
    _text_files(folder)
    for source, made, outside in (("convolutions", "optimised", False), ("encoder", "prepacked", True)):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.optimized_model_filepath = str(folder / f"{made}.onnx")
        options.log_severity_level = 3
        if outside:
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{made}.data")
            options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
            options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
        ort.InferenceSession(str(folder / f"{source}.onnx"), options, providers=["CPUExecutionProvider"])
    for row in ROWS:
        for program in row.programs.values():
            run(program, folder, environment)


def _text_files(folder: Path) -> None:
    model = graphs.encoder(folder / "encoder.onnx")
    ids = Port(name="ids", value="ids", datatype="INT64", shape=(1, -1), quantization=None)
    states = Port(name="y", value="y", datatype="FP32", shape=(1, -1, 384), quantization=None)
    graph = bundles.graph("model.onnx", "onnxruntime", [ids], [states])
    taken = TensorInput(kind="tensor", value="ids", datatype="INT64", shape=(1, -1))
    content = {"model.onnx": model.read_bytes()}
    bundles.write(folder / "ids.edgekit", {"ids": taken}, (graph,), content)
    tokenizer = data.tokenizer_file()
    if tokenizer is None:
        return
    text = rows_text.spec().replace(ids="ids", mask=None, type_ids=None)
    words = tokenizer.read_bytes()
    bundles.write(folder / "encoder.edgekit", {"text": text}, (graph,), {**content, "tokenizer.json": words})
    (folder / "tokenizer.json").write_bytes(words)
    (folder / "tokenizer").mkdir(exist_ok=True)
    (folder / "tokenizer" / "tokenizer.json").write_bytes(words)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")


def run(program: str, folder: Path, environment: Environment) -> dict[str, float]:
    """One program in a fresh process: what it printed."""
    python = environment.full if program in FULL else environment.light
    own = child_environment(EDGEKIT_CACHE=str(folder / "cache"))
    command = [str(python), "-W", "ignore", "-m", "bench.child", program, str(folder)]
    command.append(repr(time.clock_gettime(time.CLOCK_MONOTONIC)))
    done = subprocess.run(command, capture_output=True, text=True, env=own, cwd=folder)
    if done.returncode != 0:
        raise RuntimeError(f"{program}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(row: Programs, folder: Path, environment: Environment, rounds: int) -> list[Finding]:
    """Every program once per round, in shuffled order."""
    shuffle = random.Random(0)
    names = list(row.programs)
    printed: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds * row.times):
        shuffle.shuffle(names)
        for name in names:
            printed[name].append(run(row.programs[name], folder, environment))
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    findings = []
    nothing: dict[str, Any] = dict.fromkeys(names)
    for key, unit, claim in row.claims:
        times = {name: [p.get(key, 0.0) for p in printed[name]] for name in names}
        findings += judge(Group(row.name, nothing, [claim], None, unit), times)
    return findings
