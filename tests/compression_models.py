"""Small models with one kind of compression each, made with the `onnx` package and onnxruntime's own quantisers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from graphs import info, node, onnx_bytes

RNG_SEED = 20


def weights(*shape: int, seed: int = RNG_SEED) -> np.ndarray:
    """Normal weights of a layer's usual size."""
    fan_in = float(np.prod(shape[1:])) if len(shape) > 1 else 1.0
    return (np.random.default_rng(seed).standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def plain_arrays() -> dict[str, np.ndarray]:
    """Two convolutions and two matrices."""
    return {
        "c1": weights(16, 3, 3, 3, seed=1), "c1b": weights(16, seed=2), "c2": weights(32, 16, 3, 3, seed=3),
        "c2b": weights(32, seed=4), "m1": weights(64, 2048, seed=5).T.copy(), "m1b": weights(64, seed=6),
        "m2": weights(64, 64, seed=7), "m2b": weights(64, seed=8),
    }  # fmt: skip


def network_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """Conv, Relu, Conv stride 2, Relu, Flatten, Gemm, Relu, MatMul, Add over these arrays; input x 1x3x16x16."""
    nodes = [
        node("Conv", ["x", "c1", "c1b"], ["h1"], name="conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["h1"], ["r1"], name="relu1"),
        node("Conv", ["r1", "c2", "c2b"], ["h2"], name="conv2", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["h2"], ["r2"], name="relu2"),
        node("Flatten", ["r2"], ["f"], name="flatten"),
        node("Gemm", ["f", "m1", "m1b"], ["g"], name="dense1"),
        node("Relu", ["g"], ["r3"], name="relu3"),
        node("MatMul", ["r3", "m2"], ["p"], name="dense2"),
        node("Add", ["p", "m2b"], ["y"], name="add"),
    ]
    return onnx_bytes(nodes, [info("x", ["batch", 3, 16, 16])], [info("y", ["batch", 64])], arrays)


def plain(path: Path, **changed: np.ndarray) -> Path:
    """The network without any compression, or with some of its weights replaced."""
    path.write_bytes(network_bytes({**plain_arrays(), **changed}))
    return path


class Calibration:
    """What onnxruntime's static quantiser reads: 16 seeded inputs."""

    def __init__(self, name: str = "x", shape: tuple[int, ...] = (1, 3, 16, 16)) -> None:
        rng = np.random.default_rng(RNG_SEED)
        self._left = [{name: rng.standard_normal(shape).astype(np.float32)} for _ in range(16)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self._left.pop() if self._left else None


def static(source: Path, path: Path, *, qdq: bool = True, per_channel: bool = True) -> Path:
    """The network quantised by onnxruntime with calibration."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    CalibrationDataReader.register(Calibration)
    quantize_static(
        str(source),
        str(path),
        Calibration(),
        quant_format=QuantFormat.QDQ if qdq else QuantFormat.QOperator,
        per_channel=per_channel,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8 if qdq else QuantType.QUInt8,
    )
    return path


def dynamic(source: Path, path: Path, *, signed: bool = True) -> Path:
    """The network quantised by onnxruntime at run time.

    signed: int8 weights, which its quantiser writes for convolutions as well; 1.23 can run these with uint8 alone.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kind = QuantType.QInt8 if signed else QuantType.QUInt8
    quantize_dynamic(str(source), str(path), weight_type=kind, per_channel=False)
    return path


def half(source: Path, path: Path) -> Path:
    """The network in float16 by onnxruntime's converter."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(str(source)), keep_io_types=True), str(path))
    return path


def change(source: Path, path: Path, do: Any) -> Path:
    """A copy of an ONNX file whose ModelProto went through `do`."""
    import onnx

    model = onnx.load(str(source))
    do(model)
    path.write_bytes(model.SerializeToString())
    return path


def replace_initializer(model: Any, name: str, do: Any) -> None:
    """One initializer's array through `do`."""
    from onnx import numpy_helper

    for i, tensor in enumerate(model.graph.initializer):
        if tensor.name == name:
            array = np.array(numpy_helper.to_array(tensor))
            model.graph.initializer[i].CopyFrom(numpy_helper.from_array(do(array), name))
            return
    raise AssertionError(f"no initializer {name}")


def pruned(array: np.ndarray, share: float) -> np.ndarray:
    """W' = W * M: the smallest magnitudes are set to zero."""
    kept = np.abs(array) > np.quantile(np.abs(array), share)
    return (array * kept).astype(np.float32)


def two_of_four(array: np.ndarray, axis: int) -> np.ndarray:
    """The two smallest of every four along an axis are set to zero."""
    moved = np.moveaxis(array, axis, -1).copy()
    groups = moved.reshape(*moved.shape[:-1], -1, 4)
    order = np.argsort(np.abs(groups), axis=-1)
    np.put_along_axis(groups, order[..., :2], 0.0, axis=-1)
    return np.ascontiguousarray(np.moveaxis(groups.reshape(moved.shape), -1, axis))


def resnet8(path: Path) -> Path:
    """ResNet8 of MLPerf Tiny by its published description: 32x32x3, stacks of 16, 32, 64, 10 classes."""
    arrays: dict[str, np.ndarray] = {}
    nodes: list[Any] = []
    serial = iter(range(1000))

    def conv(x: str, cin: int, cout: int, size: int, stride: int, relu: bool, norm: bool = True) -> str:
        i = next(serial)
        arrays[f"w{i}"], arrays[f"b{i}"] = weights(cout, cin, size, size, seed=i), weights(cout, seed=100 + i)
        pad = size // 2
        nodes.append(
            node("Conv", [x, f"w{i}", f"b{i}"], [f"c{i}"], name=f"conv{i}", pads=[pad] * 4, strides=[stride] * 2)
        )
        out = f"c{i}"
        if norm:
            for part in ("gamma", "beta", "mean", "var"):
                arrays[f"{part}{i}"] = np.ones(cout, np.float32)
            names = [f"{part}{i}" for part in ("gamma", "beta", "mean", "var")]
            nodes.append(node("BatchNormalization", [out, *names], [f"n{i}"], name=f"norm{i}"))
            out = f"n{i}"
        if relu:
            nodes.append(node("Relu", [out], [f"r{i}"], name=f"relu{i}"))
            out = f"r{i}"
        return out

    x = conv("x", 3, 16, 3, 1, True)
    width = 16
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = conv(conv(x, width, channels, 3, stride, True), channels, channels, 3, 1, False)
        short = x if stride == 1 else conv(x, width, channels, 1, stride, False, norm=False)
        nodes.append(node("Add", [y, short], [f"a{channels}"], name=f"add{channels}"))
        nodes.append(node("Relu", [f"a{channels}"], [f"s{channels}"], name=f"stack{channels}"))
        x, width = f"s{channels}", channels
    arrays["fc"], arrays["fcb"] = weights(64, 10, seed=77), weights(10, seed=78)
    nodes.append(node("GlobalAveragePool", [x], ["pool"], name="pool"))
    nodes.append(node("Flatten", ["pool"], ["flat"], name="flat"))
    nodes.append(node("Gemm", ["flat", "fc", "fcb"], ["y"], name="dense"))
    path.write_bytes(onnx_bytes(nodes, [info("x", [1, 3, 32, 32])], [info("y", [1, 10])], arrays))
    return path
