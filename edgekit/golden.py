"""Golden samples: record what a predictor gives for an input, and check that another gives the same."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import BundleError, EdgekitError
from edgekit.golden_decisions import condensed, settled
from edgekit.manifest import ExpectedTensor, GoldenSample
from edgekit.records import Json, Record, dump
from edgekit.specs.post import Detections
from edgekit.specs.tensor import DATATYPES, NUMPY_NAMES

if TYPE_CHECKING:
    from edgekit.predictor import Predictor

TENSOR_LIMIT_BYTES = 1 << 20
"""A larger expected tensor is kept as a seeded subset with its mean and deviation."""


MARGINS = "token_margins"
"""Of generated text: by how much each token won, relative to the largest logit; beside the result, not part of it."""
MARGIN_LIMIT = 2.0


class Deviation(Record):
    """One comparison of a golden sample.

    what: a value's name, or `result`. difference and tolerance share a unit: absolute for preprocessing,
    relative to the expected tensor's largest magnitude for graphs; null when nothing could be compared.
    """

    sample: str
    what: str
    stage: str
    difference: float | None
    tolerance: float
    passed: bool
    detail: str


class CheckReport(Record):
    """What a check found; `passed` when every deviation is within its tolerance."""

    name: str
    digest: str
    passed: bool
    deviations: tuple[Deviation, ...]

    def to_dict(self) -> Json:
        """Plain JSON."""
        return dump(self)

    def __str__(self) -> str:
        lines = [f"{self.name}: {'passed' if self.passed else 'FAILED'}, {len(self.deviations)} comparisons"]
        for d in self.deviations:
            mark = "ok  " if d.passed else "FAIL"
            figure = "" if d.difference is None else f"{d.difference:.3g} (tolerance {d.tolerance:.3g}) "
            lines.append(f"  {mark} {d.sample}/{d.what}: {figure}{d.detail}".rstrip())
        return "\n".join(lines)


def check(predictor: Predictor) -> CheckReport:
    """Run every golden sample of the predictor's bundle and compare tensors and results with what they must be."""
    deviations: list[Deviation] = []
    for sample in predictor.manifest.golden:
        deviations += _check_sample(predictor, sample)
    passed = all(d.passed for d in deviations)
    return CheckReport(
        name=predictor.manifest.name, digest=predictor.digest, passed=passed, deviations=tuple(deviations)
    )


def _check_sample(predictor: Predictor, sample: GoldenSample) -> list[Deviation]:
    try:
        result, values = run_sample(predictor, sample.inputs, predictor.read)
    except EdgekitError as error:
        return [_failure(sample.name, "predict", error.message)]
    found = [_check_tensor(sample, expected, values, predictor.read) for expected in sample.tensors]
    if sample.result is not None:
        found.append(compare_results(sample.name, sample.result, result, sample.tolerance, _threshold(predictor)))
    return found


def _threshold(predictor: Predictor) -> float:
    spec = predictor.manifest.postprocess
    return spec.threshold if isinstance(spec, Detections) else 0.0


def run_sample(
    predictor: Predictor, inputs: Sequence[Mapping[str, Json]], read: Callable[[str], bytes]
) -> tuple[Json, dict[str, Array]]:
    """The result as a golden sample keeps it, without timings, and the values of the flow; of the last entry."""
    result: Json = None
    values: dict[str, Array] = {}
    for entry in inputs:
        answer, values = predictor.trace(**{keyword: _value(item, read) for keyword, item in entry.items()})
        result = answer.to_dict()
        del result["timings"]
        margins = values.pop(MARGINS, None)
        if margins is not None:
            result[MARGINS] = [round(min(float(m), MARGIN_LIMIT), 6) for m in margins]
    return condensed(result), values


def _value(item: Json, read: Callable[[str], bytes]) -> Any:
    if "file" in item:
        data = read(item["file"])
        if not item["file"].endswith(".npy"):
            return data
        try:
            return np.load(io.BytesIO(data), allow_pickle=False)
        except ValueError as error:
            raise BundleError(f"{item['file']}: not an .npy array ({error})") from None
    return item["texts"] if "texts" in item else item["text"]


def record_tensor(
    name: str, stage: str, file: str, tensor: Array, tolerance: float, *, seed: int = 7
) -> tuple[ExpectedTensor, bytes]:
    """The expectation that a value equals this tensor, and the bytes of its file."""
    array = np.ascontiguousarray(tensor)
    flat = array.reshape(-1)
    real = flat.astype(np.float64)
    subset = array.nbytes > TENSOR_LIMIT_BYTES
    count = TENSOR_LIMIT_BYTES // 8 // array.itemsize if subset else flat.size
    kept = flat[_indices(seed, flat.size, count)] if subset else flat
    expected = ExpectedTensor(
        value=name,
        stage="preprocess" if stage == "preprocess" else "graph",
        datatype=DATATYPES[array.dtype.name],  # type: ignore[arg-type]  # the table holds Datatype's words only
        shape=array.shape,
        file=file,
        indices_seed=seed if subset else None,
        count=int(count),
        mean=float(real.mean()) if real.size else 0.0,
        deviation=float(real.std()) if real.size else 0.0,
        tolerance=tolerance,
    )
    return expected, kept.astype(array.dtype.newbyteorder("<")).tobytes()


def _indices(seed: int, size: int, count: int) -> Array:
    """`count` positions below `size` by SplitMix64, the same on every platform and numpy version."""
    x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((x ^ (x >> np.uint64(31))) % np.uint64(size), np.int64)


def _check_tensor(
    sample: GoldenSample, expected: ExpectedTensor, values: Mapping[str, Array], read: Callable[[str], bytes]
) -> Deviation:
    got = values.get(expected.value)
    if got is None:
        return _failure(sample.name, expected.value, "not computed")
    if tuple(got.shape) != expected.shape or got.dtype.name != NUMPY_NAMES[expected.datatype]:
        detail = f"expected {expected.datatype} {list(expected.shape)}, got {got.dtype.name} {list(got.shape)}"
        return _failure(sample.name, expected.value, detail)
    want = np.frombuffer(read(expected.file), np.dtype(NUMPY_NAMES[expected.datatype]).newbyteorder("<"))
    flat = got.reshape(-1)
    if expected.indices_seed is not None:
        flat = flat[_indices(expected.indices_seed, flat.size, expected.count)]
    if want.size != flat.size:
        return _failure(sample.name, expected.value, f"{expected.file} holds {want.size} numbers, expected {flat.size}")
    return compare_tensors(sample.name, expected.value, expected.stage, want, flat, expected.tolerance)


def compare_tensors(sample: str, name: str, stage: str, want: Array, got: Array, tolerance: float) -> Deviation:
    """The largest difference, absolute for preprocessing, for graphs relative to the largest expected magnitude."""
    a, b = want.astype(np.float64), got.astype(np.float64)
    if not np.isfinite(b).all() and np.isfinite(a).all():
        return _failure(sample, name, "NaN or infinite")
    difference = float(np.max(np.abs(a - b), initial=0.0))
    if stage == "graph":
        difference /= max(float(np.max(np.abs(a), initial=0.0)), 1e-12)
    return Deviation(
        sample=sample,
        what=name,
        stage=stage,
        difference=difference,
        tolerance=tolerance,
        passed=difference <= tolerance,
        detail="",
    )


def compare_results(sample: str, want: Json, got: Json, tolerance: float, threshold: float = 0.0) -> Deviation:
    """Numbers within the tolerance of the largest among them, names and ids the same.

    The winning label may differ when the expected margin over the runner-up is below the tolerance. So may generated
    tokens from the first on whose margin is below it: what follows another token cannot be compared. Pixels, boxes,
    entities and letters that were decided narrowly: see golden_decisions; threshold: what a box had to score.
    """
    if isinstance(want, dict) and isinstance(got, dict) and MARGINS in want:
        return _compare_text(sample, want, got, tolerance)
    want, got = settled(want, got, tolerance, threshold)
    numbers_want, numbers_got, problems = list[float](), list[float](), list[str]()
    _flatten(want, got, "", numbers_want, numbers_got, problems)
    decided = [p for p in problems if p.startswith(".label:")]
    if decided and isinstance(want.get("scores"), dict):
        best = sorted(want["scores"].values(), reverse=True)
        margin = (best[0] - best[1]) / max(abs(best[0]), 1e-12) if len(best) > 1 else 1.0
        if margin <= tolerance:
            problems = [p for p in problems if p not in decided]
    scale = max((abs(x) for x in numbers_want), default=1.0) or 1.0
    difference = max((abs(a - b) for a, b in zip(numbers_want, numbers_got)), default=0.0) / scale
    return Deviation(
        sample=sample,
        what="result",
        stage="result",
        difference=difference,
        tolerance=tolerance,
        passed=not problems and difference <= tolerance,
        detail="; ".join(problems[:3]),
    )


def _compare_text(sample: str, want: Json, got: Json, tolerance: float) -> Deviation:
    margins = want[MARGINS]
    want, got = ({key: value for key, value in side.items() if key != MARGINS} for side in (want, got))
    a, b = want.get("tokens"), got.get("tokens")
    if not isinstance(a, list) or not isinstance(b, list) or a == b:
        return compare_results(sample, want, got, tolerance)
    place = next((i for i, pair in enumerate(zip(a, b)) if pair[0] != pair[1]), min(len(a), len(b)))
    step = place - (len(a) - len(margins))  # a prompt may stand before the tokens that were chosen
    margin = margins[step] if 0 <= step < len(margins) else min(margins, default=MARGIN_LIMIT)
    return Deviation(
        sample=sample,
        what="result",
        stage="result",
        difference=margin,
        tolerance=tolerance,
        passed=margin <= tolerance,
        detail=f"another token at {place} of {len(a)}, where the expected one won by {margin:.3g} of the scale",
    )


def _flatten(
    want: Json, got: Json, key: str, numbers_want: list[float], numbers_got: list[float], problems: list[str]
) -> None:
    if isinstance(want, dict) and isinstance(got, dict):
        if want.keys() != got.keys():
            problems.append(f"{key}: expected keys {sorted(want)[:5]}, got {sorted(got)[:5]}")
        for name in want.keys() & got.keys():
            _flatten(want[name], got[name], f"{key}.{name}", numbers_want, numbers_got, problems)
    elif isinstance(want, list) and isinstance(got, list):
        if len(want) != len(got):
            problems.append(f"{key}: expected {len(want)} entries, got {len(got)}")
        for index, (a, b) in enumerate(zip(want, got)):
            _flatten(a, b, f"{key}[{index}]", numbers_want, numbers_got, problems)
    elif isinstance(want, float) and isinstance(got, (int, float)) and not isinstance(got, bool):
        numbers_want.append(want)
        numbers_got.append(float(got))
    elif want != got or type(want) is not type(got):
        problems.append(f"{key}: expected {want!r}, got {got!r}"[:200])


def _failure(sample: str, what: str, detail: str) -> Deviation:
    return Deviation(
        sample=sample,
        what=what,
        stage="run",
        difference=None,
        tolerance=0.0,
        passed=False,
        detail=detail,
    )
