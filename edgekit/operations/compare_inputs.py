"""Compressed pictures: what JPEG quality and scaled decoding cost in accuracy and save in bytes and time."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.compression.agreement import agreement, correctness
from edgekit.compression.intervals import drop_interval, score_interval
from edgekit.errors import InputError
from edgekit.operations.compare_data import Sample
from edgekit.operations.compare_records import InputRow
from edgekit.operations.package import Note
from edgekit.predictor import Predictor
from edgekit.profiling.workload import keywords

SCALES = (1, 2, 4, 8)
"""What a JPEG decoder can leave out while it decodes (libjpeg's scale_denom)."""


def sweep_inputs(
    predictor: Predictor, samples: Sequence[Sample], qualities: Sequence[int], scales: Sequence[int], note: Note
) -> tuple[InputRow, ...]:
    """Rows for the files as they are and for each quality and scale, on the samples with a picture file.

    A quality is a JPEG made anew from the decoded file, baseline with 4:2:0 chroma; a scale decodes it at 1/n.
    Raises InputError.
    """
    wrong = [s for s in scales if s not in SCALES] + [q for q in qualities if not 1 <= q <= 100]
    if wrong:
        raise InputError(f"expected qualities of 1 to 100 and scales of {', '.join(map(str, SCALES))}, got {wrong[0]}")
    pictures = [s for s in samples if "path" in s.item.get("image", {})]
    if not pictures:
        raise InputError("compressed inputs need samples with a picture file")
    answers = [predictor.predict(**keywords(s.item, predictor.read)) for s in pictures]
    base = [1.0 if s.label is None else correctness(a, s.label) for s, a in zip(pictures, answers)]
    rows = [_row(None, 1, [_original(s) for s in pictures], base, base)]
    for quality in qualities or (None,):
        encoded = [_jpeg(s, quality) for s in pictures]
        for scale in scales or (1,):
            note(f"quality {quality or 'as it is'}, decoded at 1/{scale}")
            measured, scores = [], []
            for sample, data, answer in zip(pictures, encoded, answers):
                took_ms, picture = _decode(data, scale, sample.name)
                given = {**keywords(sample.item, predictor.read), "image": picture}
                result = predictor.predict(**given)
                label = sample.label
                scores.append(agreement(answer, result) if label is None else correctness(result, label))
                measured.append((len(data), took_ms))
            if quality is not None or scale != 1:
                rows.append(_row(quality, scale, measured, base, scores))
    return tuple(rows)


def _row(
    quality: int | None,
    scale: int,
    measured: Sequence[tuple[int, float]],
    base: Sequence[float],
    scores: Sequence[float],
) -> InputRow:
    return InputRow(
        quality=quality,
        scale=scale,
        pictures=len(measured),
        bytes=float(np.median([size for size, _ in measured])),
        decode_ms=float(np.median([ms for _, ms in measured])),
        score=score_interval(scores),
        drop=drop_interval(base, scores),
    )


def _read(sample: Sample) -> bytes:
    path = Path(sample.item["image"]["path"])
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def _original(sample: Sample) -> tuple[int, float]:
    data = _read(sample)
    return len(data), _decode(data, 1, sample.name)[0]


def _jpeg(sample: Sample, quality: int | None) -> bytes:
    """The file itself without a quality, else a JPEG of it, turned upright as its orientation says."""
    data = _read(sample)
    if quality is None:
        return data
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as picture:
            upright = ImageOps.exif_transpose(picture)
            made = io.BytesIO()
            upright.convert("L" if upright.mode == "L" else "RGB").save(made, "JPEG", quality=quality, subsampling=2)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{sample.name}: not a picture that can be read ({error})") from None
    return made.getvalue()


def _decode(data: bytes, scale: int, name: str) -> tuple[float, Any]:
    """Milliseconds to decode, and the picture as (H, W) or (H, W, 3) uint8."""
    from PIL import Image

    try:
        began = time.perf_counter()
        with Image.open(io.BytesIO(data)) as picture:
            if scale != 1:
                if picture.format != "JPEG":
                    raise InputError(
                        f"{name}: only JPEG is decoded at a scale, got {picture.format}", hint="give --input-quality"
                    )
                picture.draft(None, (max(1, picture.width // scale), max(1, picture.height // scale)))
            picture.load()
            took_ms = (time.perf_counter() - began) * 1e3
            return took_ms, np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{name}: not a picture that can be read ({error})") from None
