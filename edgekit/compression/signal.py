"""Signal-to-noise of one model's values against another's, and the layer where it breaks.

SNR = 10 log10(sum a^2 / sum (a - b)^2), in dB, over all elements and samples; a is the reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from edgekit.arrays import Array
from edgekit.compression.network import Network, Node, ordered
from edgekit.records import Record

GOOD_DB = 40.0
"""Inputs better than this count as this good: every int8 layer loses what is above it."""

BROKEN_DROP_DB = 12.0
BROKEN_BELOW_DB = 20.0


class Noise(Record):
    """One value compared. snr_db: null where the two are equal. name: the value; layer: the node that makes it."""

    name: str
    layer: str
    op: str
    snr_db: float | None
    drop_db: float
    elements: int


class Powers:
    """Sums of signal and noise by value, over samples."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def add(self, name: str, reference: Array, other: Array) -> None:
        """Count one pair of the same shape; other shapes and other kinds than numbers are passed over."""
        if reference.shape != other.shape or reference.dtype.kind not in "fiu" or other.dtype.kind not in "fiu":
            return
        a, b = reference.astype(np.float64), other.astype(np.float64)
        finite = np.isfinite(a)
        signal = float((a[finite] ** 2).sum())
        noise = float(((a[finite] - b[finite]) ** 2).sum())
        sums = self._sums.setdefault(name, [0.0, 0.0, 0.0])
        sums[0] += signal
        sums[1] += noise if math.isfinite(noise) else math.inf
        sums[2] += a.size

    def names(self) -> list[str]:
        """The values that were compared."""
        return list(self._sums)

    def elements(self, name: str) -> int:
        """How many elements were compared."""
        return int(self._sums[name][2])

    def snr_db(self, name: str) -> float | None:
        """null: no noise at all."""
        signal, noise, _ = self._sums[name]
        return snr_db(signal, noise)


def snr_db(signal: float, noise: float) -> float | None:
    """10 log10(signal / noise) between -200 and 200 dB; None where there is no noise."""
    if noise == 0.0:
        return None
    if signal == 0.0 or math.isinf(noise):
        return -200.0
    return max(-200.0, min(200.0, 10.0 * math.log10(signal / noise)))


def layer_noise(network: Network, powers: Powers) -> list[Noise]:
    """Each compared value in the order of the reference's nodes, with how far it is below its inputs.

    drop_db: the worst compared input (at most 40 dB, and 40 dB for the graph's own inputs) minus the value's.
    """
    compared = set(powers.names())
    level: dict[str, float] = {}
    found = []
    for node in ordered(network.main):
        taken = min((level.get(name, GOOD_DB) for name in node.inputs if name), default=GOOD_DB)
        for name in node.outputs:
            if name not in compared:
                level[name] = taken
                continue
            snr = powers.snr_db(name)
            level[name] = GOOD_DB if snr is None else min(snr, GOOD_DB)
            found.append(
                Noise(
                    name=name,
                    layer=node.name or name,
                    op=node.op,
                    snr_db=snr,
                    drop_db=taken - level[name],
                    elements=powers.elements(name),
                )
            )
    return found


def broken_layer(noises: Iterable[Noise]) -> Noise | None:
    """The layer that loses most against its inputs, where that is more than rounding does; None where all is well."""
    bad = [n for n in noises if n.snr_db is not None and n.snr_db < BROKEN_BELOW_DB and n.drop_db >= BROKEN_DROP_DB]
    return max(bad, key=lambda n: n.drop_db, default=None)


def matched_values(first: Network, second: Network) -> dict[str, str]:
    """Names of inner values of the first graph -> of the second, for values that are the same in exact arithmetic.

    By name; by the names that onnxruntime's quantisers derive; where no name helps, by position, when both graphs
    have the same operators in the same order, conversions of datatype aside.
    """
    made = {name for node in second.main.nodes for name in node.outputs}
    bent_there = _bent(second)
    takers: dict[str, list[Node]] = {}
    for node in first.main.nodes:
        for name in node.inputs:
            takers.setdefault(name, []).append(node)
    pairs: dict[str, str] = {}
    for node in first.main.nodes:
        for name in () if node.op == "Constant" else node.outputs:
            found = _partner(name, made)
            if found is None:
                continue
            after = takers.get(name, [])
            if found != name and len(after) == 1 and after[0].op in _BENDS and found not in bent_there:
                # The quantiser folded the activation into its range: the quantised value is the one after it.
                pairs[after[0].outputs[0]] = found
                continue
            pairs[name] = found
    a, b = _essential(first), _essential(second)
    if [n.op for n in a] == [n.op for n in b] and first.format == second.format == "tflite":
        pairs = {x: y for n, m in zip(a, b) for x, y in zip(n.outputs, m.outputs)}
    return pairs


def _partner(name: str, made: set[str]) -> str | None:
    """The name under which onnxruntime's quantisers leave a value, dequantised where they do that.

    Where a Relu was folded into the quantiser's range, its name stands before the quantiser's clipping.
    """
    return next((n for n in (f"{name}_DequantizeLinear_Output", name, f"{name}_quantized") if n in made), None)


_BENDS = frozenset(("Relu", "Clip"))
_SCALINGS = frozenset(("QuantizeLinear", "DequantizeLinear"))


def _bent(network: Network) -> set[str]:
    """The values that an activation of the graph takes, and what those were before they were quantised."""
    found: set[str] = set()
    for node in reversed(list(ordered(network.main))):
        if node.op in _BENDS or (node.op in _SCALINGS and found.intersection(node.outputs)):
            found.add(node.inputs[0])
    return found


_CONVERSIONS = frozenset(("QUANTIZE", "DEQUANTIZE", "CAST"))


def _essential(network: Network) -> list[Node]:
    return [node for node in network.main.nodes if node.op not in _CONVERSIONS]


def real(array: Array, scales: Array | None, zero_points: Array | None) -> Array:
    """scale * (q - zero point) for one scale; the array itself without."""
    if scales is None or array.dtype.kind not in "iu":
        return array
    point = 0 if zero_points is None else int(zero_points.reshape(-1)[0])
    return np.asarray((array.astype(np.float64) - point) * float(scales.reshape(-1)[0]))
