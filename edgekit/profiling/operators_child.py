"""The process that profiles the operators of one graph: a crash of a profiler ends only this one.

`python -m edgekit.profiling.operators_child DOCUMENT` prints an OperatorTable as one line of JSON; the document
is JSON with bundle, graph, item, threads, runs.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError, InputError
from edgekit.flow import wire
from edgekit.manifest import GraphSpec
from edgekit.profiling import litert_profiler
from edgekit.profiling.environment import installed_versions
from edgekit.profiling.onnx_trace import onnx_runs
from edgekit.profiling.operators import Node, OperatorTable, explain_slow, no_operators, table
from edgekit.profiling.workload import keywords
from edgekit.records import Json, dump
from edgekit.runtimes.graph import Graph, GraphTensors, Tensors

Feed = dict[str, Any]
ORT_IDENTIFIER = b"ORTM"


class Recorder:
    """A graph that notes what it is given, so that the profiled one gets the very same."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.feeds: list[Feed] = []

    @property
    def spec(self) -> GraphTensors:
        """The graph's own."""
        return self._graph.spec

    def run(self, tensors: Tensors, outputs: Sequence[str] | None = None) -> dict[str, Any]:
        """Run it, and keep the inputs."""
        self.feeds.append(dict(tensors))
        return self._graph.run(tensors, outputs)

    def bind(self, carry: Mapping[str, str], initial: Tensors) -> Any:
        """The graph's own."""
        return self._graph.bind(carry, initial)

    def close(self) -> None:
        """Close the graph."""
        self._graph.close()


def main() -> int:
    """Profile the graph that the first argument names and print its table."""
    print(json.dumps(dump(profile_graph(json.loads(sys.argv[1])))))
    return 0


def profile_graph(told: Mapping[str, Json]) -> OperatorTable:
    """The table of one graph of a bundle, on the inputs that predict gives it for the item."""
    from edgekit import predictor
    from edgekit.bundle import open_bundle

    with open_bundle(told["bundle"]) as bundle:
        generates = bundle.manifest.generation is not None
        spec = next((graph for graph in bundle.manifest.graphs if graph.name == told["graph"]), None)
        if spec is None:
            raise InputError(f"the bundle has no graph {told['graph']!r}")
        with predictor.load(told["bundle"], threads=told["threads"], text_memory=0) as loaded:
            given = keywords(told["item"], loaded.read)
            _, values = loaded.trace(**given)
        if not all(port.value in values for port in spec.inputs):
            reason = (
                "the loop that writes text runs it step by step: its time is that of `generate`"
                if generates
                else "these inputs do not reach it; give --image, --audio or --text"
            )
            return no_operators(spec.name, spec.runtime, reason)
        feed = record_feed(bundle.path_for_loading(spec.file), spec, values, bundle.path_for_loading)
        path = bundle.path_for_loading(spec.file)
        if spec.runtime == "onnxruntime":
            found = onnx_table(path, spec, feed, int(told["threads"] or 0), int(told["runs"]))
        else:
            found = litert_table(path, spec, feed, int(told["runs"]))
    return found.replace(slow_because=explain_slow(found.operators, spec.precision, processor_features()))


def record_feed(path: str, spec: GraphSpec, values: Mapping[str, Any], locate: Any) -> Feed:
    """The tensors that the flow hands to the graph, in its own datatypes, in the first of its runs."""
    from edgekit.runtimes.graph import Settings
    from edgekit.runtimes.loading import load_graph

    settings = Settings(threads=1, spinning=False, providers=(), cache=None)
    graph = load_graph(spec.runtime, path, settings, None if spec.data is None else locate(spec.data))
    recorder = Recorder(graph)
    try:
        wire(spec, recorder).run(dict(values), {})
    finally:
        recorder.close()
    return recorder.feeds[0]


def onnx_table(path: str, spec: GraphSpec, feed: Feed, threads: int, runs: int) -> OperatorTable:
    """By ONNX Runtime's own profile, from a session of its own beside a plain one, run in turn."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        plain = onnxruntime.InferenceSession(path, _options(onnxruntime, path, threads, None))
        watched = onnxruntime.InferenceSession(path, _options(onnxruntime, path, threads, folder))
        plain_ms: list[float] = []
        profiled_ms: list[float] = []
        for i in range(runs + 2):
            for session, times in ((plain, plain_ms), (watched, profiled_ms)):
                before = time.perf_counter()
                session.run(None, feed)
                if i >= 2:
                    times.append((time.perf_counter() - before) * 1e3)
        events = json.loads(Path(watched.end_profiling()).read_bytes())
    found = onnx_runs(events, runs + 2, "")
    notes = [found.problem] if found.problem else []
    return table(
        spec.name,
        "onnxruntime",
        "ONNX Runtime's profile, a session of its own",
        found.runs[2:],
        run_ms=found.model_ms[2:],
        plain_ms=plain_ms,
        profiled_ms=profiled_ms,
        notes=notes,
    )


def _options(runtime: Any, path: str, threads: int, profile_folder: str | None) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with open(path, "rb") as file:
        if file.read(8)[4:] == ORT_IDENTIFIER:
            options.add_session_config_entry("session.load_model_format", "ORT")
    if profile_folder is not None:
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(profile_folder, "profile")
    return options


def litert_table(path: str, spec: GraphSpec, feed: Feed, runs: int) -> OperatorTable:
    """By the profiler in LiteRT's library, where its version is one whose layout was checked."""
    version = installed_versions(["ai-edge-litert"]).get("ai-edge-litert")
    if version is None:
        return no_operators(spec.name, spec.runtime, "ai-edge-litert is not installed; tflite-runtime has no profiler")
    if not litert_profiler.is_checked(version):
        reason = f"the profiler of ai-edge-litert {version} was not checked (known: 2.1.6, 2.2, 2.3)"
        return no_operators(spec.name, spec.runtime, reason)
    library = litert_profiler.open_library(_litert_library())
    inputs = [feed[name].tobytes() for name in feed]
    found = litert_profiler.profile(library, path, inputs, runs)
    notes = [] if found.fed else ["its inputs could not be matched by size: zeros were given"]
    return table(
        spec.name,
        "litert",
        "LiteRT's C profiler, CompiledModel with 1 thread",
        [_litert_nodes(run) for run in found.runs],
        run_ms=found.profiled_ms,
        plain_ms=found.plain_ms,
        profiled_ms=found.profiled_ms,
        notes=notes,
    )


def _litert_library() -> str:
    for folder in sys.path:
        path = os.path.join(folder or ".", "ai_edge_litert", "libLiteRt.so")
        if os.path.isfile(path):
            return path
    raise InputError("ai_edge_litert/libLiteRt.so was not found")


def _litert_nodes(events: list[litert_profiler.OperatorEvent]) -> list[Node]:
    """Operators of the graph and those inside delegates; a delegate's own node would count its parts twice."""
    has_parts = any(event.kind != litert_profiler.OPERATOR for event in events)
    nodes: list[Node] = []
    keys: Counter[str] = Counter()
    for event in events:
        in_delegate = event.kind != litert_profiler.OPERATOR
        if not in_delegate and has_parts and "delegate" in event.name.lower():
            continue
        key = f"{event.name} {'#' if in_delegate else '@'}{event.node}"
        keys[key] += 1
        unique = key if keys[key] == 1 else f"{key}.{keys[key]}"
        provider = "XNNPACK" if in_delegate else "built-in kernels"
        nodes.append(Node(unique, event.name, float(event.elapsed_us), None, _datatypes(event.name), provider))
    return nodes


def _datatypes(name: str) -> str | None:
    """XNNPACK names its operators with their layout and datatypes: `Convolution (NHWC, QU8) IGEMM`."""
    inside = name.partition("(")[2].partition(")")[0]
    kinds = [word.strip() for word in inside.split(",")[1:]]
    return "+".join(kinds) or None


def processor_features(path: str = "/proc/cpuinfo") -> frozenset[str]:
    """The words of the first `flags` or `Features` line."""
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except EdgekitError as error:
        print(f"edgekit: {error.message}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
