"""Scales and numbers that look wrong in one layer."""

from __future__ import annotations

import numpy as np

from edgekit.compression.layers import EMBEDDINGS, Layer
from edgekit.compression.measures import Measures
from edgekit.compression.structure import bias_scale_error
from edgekit.compression.weights import Weights
from edgekit.formats import BITS

SATURATED_SHARE = 0.05
SATURATED_MIN_ELEMENTS = 256
UNUSED_LEVELS = 24
"""An int8 weight whose largest magnitude is below this uses less than a fifth of its range."""

BIAS_SCALE_FACTOR = 1.01


def doubts_of(layer: Layer, measures: Measures | None, weights: Weights) -> tuple[str, ...]:
    """Sentences; none for a layer that looks right."""
    return (*_number_doubts(layer, measures), *_scale_doubts(layer, weights))


def _number_doubts(layer: Layer, m: Measures | None) -> list[str]:
    if m is None or not m.elements:
        return []
    found = []
    if m.not_finite:
        found.append(f"{m.not_finite} weights are NaN or infinite")
    if m.zeros == m.elements:
        return [*found, "every weight is zero"]
    if layer.scheme == "none" or layer.source.codebook is not None:
        return found
    if m.dead_channels and layer.node.op not in EMBEDDINGS:
        found.append(f"{m.dead_channels} of {m.channels} output channels are zero throughout")
    bits = BITS.get(layer.tensor.datatype, 8)
    # Each scale is set by its largest weight, so one or two per scale lie at the end by construction.
    expected = 2 * _scale_count(layer)
    beyond = (m.at_limits - expected) / m.elements
    if bits == 8 and m.elements >= SATURATED_MIN_ELEMENTS and beyond > SATURATED_SHARE:
        found.append(f"saturated: {m.at_limits / m.elements:.0%} of the weights are at the end of their range")
    levels = 256 if m.used_low is None or m.used_high is None else m.used_high - m.used_low + 1
    if bits == 8 and levels <= 2 * UNUSED_LEVELS and m.elements >= SATURATED_MIN_ELEMENTS:
        found.append(f"the scale is too large: {levels} of 256 levels are used")
    return found


def _scale_count(layer: Layer) -> int:
    quantization = layer.tensor.quantization
    if quantization is not None:
        return len(quantization.scales)
    count = 1
    if layer.scales is not None:
        for axis in layer.scales.shape:
            count *= axis
    return count


def _scale_doubts(layer: Layer, weights: Weights) -> list[str]:
    if layer.scheme == "none":
        return []
    found = []
    quantization = layer.tensor.quantization
    scales = np.asarray(quantization.scales) if quantization is not None else None
    if scales is None and layer.scales is not None:
        scales = weights.read(layer.scales, 1 << 20)
    if scales is not None and scales.size and scales.dtype.kind == "f":
        # ONNX Runtime's blocks take the sign of their largest weight, so their scales may be negative.
        low = scales == 0 if layer.granularity == "per-block" else scales <= 0
        wrong = int((~np.isfinite(scales) | low).sum())
        if wrong:
            found.append(f"{wrong} of {scales.size} scales are zero, negative or not finite")
    factor = bias_scale_error(layer, layer.scope) or _onnx_bias_scale_error(layer, scales, weights)
    if factor is not None and factor > BIAS_SCALE_FACTOR:
        found.append(f"scales disagree: the bias's is {factor:.3g} times input scale x weight scale")
    return found


def _onnx_bias_scale_error(layer: Layer, scales: object, weights: Weights) -> float | None:
    """The same for an ONNX bias that is quantised beside its weight (int32, DequantizeLinear)."""
    node, scope = layer.node, layer.scope
    if layer.scheme != "qdq" or len(node.inputs) < 3 or not isinstance(scales, np.ndarray):
        return None
    bias, data = scope.producer(node.inputs[2]), scope.producer(node.inputs[0])
    if bias is None or data is None or bias.op != "DequantizeLinear" or data.op != "DequantizeLinear":
        return None
    constants = [scope.constant(bias.inputs[1]), scope.constant(data.inputs[1])]
    if constants[0] is None or constants[1] is None:
        return None
    stored, incoming = weights.read(constants[0], 1 << 20), weights.read(constants[1], 1)
    if stored is None or incoming is None:
        return None
    expected = np.asarray(scales, np.float64).reshape(-1) * float(incoming.reshape(-1)[0])
    real = stored.astype(np.float64).reshape(-1)
    if real.size != expected.size and expected.size != 1:
        return None
    if not (expected > 0).all() or not (real > 0).all():
        return float("inf")
    ratio = real / expected
    return float(max(ratio.max(), (1 / ratio).max()))
