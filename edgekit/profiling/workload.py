"""What is predicted while profiling: the bundle's golden samples or the user's own files, never only zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from edgekit.errors import InputError
from edgekit.records import Json, Record

Read = Callable[[str], bytes]


class Workload(Record):
    """The inputs of the measured calls, taken in turn.

    items: per call, keyword -> one of {"path": file of this machine}, {"file": file of the bundle},
    {"text": string}, {"texts": [strings]}. described: one line for the report.
    """

    origin: Literal["golden", "user"]
    items: tuple[dict[str, Any], ...]
    described: str

    def check(self) -> None:
        if not self.items:
            raise InputError("a profile needs at least one input", hint="give --image, --audio or --text")


def golden_workload(manifest: Any) -> Workload:
    """The first golden sample of a manifest. Raises InputError where it has none."""
    if not manifest.golden:
        raise InputError(
            f"'{manifest.name}' carries no golden sample to predict", hint="give --image, --audio or --text"
        )
    sample = manifest.golden[0]
    items = tuple(dict(item) for item in sample.inputs)
    keywords_used = ", ".join(sorted({keyword for item in items for keyword in item}))
    described = f"golden sample '{sample.name}' ({keywords_used}; {len(items)} in turn)"
    return Workload(origin="golden", items=items, described=described)


def user_workload(
    *, images: Sequence[str] = (), audios: Sequence[str] = (), texts: Sequence[str] = (), candidates: bool = False
) -> Workload:
    """Files and texts by keyword; the lists are run through together, the shorter ones from their start again.

    candidates: all texts are one call's list (zero-shot), else one text per call.
    """
    columns: dict[str, list[dict[str, Json]]] = {
        "image": [{"path": path} for path in images],
        "audio": [{"path": path} for path in audios],
        "text": [{"texts": list(texts)}] if candidates and texts else [{"text": text} for text in texts],
    }
    columns = {keyword: values for keyword, values in columns.items() if values}
    length = max((len(values) for values in columns.values()), default=0)
    items = tuple({k: values[i % len(values)] for k, values in columns.items()} for i in range(length))
    described = ", ".join(f"{len(values)} {keyword}" for keyword, values in columns.items())
    return Workload(origin="user", items=items, described=f"given: {described}")


def keywords(item: Mapping[str, Mapping[str, Json]], read: Read) -> dict[str, Any]:
    """What predict is called with; `read` gives the bytes of a file of the bundle."""
    return {keyword: value_of(keyword, source, read) for keyword, source in item.items()}


def value_of(keyword: str, source: Mapping[str, Json], read: Read) -> Any:
    """One value from where it comes. Raises InputError for a source of another kind."""
    if len(source) == 1:
        (kind, value), *_ = source.items()
        if kind == "path":
            return value
        if kind == "file":
            return read(value)
        if kind in ("text", "texts"):
            return value
    raise InputError(f"input '{keyword}': expected path, file, text or texts, got {sorted(source)}")
