"""What is predicted while profiling: the bundle's golden samples or the user's own files, never only zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from edgekit.errors import InputError
from edgekit.profiling.readings import Reading, known, unknown
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


def given_workload(images: Sequence[str], audios: Sequence[str], texts: Sequence[str]) -> Workload | None:
    """The inputs of a command line; texts beside a picture or a sound are its candidates. None where there are none."""
    if not (images or audios or texts):
        return None
    return user_workload(images=images, audios=audios, texts=texts, candidates=bool(texts and (images or audios)))


def keywords(item: Mapping[str, Mapping[str, Json]], read: Read) -> dict[str, Any]:
    """What predict is called with; `read` gives the bytes of a file of the bundle."""
    return {keyword: value_of(keyword, source, read) for keyword, source in item.items()}


def read_array(data: bytes, name: str) -> Any:
    """The array in the bytes of an .npy file. Raises InputError."""
    import io

    import numpy as np

    try:
        return np.load(io.BytesIO(data))
    except ValueError as error:
        raise InputError(f"{name}: not an .npy array ({error})") from None


def value_of(keyword: str, source: Mapping[str, Json], read: Read) -> Any:
    """One value from where it comes. Raises InputError for a source of another kind."""
    if len(source) == 1:
        (kind, value), *_ = source.items()
        if kind == "path":
            return value
        if kind == "file":
            return read_array(read(value), value) if value.endswith(".npy") else read(value)
        if kind in ("text", "texts"):
            return value
    raise InputError(f"input '{keyword}': expected path, file, text or texts, got {sorted(source)}")


def audio_seconds(item: Mapping[str, Mapping[str, Json]], read: Read, rate_hz: float) -> Reading:
    """The length of the sound in one call; rate_hz is the model's, which a bare array has."""
    source = item.get("audio")
    if source is None:
        return unknown("there is no sound in the input")
    value = value_of("audio", source, read)
    if hasattr(value, "shape"):
        return known(len(value) / rate_hz)
    import io
    import wave

    data = io.BytesIO(value) if isinstance(value, bytes) else open(value, "rb")  # noqa: SIM115
    with data:
        try:
            with wave.open(data) as sound:
                return known(sound.getnframes() / sound.getframerate())
        except (wave.Error, EOFError):
            data.seek(0)
        try:
            import soundfile

            return known(soundfile.info(data).duration)
        except Exception as error:
            return unknown(f"the length of the sound cannot be read ({type(error).__name__})")
