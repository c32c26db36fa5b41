"""What every kind of source is turned into before it is built: the manifest's facts and where the bytes are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Union

from edgekit.arrays import Array
from edgekit.manifest import GraphSpec, InputSpec, Limits
from edgekit.records import Json
from edgekit.specs.generation import GenerationSpec
from edgekit.specs.post import Postprocess

Content = Union[Path, bytes]

LIMITS = Limits(
    pixels=50_000_000,
    image_bytes=64 << 20,
    audio_seconds=600.0,
    audio_bytes=256 << 20,
    audio_channels=8,
    text_bytes=1 << 20,
    candidates=10_000,
)
"""What a bundle accepts unless its recipe says otherwise: bounds on the input, not facts about the model."""

GRAPH_TOLERANCE = {"float32": 1e-3, "float16": 5e-2, "int8": 5e-2, "int4": 5e-2}
"""Largest difference between devices, relative to the output's largest magnitude (DESIGN: tolerances)."""


class Sample(NamedTuple):
    """A golden sample before it is run.

    inputs: keyword -> {"file": name in the draft's files} or {"text": ..} or {"texts": [..]}, one per entry.
    expected: value -> what another implementation computed; result: keys of the result it must have.
    """

    name: str
    truth: str
    origin: str
    inputs: tuple[dict[str, Json], ...]
    expected: Mapping[str, Array]
    result: Mapping[str, Json]


class Draft(NamedTuple):
    """A bundle to be: `files` are by their name in the bundle; `notes` say what was decided and why."""

    name: str
    version: str
    task: str
    license: str
    source: str
    inputs: dict[str, InputSpec]
    graphs: tuple[GraphSpec, ...]
    postprocess: Postprocess
    files: dict[str, Content]
    samples: tuple[Sample, ...]
    limits: Limits
    notes: tuple[str, ...]
    generation: GenerationSpec | None = None


def preprocess_tolerance(spec: Any, *, same_machine: bool) -> float:
    """Largest absolute difference of an input's tensor.

    On one machine 1e-6; on another one grey level for images (decoders differ), 1e-4 for spectral features,
    one step for quantised tensors.
    """
    if getattr(spec, "quantization", None) is not None:
        return 1.0
    if spec.kind == "image" and not same_machine:
        return float(spec.scale / min(spec.std)) * 1.001 + 1e-6
    if spec.kind == "audio" and spec.features is not None:
        return 1e-4
    return 1e-6
