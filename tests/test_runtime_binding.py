"""Streams and generation: bound steps give what unbound runs give, with fixed and with growing state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import cache_onnx, counter_onnx, counter_tflite, variable_tflite

from edgekit.errors import GraphRefused, RuntimeMissing
from edgekit.runtimes.graph import Graph, Settings
from edgekit.runtimes.loading import load_graph

SETTINGS = Settings(threads=1, spinning=False, providers=(), cache=None)
ZEROS = np.zeros((1, 3), np.float32)


def load(runtime: str, path: Path) -> Graph:
    try:
        return load_graph(runtime, path, SETTINGS, None)  # type: ignore[arg-type]
    except RuntimeMissing as error:
        pytest.skip(error.message)


@pytest.fixture(params=["onnxruntime", "litert"])
def counter(request: pytest.FixtureRequest, tmp_path: Path) -> Graph:
    make = counter_onnx if request.param == "onnxruntime" else counter_tflite
    return load(request.param, make(tmp_path / "counter"))


def row(value: float) -> np.ndarray:
    return np.full((1, 3), value, np.float32)


def test_the_output_of_a_step_is_the_input_of_the_next(counter: Graph) -> None:
    """state += x; y = 2 * state: after 0, 1, ... n the state is n (n + 1) / 2."""
    binding = counter.bind({"state": "state_out"}, {"state": ZEROS})
    outputs = [binding.run({"x": row(i)}) for i in range(1, 101)]
    for i, output in enumerate(outputs, start=1):
        assert output.keys() == {"y"}
        assert output["y"].tolist() == [[float(i * (i + 1))] * 3]
    assert binding.state()["state"].tolist() == [[5050.0] * 3]


def test_reset_starts_again_and_what_was_given_stays(counter: Graph) -> None:
    binding = counter.bind({"state": "state_out"}, {"state": row(1)})
    first = [binding.run({"x": row(5)})["y"].tolist(), binding.run({})["y"].tolist()]
    assert first == [[[12.0] * 3], [[22.0] * 3]]
    binding.reset()
    assert [binding.run({})["y"].tolist(), binding.run({})["y"].tolist()] == first


def test_a_state_that_is_given_replaces_the_one_carried(counter: Graph) -> None:
    binding = counter.bind({"state": "state_out"}, {"state": ZEROS, "x": row(1)})
    binding.run({})
    assert binding.run({"state": row(10)})["y"].tolist() == [[22.0] * 3]
    assert binding.run({})["y"].tolist() == [[24.0] * 3]


def test_arrays_in_and_out_are_the_callers(counter: Graph) -> None:
    initial, given = ZEROS.copy(), row(1)
    binding = counter.bind({"state": "state_out"}, {"state": initial})
    first = binding.run({"x": given})["y"]
    initial += 100
    given += 100
    state = binding.state()["state"]
    state += 100
    first += 100
    assert binding.run({})["y"].tolist() == [[4.0] * 3]
    binding.reset()
    assert binding.run({})["y"].tolist() == [[2.0] * 3]


def test_a_refused_step_leaves_the_state_of_the_last_good_one(counter: Graph) -> None:
    binding = counter.bind({"state": "state_out"}, {"state": ZEROS})
    binding.run({"x": row(1)})
    for wrong in ({"x": np.ones((1, 4), np.float32)}, {"x": np.ones((1, 3))}, {"z": row(1)}):
        with pytest.raises(GraphRefused, match="expected"):
            binding.run(wrong)
    assert binding.state()["state"].tolist() == [[1.0] * 3]
    assert binding.run({"x": row(1)})["y"].tolist() == [[4.0] * 3]


def test_two_bindings_and_plain_runs_do_not_see_one_another(counter: Graph) -> None:
    one, two = (counter.bind({"state": "state_out"}, {"state": ZEROS}) for _ in range(2))
    for i in range(10):
        assert one.run({"x": row(1)})["y"][0, 0] == 2 * (i + 1)
        assert two.run({"x": row(2)})["y"][0, 0] == 4 * (i + 1)
        assert counter.run({"x": row(3), "state": ZEROS})["y"][0, 0] == 6


def test_wrong_names_are_refused_when_binding(counter: Graph) -> None:
    for carry, initial in (
        ({"state": "nope"}, {"state": ZEROS}),
        ({"nope": "state_out"}, {"nope": ZEROS}),
        ({"state": "state_out"}, {}),
        ({"state": "y", "x": "y"}, {"state": ZEROS, "x": ZEROS}),
    ):
        with pytest.raises(GraphRefused, match="carr"):
            counter.bind(carry, initial)


def test_a_missing_input_is_named(counter: Graph) -> None:
    with pytest.raises(GraphRefused, match="x"):
        counter.bind({"state": "state_out"}, {"state": ZEROS}).run({})


def test_a_cache_grows_step_by_step_and_equals_one_long_run(tmp_path: Path) -> None:
    graph = load("onnxruntime", cache_onnx(tmp_path / "cache.onnx"))
    rng = np.random.default_rng(4)
    tokens = rng.integers(-9, 9, (1, 300, 2)).astype(np.float32)
    binding = graph.bind({"past": "present"}, {"past": np.zeros((1, 0, 2), np.float32)})
    for i in range(300):
        total = binding.run({"x": tokens[:, i : i + 1]})["total"]
        assert total.tolist() == tokens[:, : i + 1].sum(1).tolist()
    assert binding.state()["past"].tolist() == tokens.tolist()
    binding.reset()
    assert binding.run({"x": tokens})["total"].tolist() == tokens.sum(1).tolist()
    assert binding.state()["past"].shape == (1, 300, 2)


def test_variables_inside_a_graph_are_a_bindings_own(tmp_path: Path) -> None:
    """y = x + h, h = y inside the interpreter: two bindings count on their own, plain runs start from zero."""
    graph = load("litert", variable_tflite(tmp_path / "v.tflite"))
    x = {"x": np.ones((1, 2), np.float32)}
    one, two = graph.bind({}, {}), graph.bind({}, {})
    assert [one.run(x)["y"][0, 0] for _ in range(3)] == [1, 2, 3]
    assert [two.run(x)["y"][0, 0] for _ in range(2)] == [1, 2]
    assert graph.run(x)["y"][0, 0] == 1
    assert one.run(x)["y"][0, 0] == 4
    one.reset()
    assert one.run(x)["y"][0, 0] == 1
