"""R2, L4, L6 and 'Bad input': ONNX graphs load by path, answer exactly, and refuse with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import affine_onnx, big_onnx, info, node, onnx_bytes
from test_formats_ort import to_ort

from edgekit.errors import ClosedError, GraphRefused, ProviderInactive
from edgekit.runtimes.graph import Graph, Settings, TensorSpec
from edgekit.runtimes.loading import installed, load_graph
from edgekit.runtimes.onnx import saturates_int8

pytest.importorskip("onnxruntime")
SETTINGS = Settings(threads=1, spinning=False, providers=(), cache=None)


def load(path: Path, settings: Settings = SETTINGS, data: Path | None = None) -> Graph:
    return load_graph("onnxruntime", path, settings, data)


def load_bytes(folder: Path, content: bytes) -> Graph:
    path = folder / "m.onnx"
    path.write_bytes(content)
    return load(path)


def test_a_graph_says_its_tensors_and_computes(tmp_path: Path) -> None:
    graph = load(affine_onnx(tmp_path / "m.onnx"))
    assert graph.spec.inputs == (TensorSpec(name="x", datatype="FP32", shape=(-1, 4), quantization=None),)
    for rows in (1, 3, 2):
        outputs = graph.run({"x": np.ones((rows, 4), np.float32)})
        assert outputs.keys() == {"y"}
        assert outputs["y"].tolist() == [[2.0, 3.0, 4.0, 5.0]] * rows


def test_outputs_belong_to_the_caller(tmp_path: Path) -> None:
    graph = load(affine_onnx(tmp_path / "m.onnx"))
    first = graph.run({"x": np.ones((1, 4), np.float32)})["y"]
    graph.run({"x": np.full((1, 4), 9, np.float32)})
    assert first.tolist() == [[2.0, 3.0, 4.0, 5.0]]
    first += 1
    graph.close()
    assert first.tolist() == [[3.0, 4.0, 5.0, 6.0]]


def test_ort_files_and_weights_beside_load_through_the_folders_descriptor(tmp_path: Path) -> None:
    path = big_onnx(tmp_path / "m.onnx", layers=2, width=8, data="m.data")
    inside = big_onnx(tmp_path / "i.onnx", layers=2, width=8)
    to_ort(inside)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    folder = Path(f"/proc/self/fd/{descriptor}")
    try:
        graphs = [load(folder / "m.onnx", data=folder / "m.data"), load(folder / "i.onnx"), load(folder / "i.ort")]
    finally:
        os.close(descriptor)
    path.unlink()
    results = [g.run({"x0": np.ones((1, 8), np.float32)})["x2"].tobytes() for g in graphs]
    assert len(set(results)) == 1


def test_it_is_the_file_behind_the_descriptor_that_runs(tmp_path: Path) -> None:
    """R2: a folder swapped by rename after it was opened changes nothing."""
    (tmp_path / "good").mkdir()
    (tmp_path / "evil").mkdir()
    affine_onnx(tmp_path / "good" / "m.onnx")
    (tmp_path / "evil" / "m.onnx").write_bytes(
        onnx_bytes([node("Neg", ["x"], ["y"])], [info("x", ["n", 4])], [info("y", ["n", 4])])
    )
    descriptor = os.open(tmp_path / "good", os.O_RDONLY)
    (tmp_path / "good").rename(tmp_path / "old")
    (tmp_path / "evil").rename(tmp_path / "good")
    graph = load(Path(f"/proc/self/fd/{descriptor}/m.onnx"))
    os.close(descriptor)
    assert graph.run({"x": np.ones((1, 4), np.float32)})["y"][0, 0] == 2.0


@pytest.mark.parametrize(
    ("feed", "expected"),
    [
        ({"x": np.ones((1, 4))}, r"input 'x': expected FP32 \(\?, 4\), got FP64 \(1, 4\)"),
        ({"x": np.ones((1, 5), np.float32)}, r"expected FP32 \(\?, 4\), got FP32 \(1, 5\)"),
        ({"x": np.ones(4, np.float32)}, r"expected FP32 \(\?, 4\), got FP32 \(4\)"),
        ({"x": np.ones((1, 4), ">f4")}, r"expected FP32 \(\?, 4\), got >f4"),
        ({}, r"expected the inputs \['x'\], got \[\]"),
        ({"z": np.ones((1, 4), np.float32)}, r"expected the inputs \['x'\], got \['z'\]"),
        ({"x": np.ones((1, 4), np.float32), "z": np.ones(1)}, r"expected the inputs \['x'\], got \['x', 'z'\]"),
        ({"x": [[1.0] * 4]}, r"expected arrays, got 'x' \(list\)"),
    ],
)
def test_wrong_inputs_are_refused_and_the_graph_stays_exact(tmp_path: Path, feed: dict, expected: str) -> None:
    graph = load(affine_onnx(tmp_path / "m.onnx"))
    with pytest.raises(GraphRefused, match=expected) as caught:
        graph.run(feed)
    assert caught.value.exit_code == 5
    assert graph.run({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[2.0, 3.0, 4.0, 5.0]]


def unary(
    op: str, kind: str = "FLOAT", *, domain: str = "", shape: tuple[int, ...] = (1, 1, 4, 4), **more: object
) -> bytes:
    inputs = ["x", "x"] if op == "Conv" else ["x"]
    nodes = [node(op, inputs, ["y"], domain=domain)]
    return onnx_bytes(nodes, [info("x", shape, kind)], [info("y", shape, kind)], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda: unary("Foo"), "no operator Foo of ai.onnx opset 17"),
        (lambda: unary("Foo", domain="my.ops", opsets={"": 17, "my.ops": 3}), "no operator Foo of my.ops opset 3"),
        (lambda: unary("Foo", domain="my.ops"), "no operator Foo of my.ops"),
        (
            lambda: unary("FooBar", domain="com.microsoft", opsets={"": 17, "com.microsoft": 1}),
            "FooBar of com.microsoft",
        ),
        (lambda: unary("Conv", "DOUBLE"), r"no implementation of operator Conv of ai\.onnx opset 11"),
        (lambda: unary("Relu", opsets={"": 99}), r"needs opset 99 of ai\.onnx, onnxruntime .* has \d+"),
        (lambda: unary("Relu", ir_version=99), r"needs ONNX IR version 99, onnxruntime .* has \d+"),
        (lambda: unary("Relu", "COMPLEX64"), "refuses it|expected a tensor of a plain"),
        (lambda: unary("Relu")[:-30], "not a well-formed ONNX file"),
        (lambda: b"#!/bin/sh\necho this is no model\n", "not a well-formed ONNX file"),
        (lambda: b"\0\0\0\0ORTM" + bytes(100), "not a well-formed ORT-format file"),
    ],
)
def test_a_graph_that_cannot_run_here_is_refused_with_the_reason(tmp_path: Path, content, expected: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(GraphRefused, match=rf"m\.onnx: .*({expected})") as caught:
        load_bytes(tmp_path, content())
    assert str(tmp_path) not in str(caught.value)


def test_a_run_that_fails_says_why_and_leaves_the_graph_usable(tmp_path: Path) -> None:
    nodes = [node("Add", ["x", "z"], ["y"])]
    graph = load_bytes(tmp_path, onnx_bytes(nodes, [info("x", ["n"]), info("z", ["m"])], [info("y", ["k"])]))
    three, four = np.ones(3, np.float32), np.ones(4, np.float32)
    with pytest.raises(GraphRefused, match=r"could not run it.*Add node.*3 by 4"):
        graph.run({"x": three, "z": four})
    assert graph.run({"x": three, "z": three})["y"].tolist() == [2.0, 2.0, 2.0]


def test_outputs_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    output = onnx.helper.make_tensor_sequence_value_info("y", onnx.TensorProto.FLOAT, [4])
    with pytest.raises(GraphRefused, match=r"output 'y' is a seq\(tensor\(float\)\)"):
        load_bytes(tmp_path, onnx_bytes([node("SequenceConstruct", ["x"], ["y"])], [info("x", [4])], [output]))


def test_a_provider_that_is_not_there_is_an_error_that_lists_those_that_are(tmp_path: Path) -> None:
    path = affine_onnx(tmp_path / "m.onnx")
    with pytest.raises(ProviderInactive, match=r"expected TensorrtExecutionProvider.*CPUExecutionProvider") as caught:
        load(path, SETTINGS.replace(providers=("TensorrtExecutionProvider", "CPUExecutionProvider")))
    assert caught.value.hint is not None
    graph = load(path, SETTINGS.replace(providers=("CPUExecutionProvider",)))
    assert graph.run({"x": np.ones((1, 4), np.float32)})["y"][0, 0] == 2.0


def test_use_after_close_is_our_error_and_close_twice_is_none(tmp_path: Path) -> None:
    graph = load(affine_onnx(tmp_path / "m.onnx"))
    binding = graph.bind({}, {"x": np.ones((1, 4), np.float32)})
    graph.close()
    graph.close()
    for use in (
        lambda: graph.run({"x": np.ones((1, 4), np.float32)}),
        lambda: binding.run({}),
        lambda: graph.bind({}, {}),
    ):
        with pytest.raises(ClosedError, match=r"m\.onnx: used after close"):
            use()


def test_threads_and_spinning_are_accepted_and_change_no_result(tmp_path: Path) -> None:
    path = big_onnx(tmp_path / "m.onnx", layers=2, width=64)
    feed = {"x0": np.linspace(-1, 1, 64, dtype=np.float32)[None]}
    results = [
        load(path, SETTINGS.replace(threads=threads, spinning=spinning)).run(feed)["x2"]
        for threads in (0, 1, 2)
        for spinning in (False, True)
    ]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "flags : fpu sse4_2 avx avx2 fma", True),
        ("x86_64", "flags : avx2 avx512bw avx512vl", True),
        ("x86_64", "flags : avx2 avx512f avx512_vnni", False),
        ("x86_64", "flags : avx2 avx_vnni", False),
        ("aarch64", "", False),
        ("x86_64", "", True),
    ],
)
def test_only_x86_without_vnni_needs_the_exact_int8_sums(machine: str, flags: str, expected: bool) -> None:
    assert saturates_int8(machine, flags) is expected


def test_installed_names_the_version() -> None:
    import onnxruntime

    assert installed()["onnxruntime"] == onnxruntime.__version__


def test_nothing_the_runtime_mutters_reaches_stdout_or_stderr(tmp_path: Path) -> None:
    """Loading, failing to load and failing to run are silent: what went wrong is in the error."""
    affine_onnx(tmp_path / "good.onnx")
    nodes = [node("Add", ["x", "z"], ["y"])]
    (tmp_path / "run.onnx").write_bytes(onnx_bytes(nodes, [info("x", ["n"]), info("z", ["m"])], [info("y", ["k"])]))
    (tmp_path / "op.onnx").write_bytes(unary("Foo"))
    (tmp_path / "opset.onnx").write_bytes(unary("Relu", opsets={"": 99}))
    code = f"""
import numpy as np
from edgekit.errors import GraphRefused
from edgekit.runtimes.graph import Settings
from edgekit.runtimes.loading import load_graph
S = Settings(threads=1, spinning=False, providers=(), cache=None)
for name in ("good", "run", "op", "opset"):
    try:
        graph = load_graph("onnxruntime", {str(tmp_path)!r} + f"/{{name}}.onnx", S, None)
        graph.run({{"x": np.ones(3, np.float32), "z": np.ones(4, np.float32)}})
    except GraphRefused:
        pass
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
