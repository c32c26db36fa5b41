"""Run a model file with its inner values as outputs: ONNX through the `onnx` package, TFLite with kept tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.arrays import Array
from edgekit.compression.network import Network
from edgekit.compression.signal import Noise, Powers, layer_noise, matched_values, real
from edgekit.compression.weights import Weights
from edgekit.compression.wiring import Scope
from edgekit.errors import GraphRefused, RuntimeMissing

ONNX_HINT = 'pip install "edgekit-sdk[package]"'
TAP_LIMIT = 2000


def compare_layers(
    first: Network, second: Network, feeds: Iterable[tuple[Mapping[str, Array], Mapping[str, Array]]]
) -> list[Noise]:
    """The noise of each layer of the second graph against the first, over pairs of inputs by name.

    Empty where the formats differ or nothing matches. Raises GraphRefused, RuntimeMissing.
    """
    is_tflite = (first.format == "tflite", second.format == "tflite")
    if is_tflite[0] != is_tflite[1] or "ort" in (first.format, second.format):
        return []
    pairs = dict(list(matched_values(first, second).items())[:TAP_LIMIT])
    if not pairs:
        return []
    powers = Powers()
    taps = [_tap(first, list(pairs)), _tap(second, list(dict.fromkeys(pairs.values())))]
    for one, other in feeds:
        a, b = taps[0](one), taps[1](other)
        for name, partner in pairs.items():
            if name in a and partner in b:
                powers.add(name, a[name], b[partner])
    return layer_noise(first, powers)


def _tap(network: Network, names: Sequence[str]) -> Any:
    return _tflite_tap(network, names) if network.format == "tflite" else _onnx_tap(network, names)


def _onnx_tap(network: Network, names: Sequence[str]) -> Any:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissing(
            f"{network.file}: its inner values need the onnx package ({error})", hint=ONNX_HINT
        ) from None
    try:
        model = onnx.load(network.path)
        there = {output.name for output in model.graph.output}
        model.graph.output.extend([onnx.ValueInfoProto(name=name) for name in names if name not in there])
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise GraphRefused(f"{network.file}: its inner values cannot be had ({_told(error)})") from None
    scales = _quantised_outputs(network, names)
    wanted = list(dict.fromkeys(names))

    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        try:
            found = dict(zip(wanted, session.run(wanted, dict(feed))))
        except Exception as error:
            raise GraphRefused(f"{network.file}: cannot run with its inner values ({_told(error)})") from None
        return {name: real(value, *scales.get(name, (None, None))) for name, value in found.items()}

    return run


def _quantised_outputs(network: Network, names: Sequence[str]) -> dict[str, tuple[Array | None, Array | None]]:
    """Scale and zero point of the integer values that QLinear operators and QuantizeLinear make."""
    places = {
        "QLinearConv": (6, 7),
        "QLinearMatMul": (6, 7),
        "QLinearAdd": (6, 7),
        "QuantizeLinear": (1, 2),
        "QGemm": (7, 8),
    }
    places |= {"QLinearMul": (6, 7), "QLinearGlobalAveragePool": (3, 4), "QLinearSigmoid": (3, 4)}
    scope = Scope(network.main)
    found: dict[str, tuple[Array | None, Array | None]] = {}
    with Weights(network.path) as weights:
        for name in names:
            maker = scope.producer(name)
            # Operators that only move integers on (MaxPool, Reshape) keep their input's scale.
            for _ in range(8):
                if maker is None or maker.op in places or not maker.inputs:
                    break
                maker = scope.producer(maker.inputs[0])
            if maker is None or maker.op not in places:
                continue
            parts = []
            for at in places[maker.op]:
                tensor = scope.constant(maker.inputs[at]) if at < len(maker.inputs) else None
                parts.append(weights.read(tensor, 1) if tensor is not None else None)
            found[name] = (parts[0], parts[1])
    return found


def _tflite_tap(network: Network, names: Sequence[str]) -> Any:
    try:
        from ai_edge_litert import interpreter as litert
    except ImportError as error:
        raise RuntimeMissing(
            f"{network.file}: its inner values need ai-edge-litert ({error})", hint='pip install "edgekit-sdk[litert]"'
        ) from None
    try:
        made = litert.Interpreter(
            model_path=os.fspath(network.path),
            experimental_preserve_all_tensors=True,
            # A delegate keeps the values of the part that it runs to itself.
            experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        made.allocate_tensors()
    except Exception as error:
        raise GraphRefused(f"{network.file}: its inner values cannot be had ({_told(error)})") from None
    index = {name: i for i, name in enumerate(network.main.values)}
    places = {d["name"]: int(d["index"]) for d in made.get_input_details()}

    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        try:
            for name, value in feed.items():
                made.set_tensor(places[name], value)
            made.invoke()
            return {name: _real_tensor(network, name, made.get_tensor(index[name])) for name in names if name in index}
        except Exception as error:
            raise GraphRefused(f"{network.file}: cannot run with its inner values ({_told(error)})") from None

    return run


def _real_tensor(network: Network, name: str, value: Array) -> Array:
    quantization = network.main.values[name].quantization
    if quantization is None:
        return np.array(value)
    return real(value, np.asarray(quantization.scales), np.asarray(quantization.zero_points))


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
