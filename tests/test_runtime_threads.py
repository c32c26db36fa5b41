"""L1, L4 and 'It shows': 16 threads on one graph: 0 errors, 0 differences; 300 load/close cycles stay flat."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from graphs import affine_onnx, affine_tflite, big_onnx, big_tflite

from edgekit.errors import ClosedError, RuntimeMissing
from edgekit.runtimes.graph import Graph, Settings
from edgekit.runtimes.loading import load_graph

SETTINGS = Settings(threads=2, spinning=False, providers=(), cache=None)
THREADS, CALLS = 16, 2_400


def load(runtime: str, path: Path) -> Graph:
    try:
        return load_graph(runtime, path, SETTINGS, None)  # type: ignore[arg-type]
    except RuntimeMissing as error:
        pytest.skip(error.message)


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_16_threads_on_one_graph_make_0_errors_and_0_differences(runtime: str, tmp_path: Path) -> None:
    make = big_onnx if runtime == "onnxruntime" else big_tflite
    graph = load(runtime, make(tmp_path / "m", layers=3, width=96))
    name = graph.spec.inputs[0].name
    rng = np.random.default_rng(5)
    feeds = [{name: rng.standard_normal((1, 96), np.float32)} for _ in range(24)]
    expected = [{k: v.tobytes() for k, v in graph.run(feed).items()} for feed in feeds]

    def call(i: int) -> bool:
        got = graph.run(feeds[i % len(feeds)])
        return {k: v.tobytes() for k, v in got.items()} == expected[i % len(feeds)]

    with ThreadPoolExecutor(THREADS) as pool:
        same = list(pool.map(call, range(CALLS)))
    assert (len(same), same.count(False)) == (CALLS, 0)


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_shapes_that_change_between_threads_stay_with_their_call(runtime: str, tmp_path: Path) -> None:
    make = affine_onnx if runtime == "onnxruntime" else affine_tflite
    graph = load(runtime, make(tmp_path / "m"))

    def call(i: int) -> bool:
        x = np.full((i % 7 + 1, 4), i, np.float32)
        return bool((graph.run({"x": x})["y"] == 2 * x + np.arange(4)).all())

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(call, range(CALLS)))


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_closing_while_16_threads_run_ends_each_with_a_result_or_closed(runtime: str, tmp_path: Path) -> None:
    make = affine_onnx if runtime == "onnxruntime" else affine_tflite
    path = make(tmp_path / "m")
    for _ in range(10):
        graph = load(runtime, path)
        ready = threading.Barrier(THREADS + 1)

        def call(graph: Graph = graph, ready: threading.Barrier = ready) -> int:
            ready.wait()
            for i in range(200):
                try:
                    assert graph.run({"x": np.ones((1, 4), np.float32)})["y"][0, 0] == 2
                except ClosedError:
                    return i
            return 200

        with ThreadPoolExecutor(THREADS) as pool:
            calls = [pool.submit(call) for _ in range(THREADS)]
            ready.wait()
            graph.close()
            assert all(0 <= c.result() <= 200 for c in calls)


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_300_load_and_close_cycles_grow_by_less_than_2_mib(runtime: str, tmp_path: Path) -> None:
    """Without the garbage collector: close() itself must free the weights."""
    make = big_onnx if runtime == "onnxruntime" else big_tflite
    path = make(tmp_path / "m", layers=2, width=256)

    def cycle() -> None:
        graph = load(runtime, path)
        name = graph.spec.inputs[0].name
        graph.run({name: np.ones((1, 256), np.float32)})
        graph.bind({}, {name: np.ones((1, 256), np.float32)}).run({})
        graph.close()

    gc.collect()
    gc.disable()
    try:
        for _ in range(60):
            cycle()
        before = resident_bytes()
        for _ in range(300):
            cycle()
        assert resident_bytes() - before <= 2 << 20
    finally:
        gc.enable()


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_5000_runs_with_20_shapes_grow_by_less_than_1_mib(runtime: str, tmp_path: Path) -> None:
    """L1 at the level of a graph."""
    make = affine_onnx if runtime == "onnxruntime" else affine_tflite
    graph = load(runtime, make(tmp_path / "m"))
    rng = np.random.default_rng(6)
    feeds = [{"x": rng.standard_normal((rows, 4), np.float32)} for rows in range(1, 21)]
    for i in range(1000):
        graph.run(feeds[i % 20])
    before = resident_bytes()
    for i in range(5000):
        graph.run(feeds[i % 20])
    assert resident_bytes() - before <= 1 << 20
