"""R2, L4, L6 and 'Bad input': TFLite graphs load by path, answer exactly, and refuse with the reason."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from graphs import ADD, affine_tflite, custom_tflite, quantized_tflite, tensor, tflite_bytes, variable_tflite

from edgekit.errors import ClosedError, GraphRefused, ProviderInactive, RuntimeMissing
from edgekit.runtimes.graph import Settings, TensorSpec
from edgekit.runtimes.litert import LiteRtGraph
from edgekit.runtimes.loading import load_graph
from edgekit.specs.quantize import dequantize, quantize
from edgekit.specs.tensor import Quantization

SETTINGS = Settings(threads=1, spinning=False, providers=(), cache=None)


def load(path: Path, settings: Settings = SETTINGS) -> LiteRtGraph:
    try:
        graph = load_graph("litert", path, settings, None)
    except RuntimeMissing as error:
        pytest.skip(f"no TFLite interpreter here: {error.message}")
    assert isinstance(graph, LiteRtGraph)
    return graph


def ones(*shape: int) -> dict[str, np.ndarray]:
    return {"x": np.ones(shape, np.float32)}


def test_a_graph_says_its_tensors_and_computes(tmp_path: Path) -> None:
    graph = load(affine_tflite(tmp_path / "m.tflite"))
    assert graph.spec.inputs == (TensorSpec(name="x", datatype="FP32", shape=(-1, 4), quantization=None),)
    for rows in (1, 3, 3, 2, 1):
        assert graph.run(ones(rows, 4))["y"].tolist() == [[2.0, 3.0, 4.0, 5.0]] * rows


def test_outputs_belong_to_the_caller(tmp_path: Path) -> None:
    graph = load(affine_tflite(tmp_path / "m.tflite"))
    first = graph.run(ones(1, 4))["y"]
    graph.run({"x": np.full((1, 4), 9, np.float32)})
    first += 1
    graph.close()
    assert first.tolist() == [[3.0, 4.0, 5.0, 6.0]]


def test_quantised_tensors_stay_quantised_and_say_their_scale(tmp_path: Path) -> None:
    """y = x + x at scale 1.0, zero point 7, from x at scale 0.5, zero point -3."""
    graph = load(quantized_tflite(tmp_path / "q.tflite"))
    source, result = graph.spec.inputs[0].quantization, graph.spec.outputs[0].quantization
    assert source == Quantization(scale=0.5, zero_point=-3, rounding="nearest_even")
    assert result == Quantization(scale=1.0, zero_point=7, rounding="nearest_even")
    real = np.array([[0.5, 1.0, -2.0, 3.5]], np.float32)
    output = graph.run({"x": quantize(real, source, "int8")})["y"]
    assert output.dtype == np.int8
    assert dequantize(output, result).tolist() == (2 * real).tolist()


def test_a_fixed_shape_refuses_another_and_the_graph_stays_exact(tmp_path: Path) -> None:
    graph = load(affine_tflite(tmp_path / "m.tflite", dynamic=False))
    for feed, expected in (
        (ones(2, 4), r"input 'x': expected FP32 \(1, 4\), got FP32 \(2, 4\)"),
        ({"x": np.ones((1, 4))}, r"got FP64 \(1, 4\)"),
        ({}, r"expected the inputs \['x'\], got \[\]"),
        ({"y": np.ones((1, 4), np.float32)}, r"got \['y'\]"),
    ):
        with pytest.raises(GraphRefused, match=expected):
            graph.run(feed)
        assert graph.run(ones(1, 4))["y"].tolist() == [[2.0, 3.0, 4.0, 5.0]]


def test_a_resize_that_fails_is_undone_by_the_next_good_call(tmp_path: Path) -> None:
    """x: (-1, 4) + z: (-1, 4) cannot be 2 rows plus 3; afterwards 1 plus 1 and 2 plus 2 still are right."""
    free = [-1, 4]
    tensors = [tensor(name, [1, 4], signature=free) for name in ("x", "z", "y")]
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite_bytes(tensors, [(ADD, [0, 1], [2])], [0, 1], [2]))
    graph = load(path)
    for rows in (1, 2, 1):
        with pytest.raises(GraphRefused, match="could not run it"):
            graph.run({"x": np.ones((2, 4), np.float32), "z": np.ones((3, 4), np.float32)})
        both = np.ones((rows, 4), np.float32)
        assert graph.run({"x": both, "z": both})["y"].tolist() == [[2.0] * 4] * rows


def test_a_custom_operator_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(GraphRefused, match=r"c\.tflite: .* has no custom operator 'TeleportV2'") as caught:
        load(custom_tflite(tmp_path / "c.tflite"))
    assert caught.value.exit_code == 5


def test_a_builtin_of_a_future_version_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite_bytes([tensor("x", [4]), tensor("y", [4])], [(ADD, [0, 0], [1])], [0], [1], version=99))
    with pytest.raises(GraphRefused, match=r"has no operator ADD of version 99"):
        load(path)


def test_the_negative_models_are_refused(shared: Path) -> None:
    """Published models that a runtime must not accept: one with an unknown operator, one with broken scales."""
    folder = shared / "models" / "negative"
    with pytest.raises(GraphRefused, match="fake-op-double"):
        load(folder / "model_invoking_error.tflite")
    with pytest.raises(GraphRefused, match=r"person_detect\.tflite: .*quantized_dimension"):
        load(folder / "person_detect.tflite")


def test_variables_inside_a_graph_start_anew_with_each_run(tmp_path: Path) -> None:
    """L4: y = x + h with h kept inside; a run always answers as the first one did."""
    graph = load(variable_tflite(tmp_path / "v.tflite"))
    assert [graph.run(ones(1, 2))["y"].tolist() for _ in range(3)] == [[[1.0, 1.0]]] * 3


def test_a_truncated_file_never_reaches_the_interpreter(tmp_path: Path) -> None:
    content = affine_tflite(tmp_path / "m.tflite").read_bytes()
    for size in range(0, len(content) - 1, 7):
        (tmp_path / "m.tflite").write_bytes(content[:size])
        with pytest.raises(GraphRefused, match=r"m\.tflite"):
            load(tmp_path / "m.tflite")


def test_the_file_is_read_through_one_descriptor_also_by_clones(tmp_path: Path) -> None:
    """R2: after the folder is gone and the name means another file, a clone still runs what was loaded."""
    path = affine_tflite(tmp_path / "m.tflite")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    graph = load(Path(f"/proc/self/fd/{descriptor}/m.tflite"))
    os.close(descriptor)
    path.unlink()
    quantized_tflite(path)
    clone = graph.clone()
    graph.close()
    assert clone.run(ones(1, 4))["y"][0, 0] == 2.0
    with pytest.raises(ClosedError):
        graph.clone()
    clone.close()


def test_use_after_close_is_our_error_and_close_twice_is_none(tmp_path: Path) -> None:
    graph = load(affine_tflite(tmp_path / "m.tflite"))
    binding = graph.bind({}, {})
    graph.close()
    graph.close()
    for use in (lambda: graph.run(ones(1, 4)), lambda: binding.run(ones(1, 4)), graph.clone):
        with pytest.raises(ClosedError, match=r"m\.tflite: used after close"):
            use()


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    """By close, by a load that fails, and with a binding that had an interpreter of its own."""
    path = affine_tflite(tmp_path / "m.tflite")
    variable = variable_tflite(tmp_path / "v.tflite")
    load(path).close()
    gc.collect()  # tflite-runtime keeps a descriptor of its own until the interpreter is freed
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        graph = load(path)
        graph.clone().close()
        graph.close()
        load(variable).bind({}, {}).run(ones(1, 2))
        with pytest.raises(GraphRefused):
            load(custom_tflite(tmp_path / "c.tflite"))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_provider_or_outside_weights_are_refused(tmp_path: Path) -> None:
    path = affine_tflite(tmp_path / "m.tflite")
    load(path, SETTINGS.replace(providers=("CPUExecutionProvider",))).close()
    with pytest.raises(ProviderInactive, match="expected NnapiExecutionProvider"):
        load(path, SETTINGS.replace(providers=("NnapiExecutionProvider",)))
    with pytest.raises(GraphRefused, match="no weights outside"):
        load_graph("litert", path, SETTINGS, tmp_path / "m.data")


def test_real_models_name_their_tensors_as_the_file_does(shared: Path) -> None:
    graph = load(shared / "models" / "coral" / "mobilenet_v1_0.25_128_quant.tflite")
    assert [t.name for t in graph.spec.inputs] == ["input"]
    assert graph.spec.inputs[0].quantization == Quantization(scale=0.0078125, zero_point=128, rounding="nearest_even")
