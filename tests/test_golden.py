"""Golden samples: differences are found, tolerances are kept, large tensors are kept as a seeded subset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit import golden
from edgekit.manifest import ExpectedTensor
from edgekit.predictor import load


def recorded(tensor: np.ndarray, tolerance: float = 1e-3) -> tuple[ExpectedTensor, bytes]:
    return golden.record_tensor("y", "graph", "golden/y.bin", tensor, tolerance)


def test_a_bundle_passes_its_own_check(tridigit: Path, tridigit_tflite: Path) -> None:
    """What was packaged here passes here, every comparison at or near zero."""
    for bundle in (tridigit, tridigit_tflite):
        with load(bundle, text_memory=0) as predictor:
            report = golden.check(predictor)
        assert report.passed
        assert len(report.deviations) >= 9
        assert "passed" in str(report)
        assert report.to_dict()["passed"] is True


def test_small_tensors_are_kept_whole() -> None:
    """Little-endian bytes, row by row, with mean and deviation."""
    tensor = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)
    expected, data = recorded(tensor)
    assert data == bytes.fromhex("0000803f000000c00000404000008040")
    assert (expected.indices_seed, expected.count, expected.shape, expected.datatype) == (None, 4, (2, 2), "FP32")
    assert expected.mean == 1.5
    assert expected.deviation == pytest.approx(np.std([1, -2, 3, 4]))


def test_large_tensors_are_kept_as_a_seeded_subset() -> None:
    """Above 1 MiB an eighth of the bytes is kept, the same positions on every platform (SplitMix64)."""
    tensor = np.arange(1 << 19, dtype=np.float32)
    expected, data = recorded(tensor)
    assert expected.indices_seed == 7
    assert len(data) == expected.count * 4 <= golden.TENSOR_LIMIT_BYTES
    kept = np.frombuffer(data, "<f4")
    assert kept[:4].tolist() == reference_indices(7, 1 << 19, 4)


def reference_indices(seed: int, size: int, count: int) -> list[int]:
    """SplitMix64 in Python's own integers (Steele, Lea, Flood 2014)."""
    mask, found = (1 << 64) - 1, []
    for index in range(1, count + 1):
        x = (index * 0x9E3779B97F4A7C15 + seed) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        found.append((x ^ (x >> 31)) % size)
    return found


@pytest.mark.parametrize(
    ("stage", "want", "got", "passed"),
    [
        ("graph", [100.0, 1.0], [100.05, 1.0], True),
        ("graph", [100.0, 1.0], [100.2, 1.0], False),
        ("graph", [0.0, 0.0], [0.0, 0.0], True),
        ("graph", [1.0, 2.0], [1.0, float("nan")], False),
        ("preprocess", [100.0, 1.0], [100.0005, 1.0], True),
        ("preprocess", [100.0, 1.0], [100.002, 1.0], False),
    ],
)
def test_tolerances_are_relative_for_graphs_and_absolute_before(
    stage: str, want: list[float], got: list[float], passed: bool
) -> None:
    """Tolerance 1e-3: of the largest magnitude for a graph, as it is for preprocessing; NaN never passes."""
    found = golden.compare_tensors("s", "y", stage, np.array(want), np.array(got), 1e-3)
    assert found.passed is passed


SCORES = {"label": "cat", "score": 0.6, "scores": {"cat": 0.6, "dog": 0.4}}


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({}, True),
        ({"score": 0.62, "scores": {"cat": 0.62, "dog": 0.38}}, True),
        ({"score": 0.7, "scores": {"cat": 0.7, "dog": 0.3}}, False),
        ({"label": "dog"}, False),
        ({"scores": {"cat": 0.6}}, False),
        ({"label": None}, False),
    ],
)
def test_results_keep_their_decision(change: dict, passed: bool) -> None:
    """Numbers within the tolerance of their largest, names the same, no key more or less."""
    assert golden.compare_results("s", SCORES, {**SCORES, **change}, 0.05).passed is passed


def test_a_decision_within_the_tolerance_may_turn() -> None:
    """Expected margin below the tolerance: the other label is no failure; above it, it is."""
    close = {"label": "cat", "score": 0.51, "scores": {"cat": 0.51, "dog": 0.49}}
    turned = {"label": "dog", "score": 0.505, "scores": {"cat": 0.495, "dog": 0.505}}
    assert golden.compare_results("s", close, turned, 0.05).passed
    assert not golden.compare_results("s", close, turned, 0.01).passed
