"""How far a variant's answers are from those of the folder's float32 graphs, on the bundle's own golden samples."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import golden
from edgekit.errors import EdgekitError
from edgekit.packaging.build import lay_out
from edgekit.packaging.draft import GRAPH_TOLERANCE, Draft
from edgekit.packaging.huggingface import read_reference
from edgekit.postprocess.embedding import unit
from edgekit.predictor import load
from edgekit.records import Json
from edgekit.specs.post import Similarity
from edgekit.targets import Target


def deviation_from_float32(
    folder: Path, bundle: Path, draft: Draft, target: Target, *, task: str | None, answers: Mapping[str, str]
) -> list[str]:
    """A line per output: the largest difference over the float32 output's largest magnitude, and whether the decision
    is the same. Nothing for a float32 variant, nor where the folder has no float32 graphs or they do not run here."""
    reference = read_reference(folder, target, draft, task=task, answers=answers)
    if reference is None:
        return []
    made = {p.value for g in draft.graphs for p in g.outputs}
    lines = []
    with tempfile.TemporaryDirectory(prefix="edgekit-reference-") as scratch:
        try:
            lay_out(reference, target, Path(scratch))
            with load(scratch, text_memory=0) as plain, load(bundle, text_memory=0) as packed:
                for sample in packed.manifest.golden:
                    want, want_values = golden.run_sample(plain, sample.inputs, packed.read)
                    got, got_values = golden.run_sample(packed, sample.inputs, packed.read)
                    shared = sorted(made & want_values.keys() & got_values.keys())
                    lines += [_line(name, want_values[name], got_values[name], draft) for name in shared]
                    lines += _decision(want, got)
        except EdgekitError:
            return lines
    return lines


def _line(name: str, want: Any, got: Any, draft: Draft) -> str:
    if isinstance(draft.postprocess, Similarity):  # a cosine does not see lengths, which towers may leave as they are
        want, got = unit(want), unit(got)
    if want.shape != got.shape:  # a static twin pads
        cut = tuple(slice(0, min(a, b)) for a, b in zip(want.shape, got.shape))
        want, got = want[cut], got[cut]
    scale = max(float(np.abs(want).max(initial=0.0)), 1e-12)
    off = float(np.abs(want.astype(np.float64) - got.astype(np.float64)).max(initial=0.0)) / scale
    classes = {GRAPH_TOLERANCE[g.precision] for g in draft.graphs}
    verdict = "within" if off <= max(classes) else "BEYOND"
    return f"{name}: {off:.2g} of its scale from float32 on a drawn sample, {verdict} the class's {max(classes):g}"


def _decision(want: Json, got: Json) -> list[str]:
    for key in ("label", "text"):
        if isinstance(want, dict) and isinstance(got, dict) and isinstance(want.get(key), str):
            same = want[key] == got.get(key)
            return [
                "the decision is the same" if same else f"the decision differs: {got.get(key)!r}, not {want[key]!r}"
            ]
    return []


def _short(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
