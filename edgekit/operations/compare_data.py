"""What models are compared on: a labelled folder, a CSV, or a bundle's golden samples."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from edgekit.errors import InputError
from edgekit.manifest import Manifest
from edgekit.specs.post import Similarity

SUFFIXES = {
    "image": (".jpg", ".jpeg", ".png", ".bmp", ".webp"),
    "audio": (".wav", ".flac", ".ogg", ".mp3"),
    "text": (".txt",),
}
SAMPLE_LIMIT = 100_000
TEXT_LIMIT_BYTES = 1 << 20


class Sample(NamedTuple):
    """One thing to predict. item: keyword -> {"path": file}, {"text": string}, {"texts": strings} or {"file": file of
    the first bundle}, as a profile's workload has it. label: null where nothing is known to be right."""

    name: str
    item: dict[str, dict[str, Any]]
    label: str | None


def read_samples(data: Path, manifest: Manifest, limit: int | None) -> list[Sample]:
    """The samples below a folder (FOLDER/<label>/files, or files alone) or in a CSV. Raises InputError.

    A bundle that compares with texts gets all labels as its candidates.
    """
    found = _read_csv(data) if data.suffix.lower() == ".csv" else _read_folder(data, manifest)
    if not found:
        raise InputError(f"{data}: no samples for {', '.join(manifest.inputs)}")
    if len(found) > SAMPLE_LIMIT:
        raise InputError(f"{data}: {len(found)} samples, at most {SAMPLE_LIMIT}")
    labels = sorted({s.label for s in found if s.label is not None})
    missing = sum(s.label is None for s in found)
    if labels and missing:
        raise InputError(f"{data}: {missing} of {len(found)} samples have no label", hint="label all of them, or none")
    for sample in found[:1]:
        unknown = [keyword for keyword in sample.item if keyword not in manifest.inputs]
        if unknown:
            raise InputError(f"'{manifest.name}' takes {', '.join(manifest.inputs)}; {data} gives {unknown[0]}")
    if isinstance(manifest.postprocess, Similarity) and labels and "text" not in found[0].item:
        found = [s._replace(item={**s.item, "text": {"texts": labels}}) for s in found]
    return _spread(found, limit)


def _spread(samples: list[Sample], limit: int | None) -> list[Sample]:
    """At most `limit` of them, evenly spread over the list, so that every label keeps its share."""
    if limit is None or len(samples) <= limit:
        return samples
    return [samples[i * len(samples) // limit] for i in range(limit)]


def golden_samples(manifest: Manifest) -> list[Sample]:
    """A bundle's own samples; a sequence counts with its last entry. Raises InputError where there are none."""
    found = [Sample(g.name, dict(g.inputs[-1]), None) for g in manifest.golden]
    if not found:
        raise InputError(f"'{manifest.name}' carries no golden sample", hint="give --data")
    return found


def _read_folder(folder: Path, manifest: Manifest) -> list[Sample]:
    if not folder.is_dir():
        raise InputError(f"there is no folder or CSV {folder}", hint="DIR/<label>/files, or a CSV with a header")
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        keyword = next((k for k, suffixes in SUFFIXES.items() if path.suffix.lower() in suffixes), None)
        if keyword is None or keyword not in manifest.inputs:
            continue
        above = path.relative_to(folder).parts
        label = above[0] if len(above) > 1 else None
        given = {"text": _text(path)} if keyword == "text" else {"path": str(path)}
        found.append(Sample("/".join(above), {keyword: given}, label))
    return found


def _text(path: Path) -> str:
    if path.stat().st_size > TEXT_LIMIT_BYTES:
        raise InputError(f"{path}: more than {TEXT_LIMIT_BYTES} bytes of text")
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from None


def _read_csv(path: Path) -> list[Sample]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = [c for c in reader.fieldnames or () if c]
            return list(_rows(path, columns, reader))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from None


def _rows(path: Path, columns: list[str], rows: Iterable[dict[str, Any]]) -> Iterable[Sample]:
    unknown = [c for c in columns if c not in (*SUFFIXES, "label")]
    keywords = [c for c in columns if c in SUFFIXES]
    if unknown or not keywords:
        raise InputError(
            f"{path}: expected the columns image, audio or text, and label; got {', '.join(columns) or 'no header'}"
        )
    for number, row in enumerate(rows, 2):
        item: dict[str, dict[str, Any]] = {}
        for keyword in keywords:
            value = row.get(keyword)
            if not value:
                raise InputError(f"{path}, line {number}: no {keyword}")
            if keyword == "text":
                item[keyword] = {"text": value}
            else:
                file = (path.parent / value).resolve() if not Path(value).is_absolute() else Path(value)
                if not file.is_file():
                    raise InputError(f"{path}, line {number}: there is no file {value}")
                item[keyword] = {"path": str(file)}
        name = next(iter(item.values()))
        shown = Path(str(name.get("path", ""))).name or str(name.get("text", ""))[:40]
        yield Sample(shown, item, row.get("label") or None)
