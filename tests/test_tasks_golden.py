"""Promise: a golden sample's result is the same on another device unless a decision was narrower than the tolerance
(DESIGN: tolerances)."""

from __future__ import annotations

from typing import Any

from edgekit.golden import compare_results
from edgekit.golden_decisions import ARRAY_LIMIT, condensed

TIGHT, LOOSE = 1e-3, 5e-2


def passed(want: Any, got: Any, tolerance: float) -> bool:
    return compare_results("sample", want, got, tolerance, 0.2).passed


def test_masks() -> None:
    want = {"mask": [[0] * 50, [1] * 50], "labels": ["a", "b"]}
    few = {"mask": [[0] * 48 + [1] * 2, [1] * 50], "labels": ["a", "b"]}
    assert passed(want, few, LOOSE)
    assert not passed(want, few, TIGHT)
    assert not passed(want, {"mask": [[0] * 40 + [1] * 10, [1] * 50], "labels": ["a", "b"]}, LOOSE)
    assert not passed(want, {**want, "labels": ["a", "c"]}, LOOSE)
    assert not passed(want, {"mask": [[0] * 50], "labels": ["a", "b"]}, LOOSE)


def boxes(*items: tuple[str, float, list[float]]) -> dict[str, Any]:
    return {
        "boxes": [b for _, _, b in items],
        "labels": [n for n, _, _ in items],
        "scores": [s for _, s, _ in items],
        "keypoints": None,
    }


def test_boxes() -> None:
    a, b = ("cat", 0.9, [0.0, 0.0, 100.0, 80.0]), ("dog", 0.52, [10.0, 10.0, 50.0, 50.0])
    low = ("owl", 0.21, [1.0, 2.0, 3.0, 4.0])
    assert passed(boxes(a, b, low), boxes(a, b, low), TIGHT)
    assert passed(boxes(a, b, low), boxes(a, b), LOOSE)  # it was at the threshold
    assert passed(boxes(a, b), boxes(b, a), TIGHT)
    assert not passed(boxes(a, b), boxes(a), TIGHT)
    assert not passed(boxes(a, b, low), boxes(b, low), LOOSE)
    assert not passed(boxes(a, b), boxes(("dog", *a[1:]), b), LOOSE)
    moved = ("cat", 0.9, [0.0, 0.0, 112.0, 80.0])
    assert not passed(boxes(a, b), boxes(moved, b), LOOSE)
    assert passed(boxes(a, b), boxes(("cat", 0.9, [0.0, 0.0, 102.0, 80.0]), b), LOOSE)


def test_keypoints_are_numbers_of_their_box() -> None:
    a, b = ("face", 0.9, [0.0, 0.0, 100.0, 80.0]), ("face", 0.52, [10.0, 10.0, 50.0, 50.0])
    want = {**boxes(a, b), "keypoints": [[[20.0, 30.0]], [[15.0, 16.0]]]}
    assert passed(want, {**boxes(b, a), "keypoints": [[[15.0, 16.0]], [[20.0, 30.0]]]}, TIGHT)
    assert not passed(want, {**boxes(a, b), "keypoints": [[[20.0, 42.0]], [[15.0, 16.0]]]}, LOOSE)
    assert not passed(want, {**boxes(a, b), "keypoints": [[[15.0, 16.0]], [[20.0, 30.0]]]}, LOOSE)
    assert passed(boxes(), boxes(), TIGHT)


def test_entities() -> None:
    def one(group: str, score: float, start: int) -> dict[str, Any]:
        return {"entity_group": group, "score": score, "word": "x", "start": start, "end": start + 4}

    sure, open_ = one("LOC", 0.95, 0), one("PER", 0.4, 9)
    assert passed({"entities": [sure, open_]}, {"entities": [sure]}, LOOSE)
    assert not passed({"entities": [sure, open_]}, {"entities": [open_]}, LOOSE)
    assert not passed({"entities": [sure]}, {"entities": [one("LOC", 0.8, 0)]}, TIGHT)


def test_transcripts() -> None:
    want = {"text": "a" * 50, "tokens": list(range(50)), "timestamps": []}
    close = {"text": "a" * 49 + "b", "tokens": [*range(49), 99], "timestamps": []}
    assert passed(want, close, LOOSE)
    assert not passed(want, close, TIGHT)
    assert not passed(want, {"text": "", "tokens": [], "timestamps": []}, LOOSE)


def test_large_arrays_are_kept_as_evenly_spaced_numbers() -> None:
    """A manifest is at most 1 MiB, a mask or raw tensors are more; the tensors are compared by themselves."""
    small = {"mask": [[0, 1], [2, 3]], "labels": ["a"], "text": "x"}
    assert condensed(small) == small
    rows = [[float(x + y) for x in range(200)] for y in range(100)]
    kept = condensed({"tensors": {"a": rows}})["tensors"]["a"]
    assert kept["shape"] == [100, 200]
    assert len(kept["numbers"]) <= ARRAY_LIMIT
    assert kept["numbers"][1] == rows[0][5]
    assert condensed(["word"] * 5000) == ["word"] * 5000
    assert condensed({"empty": []}) == {"empty": []}
