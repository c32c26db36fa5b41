"""Several predicts at once: items of equal shapes share one run of the graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit import clock, results
from edgekit.arrays import Array
from edgekit.errors import InputError
from edgekit.inputs import Prepared
from edgekit.postprocess import Finish

Item = Mapping[str, Any]
PrepareItem = Callable[[Item, clock.Lap], dict[str, Prepared]]
RunRows = Callable[[dict[str, Array], clock.Lap], None]


def one_by_one(answer: Callable[[Item], results.Result], items: Sequence[Item]) -> list[results.Result]:
    """Each item by itself."""
    return [_named(index, answer, item) for index, item in enumerate(items)]


def together(prepare: PrepareItem, run: RunRows, finish: Finish, items: Sequence[Item]) -> list[results.Result]:
    """Items whose tensors have the same names and shapes and one row each run as rows of one batch."""
    timings: dict[str, float] = {}
    lap = clock.start(timings)
    prepared = [_named(index, prepare, item, lap) for index, item in enumerate(items)]
    rows = [{n: a for p in item.values() for n, a in p.values.items()} for item in prepared]
    found: list[tuple[type[results.Result], dict[str, Any]] | None] = [None] * len(items)
    for members in _groups(rows):
        values = {name: np.concatenate([rows[i][name] for i in members]) for name in rows[members[0]]}
        run(values, lap)
        for row, index in enumerate(members):
            mine = _row(values, row, len(members))
            found[index] = finish(mine, {keyword: p.context for keyword, p in prepared[index].items()})
    lap("postprocess")
    share = {stage: spent / max(len(items), 1) for stage, spent in timings.items()}
    share["total"] = sum(share.values())
    return [kind(timings=dict(share), **fields) for kind, fields in filter(None, found)]


def _named(index: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it; a refusal names the item."""
    try:
        return function(*arguments)
    except InputError as error:
        raise InputError(f"item {index}: {error.message}", hint=error.hint) from None


def _groups(rows: Sequence[Mapping[str, Array]]) -> list[list[int]]:
    """The items that can run together; one with several rows, or with tensors of no batch axis, is alone."""
    groups: dict[Any, list[int]] = {}
    for index, values in enumerate(rows):
        stackable = all(a.ndim > 1 and len(a) == 1 for a in values.values())
        key = tuple((n, a.shape, a.dtype.str) for n, a in values.items()) if stackable else index
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def _row(values: Mapping[str, Array], row: int, count: int) -> dict[str, Array]:
    """One item's rows of every value; what has other rows than the batch belongs to all."""
    if count == 1:
        return dict(values)
    return {n: a[row : row + 1] if a.ndim and len(a) == count else a for n, a in values.items()}
