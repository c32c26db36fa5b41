"""A stream: the one object that owns state between calls (chunks of sound, recurrent state)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from edgekit import clock, flow, results
from edgekit.arrays import Array
from edgekit.errors import ClosedError, InputError
from edgekit.inputs import Prepare
from edgekit.manifest import Limits
from edgekit.postprocess import Finish
from edgekit.specs.audio import AudioSpec

Take = Callable[[Any, clock.Lap], list[dict[str, Array]]]
"""From one pushed value (None: the end) to the starting values of each run that it completes."""


class Stream:
    """Feeds a model piece by piece; state stays from push to push. One thread at a time; close it or use `with`."""

    def __init__(self, take: Take, run: Callable[..., None], finish: Finish) -> None:
        self._take = take
        self._run = run
        self._finish = finish
        self._states: dict[str, flow.States] = {}
        self._closed = False

    def push(self, chunk: Any) -> list[results.Result]:
        """The results that this chunk completes, none or several.

        chunk: for sound `(samples, rate_hz)`, or samples (n,) at the model's own rate; for other inputs one value as
        predict takes it. Raises InputError, ClosedError.
        """
        return self._answer(chunk)

    def flush(self) -> list[results.Result]:
        """The results of what is left; then the state is the initial one and a new sound may begin."""
        found = self._answer(None)
        self._states = {}
        return found

    def close(self) -> None:
        """End the stream; a second call does nothing."""
        self._closed = True
        self._states = {}

    def _answer(self, chunk: Any) -> list[results.Result]:
        if self._closed:
            raise ClosedError("the stream is closed", hint="open another: predictor.stream()")
        timings: dict[str, float] = {}
        lap = clock.start(timings)
        found = []
        for values in self._take(chunk, lap):
            self._run(values, lap, self._states)
            kind, fields = self._finish(values, {})
            lap("postprocess")
            timings["total"] = sum(timings.values())
            found.append(results.assemble(kind, fields, dict(timings)))
            timings.clear()
        return found

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def taker(spec: Any, prepare: Prepare, limits: Limits) -> Take:
    """What turns pushed values into runs: windows of a sound, or each value by itself."""
    if isinstance(spec, AudioSpec):
        return _sound_taker(spec, limits)

    def take(value: Any, lap: clock.Lap) -> list[dict[str, Array]]:
        return [] if value is None else [prepare(value, lap).values]

    return take


def _sound_taker(spec: AudioSpec, limits: Limits) -> Take:
    from edgekit.preprocess import audio_stream, sound, spectrum

    features = audio_stream.StreamingFeatures(spec)
    windows, per = spec.windows, spec.features.hop_length if spec.features else 1
    if windows is None:
        size = hop = audio_stream.window_size(spec)
    else:
        extent = spectrum.extent(spec.features, windows.samples, windows.samples) if spec.features else None
        size, hop = extent.frames if extent else windows.samples, windows.hop // per
    shape = (audio_stream.width(spec),) if spec.features else ()
    fill = windows is None or windows.tail == "fill"
    lead = windows.lead // per if windows else 0

    def start() -> Array:
        return np.zeros((lead, *shape), np.float32)

    held = [start()]

    def take(chunk: Any, lap: clock.Lap) -> list[dict[str, Array]]:
        new = features.flush() if chunk is None else features.push(_decode(chunk))
        rows = np.concatenate([held[0], new])
        found = []
        while len(rows) >= size:
            found.append(audio_stream.tensors(spec, rows[:size]))
            rows = rows[hop:]
        if chunk is None:
            if fill and len(rows) > (lead if not found else size - hop):
                padded = np.zeros((size, *shape), np.float32)
                padded[: len(rows)] = rows
                found.append(audio_stream.tensors(spec, padded))
            rows = start()
        held[0] = rows.copy()
        lap("preprocess")
        return found

    def _decode(chunk: Any) -> Any:
        return sound.decode(spec, chunk if isinstance(chunk, tuple) else (chunk, spec.rate_hz), limits)

    return take


def refuse_unless_streamable(inputs: Mapping[str, Any]) -> str:
    """The keyword of the one input that can be fed in pieces. Raises InputError."""
    if len(inputs) != 1:
        raise InputError(f"a stream feeds one input, this bundle takes {', '.join(inputs)}")
    keyword, spec = next(iter(inputs.items()))
    if isinstance(spec, AudioSpec) and not spec.streamable:
        raise InputError(f"'{keyword}' cannot be fed in chunks: the manifest says streamable = false")
    return keyword
