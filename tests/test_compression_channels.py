"""Proves: channels are taken out where the graph allows, and the result computes what the mask computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compression_models import plain, plain_arrays, resnet8, weights
from graphs import info, node, onnx_bytes

from edgekit.compression.inspection import inspect_model
from edgekit.compression.methods import compress_onnx, parse_method

ort = pytest.importorskip("onnxruntime")


def both(source: Path, share: float) -> tuple[Path, Path, list[str]]:
    """The model with channels taken out, and with the same channels masked; what could not be taken out."""
    notes: list[str] = []
    made = source.with_name("cut.onnx"), source.with_name("masked.onnx")
    for path, method in zip(made, ("prune-channels", "mask-channels")):
        compress_onnx(source, path, [parse_method(f"{method}:{share}")], None, notes.append)
    return *made, notes


def outputs(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def check_same(cut: Path, masked: Path, shape: tuple[int, ...]) -> None:
    want, got = outputs(masked, shape), outputs(cut, shape)
    assert np.abs(want).max() > 1e-3
    assert np.abs(want - got).max() <= 1e-5 * np.abs(want).max()


def test_a_chain_through_every_kind_of_layer_between(tmp_path: Path) -> None:
    """Convolution, normalisation, ReLU6, depthwise with bias, SiLU, a pool, flattened, dense, bias, scale: half of the
    channels of each layer go, and the counts are those of the smaller network by hand."""
    arrays: dict[str, np.ndarray] = {
        "w1": weights(16, 3, 3, 3, seed=1), "b1": weights(16, seed=2),
        "wd": weights(16, 1, 3, 3, seed=3), "bd": weights(16, seed=4),
        "w2": weights(32, 16, 1, 1, seed=5),
        "w3": weights(32, 512, seed=6).T.copy(), "b3": weights(32, seed=7),
        "w4": weights(24, 32, seed=8).T.copy(), "b4": weights(24, seed=9), "s4": weights(24, seed=10) + 2,
        "w5": weights(24, 12, seed=11), "b5": weights(12, seed=12),
        "zero": np.float32(0).reshape(()), "six": np.float32(6).reshape(()), "flat": np.array([-1, 512], np.int64),
    }  # fmt: skip
    for name in ("gamma", "beta", "mean"):
        arrays[name] = weights(16, seed=20 + len(name))
    arrays["var"] = np.abs(weights(16, seed=30)) + np.float32(0.5)
    norm = ["gamma", "beta", "mean", "var"]
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["a"], name="conv1", pads=[1] * 4),
        node("BatchNormalization", ["a", *norm], ["b"], name="norm1"),
        node("Clip", ["b", "zero", "six"], ["c"], name="relu6"),
        node("Conv", ["c", "wd", "bd"], ["d"], name="depthwise", group=16, pads=[1] * 4),
        node("BatchNormalization", ["d", *norm], ["e"], name="norm2"),  # the same tensors as the first
        node("Sigmoid", ["e"], ["gate"], name="sigmoid"),
        node("Mul", ["e", "gate"], ["f"], name="silu"),
        node("Conv", ["f", "w2"], ["g"], name="conv2"),
        node("Relu", ["g"], ["h"], name="relu2"),
        node("MaxPool", ["h"], ["i"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", ["i", "flat"], ["j"], name="reshape"),
        node("Gemm", ["j", "w3", "b3"], ["k"], name="dense3"),
        node("Relu", ["k"], ["l"], name="relu3"),
        node("MatMul", ["l", "w4"], ["m"], name="dense4"),
        node("Add", ["m", "b4"], ["n"], name="bias4"),
        node("Mul", ["n", "s4"], ["o"], name="scale4"),
        node("Gemm", ["o", "w5", "b5"], ["y"], name="dense5"),
    ]
    source = tmp_path / "chain.onnx"
    source.write_bytes(onnx_bytes(nodes, [info("x", ["n", 3, 8, 8])], [info("y", ["n", 12])], arrays))
    cut, masked, notes = both(source, 0.5)
    assert notes == []
    check_same(cut, masked, (3, 3, 8, 8))
    facts = inspect_model(cut)
    positions = 64
    work = positions * (8 * 27 + 8 * 9 + 16 * 8) + 16 * 16 * 16 + 16 * 12 + 12 * 12
    assert (facts.multiply_adds, facts.not_counted) == (work, {})
    # Weights, biases, scale and shift of two normalisations (their statistics are no parameters), the last scale.
    count = 8 * 27 + 8 + 8 * 9 + 8 + 16 * 8 + 256 * 16 + 16 + 16 * 12 + 12 + 12 + 12 * 12 + 12 + 2 * 2 * 8
    assert facts.parameters == count
    assert cut.stat().st_size < 0.4 * source.stat().st_size
    assert inspect_model(masked).multiply_adds == inspect_model(source).multiply_adds
    assert "structured-sparsity" not in facts.kinds()


def test_wide_layers_keep_whole_blocks(tmp_path: Path) -> None:
    """Of 64 rows a share of 0.3 is 19: 16 go and 48 stay; of 32 channels 9 go, narrow layers have it exactly."""
    cut, masked, _ = both(plain(tmp_path / "plain.onnx"), 0.3)
    check_same(cut, masked, (1, 3, 16, 16))
    assert [stored(cut, name).shape[0] for name in ("c1", "c2", "m2")] == [12, 23, 48]


def test_the_plain_network_flattened(tmp_path: Path) -> None:
    """A flattening multiplies channels by positions: 64 rows of the matrix go with each of 8 channels of 32."""
    cut, masked, notes = both(plain(tmp_path / "plain.onnx"), 0.25)
    assert notes == []
    check_same(cut, masked, (5, 3, 16, 16))
    assert inspect_model(cut).multiply_adds == 256 * 12 * 27 + 64 * 24 * 108 + 1536 * 48 + 48 * 64
    kept = {n: np.linalg.norm(plain_arrays()[n].reshape(c, -1), axis=1) for n, c in (("c1", 16), ("c2", 32))}
    for name, norms in kept.items():
        stays = np.sort(np.argsort(norms)[len(norms) // 4 :])
        assert stored(cut, name).shape[0] == len(stays)
        np.testing.assert_array_equal(stored(cut, f"{name}b"), plain_arrays()[f"{name}b"][stays])


def stored(path: Path, name: str) -> Any:
    import onnx

    model = onnx.load(str(path))
    return next(onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def test_what_other_layers_need_stays_and_is_zeroed(tmp_path: Path) -> None:
    """ResNet8: the first convolution of each block is cut, those that are added to others are zeroed and named."""
    source = resnet8(tmp_path / "resnet8.onnx")
    cut, masked, notes = both(source, 0.25)
    check_same(cut, masked, (1, 3, 32, 32))
    named = {text.split(":")[0] for text in notes}
    assert named == {"conv0", "conv2", "conv4", "conv5", "conv7", "conv8"}
    assert all("joins them with the channels of another layer" in text or "joins them" in text for text in notes)
    facts, before = inspect_model(cut), inspect_model(source)
    # 32x32: 3>16, 16>12>16; 16x16: 16>24>32 and 16>32 beside; 8x8: 32>48>64 and 32>64 beside; 64>10
    work = 1024 * 9 * (3 * 16 + 2 * 16 * 12) + 256 * (9 * (16 * 24 + 24 * 32) + 16 * 32)
    work += 64 * (9 * (32 * 48 + 48 * 64) + 32 * 64) + 640
    assert facts.multiply_adds == work < before.multiply_adds
    assert "structured-sparsity" in facts.kinds()


@pytest.mark.parametrize(
    ("middle", "why"),
    [
        (lambda: [node("Sigmoid", ["a"], ["b"], name="gate")], "not zero"),
        (lambda: [node("Transpose", ["a"], ["b"], name="turn", perm=[0, 1, 3, 2])], "Transpose 'turn' takes them"),
        (lambda: [node("Add", ["a", "shift"], ["b"], name="shift")], "not zero"),
        (lambda: [node("Concat", ["a", "a"], ["b"], name="both", axis=1)], "Concat"),
    ],
)
def test_what_is_not_followed_is_named(middle: Any, why: str, tmp_path: Path) -> None:
    """A layer that would see a constant where the channel was, moved axes, joined channels: zeroed, and why."""
    wide = 32 if why == "Concat" else 16
    arrays = {"w1": weights(16, 3, 3, 3, seed=1), "w2": weights(8, wide, 3, 3, seed=2), "shift": np.array([0.5], "f4")}
    nodes = [
        node("Conv", ["x", "w1"], ["a"], name="first", pads=[1] * 4),
        *middle(),
        node("Conv", ["b", "w2"], ["y"], name="last", pads=[1] * 4),
    ]
    source = tmp_path / "model.onnx"
    source.write_bytes(onnx_bytes(nodes, [info("x", [1, 3, 8, 8])], [info("y", [1, 8, 8, 8])], arrays))
    cut, masked, notes = both(source, 0.5)
    assert len(notes) == 1
    assert notes[0].startswith("first: channels are zeroed, not taken out: ")
    assert why in notes[0]
    check_same(cut, masked, (1, 3, 8, 8))
    assert (np.abs(stored(cut, "w1")).sum(axis=(1, 2, 3)) == 0).sum() == 8
