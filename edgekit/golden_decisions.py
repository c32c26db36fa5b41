"""What the tolerance of a golden sample leaves open in a result: pixels, boxes and letters that were decided narrowly.

The tensors they were decided from are compared by themselves; here only what follows from them many times over.
"""

from __future__ import annotations

from difflib import SequenceMatcher

from edgekit.records import Json

ARRAY_LIMIT = 4096
NARROW = 0.5
"""The most that the winner of a narrow decision can score."""
OPEN_TEXT = 2.0
"""Of a text's ids, this many tolerances may differ: each frame decides on its own."""


def condensed(result: Json) -> Json:
    """The result with every array of more than ARRAY_LIMIT numbers as its shape and evenly spaced numbers of it: the
    tensors are kept by themselves, and a manifest is small."""
    if isinstance(result, dict):
        return {key: condensed(value) for key, value in result.items()}
    if not isinstance(result, list):
        return result
    shape, flat = [len(result)], result
    while flat and all(isinstance(row, list) and len(row) == len(flat[0]) for row in flat):
        shape.append(len(flat[0]))
        flat = [number for row in flat for number in row]
    if len(flat) <= ARRAY_LIMIT or not all(isinstance(x, (int, float)) for x in flat):
        return [condensed(item) for item in result]
    return {"shape": shape, "numbers": flat[:: -(-len(flat) // ARRAY_LIMIT)]}


def settled(want: Json, got: Json, tolerance: float, threshold: float) -> tuple[Json, Json]:
    """Both results without the decisions that the tolerance leaves open, to be compared strictly.

    threshold: the score that a box must have.
    """
    if not isinstance(want, dict) or not isinstance(got, dict) or want.keys() != got.keys():
        return want, got
    keys = want.keys()
    if keys == {"mask", "labels"}:
        return want, _settled_mask(want, got, tolerance)
    if keys == {"boxes", "labels", "scores", "keypoints"}:
        return _settled_items(_boxes(want), _boxes(got), threshold + tolerance)
    if keys == {"entities"}:
        return _settled_items(_entities(want), _entities(got), NARROW + tolerance)
    if keys == {"text", "tokens", "timestamps"}:
        alike = SequenceMatcher(None, want["tokens"], got["tokens"], autojunk=False).ratio()
        return want, want if alike >= 1.0 - OPEN_TEXT * tolerance else got
    return want, got


def _settled_mask(want: Json, got: Json, tolerance: float) -> Json:
    a, b = want["mask"], got["mask"]
    if len(a) != len(b) or any(len(x) != len(y) for x, y in zip(a, b)):
        return got
    count = sum(map(len, a))
    different = sum(p != q for x, y in zip(a, b) for p, q in zip(x, y))
    return {**got, "mask": a} if different <= tolerance * count else got


Item = tuple[tuple[object, ...], float, tuple[float, ...]]
"""A name that must be the same, a score, and numbers."""


def _boxes(result: Json) -> list[Item]:
    points = result["keypoints"] or [[]] * len(result["boxes"])
    places = [(*box, *(number for point in own for number in point)) for box, own in zip(result["boxes"], points)]
    return [((label,), s, place) for label, s, place in zip(result["labels"], result["scores"], places)]


def _entities(result: Json) -> list[Item]:
    return [((e["entity_group"], e["start"], e["end"]), e["score"], ()) for e in result["entities"]]


def _settled_items(want: list[Item], got: list[Item], limit: float) -> tuple[Json, Json]:
    """Pairs in the order that is wanted; what has no partner and scores no more than the limit goes."""
    rest = list(got)
    pairs: list[tuple[Item, Item]] = []
    alone: list[Item] = []
    for item in want:
        near = [other for other in rest if other[0] == item[0]]
        if not near:
            alone.append(item)
            continue
        best = min(near, key=lambda other: _distance(item, other))
        rest.remove(best)
        pairs.append((item, best))
    kept_alone = [item for item in alone if item[1] > limit]
    kept_rest = [item for item in rest if item[1] > limit]
    return (
        [*(_json(a) for a, _ in pairs), *(_json(item) for item in kept_alone)],
        [*(_json(b) for _, b in pairs), *(_json(item) for item in kept_rest)],
    )


def _distance(a: Item, b: Item) -> float:
    return abs(a[1] - b[1]) + sum(abs(x - y) for x, y in zip(a[2], b[2]))


def _json(item: Item) -> Json:
    return [list(item[0]), float(item[1]), [float(x) for x in item[2]]]
