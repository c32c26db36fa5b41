"""Sound that comes in chunks: every feature is computed once per sample, not once per window that sees it."""

from __future__ import annotations

import numpy as np

from edgekit.arrays import Array, Float32
from edgekit.errors import InputError
from edgekit.preprocess import audio, spectrum
from edgekit.preprocess.resampling import StreamingResampler
from edgekit.preprocess.sound import Sound
from edgekit.specs.audio import AudioSpec


class StreamingFeatures:
    """Chunks in, new frames (or samples, for a waveform) out: those of the whole sound, each given once.

    `spec.length` and `features.frames` do not apply here: they say what one run of the graph sees (`window_size`).
    """

    def __init__(self, spec: AudioSpec) -> None:
        if not spec.streamable:
            raise InputError(f"'{spec.value}' cannot be fed in chunks", hint="its spec says streamable = false")
        self._spec = spec
        self._features = None if spec.features is None else spec.features.replace(frames=0)
        self._restart()

    def _restart(self) -> None:
        self._rate_hz = 0
        self._resampler: StreamingResampler | None = None
        self._held = np.zeros(0, np.float32)
        self._skip = 0

    def push(self, chunk: Sound) -> Float32:
        """The frames (n, bands) or samples (n,) that this chunk completes; n may be 0.

        Raises InputError when the rate changes within a sound.
        """
        spec = self._spec
        if self._rate_hz == 0:
            self._rate_hz = chunk.rate_hz
            if chunk.rate_hz != spec.rate_hz:
                self._resampler = StreamingResampler(chunk.rate_hz, spec.rate_hz, spec.resample)
        if chunk.rate_hz != self._rate_hz:
            raise InputError(
                f"'{spec.value}': expected chunks of {self._rate_hz} Hz like the first, got {chunk.rate_hz} Hz",
                hint="flush() ends a sound; the next one may have another rate",
            )
        samples = audio.one_channel(spec, chunk)
        return self._advance(samples if self._resampler is None else self._resampler.push(samples))

    def flush(self) -> Float32:
        """What the end of the sound completes; then a new sound may begin."""
        rest = np.zeros(0, np.float32) if self._resampler is None else self._resampler.flush()
        last = self._advance(rest)
        self._restart()
        return last

    def _advance(self, samples: Float32) -> Float32:
        features = self._features
        if features is None:
            return samples
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        held = np.concatenate([self._held, samples[skipped:]])
        frames = spectrum.extent(features, len(held), len(held)).frames if len(held) else 0
        if frames == 0:
            self._held = held
            return np.zeros((0, width(self._spec)), np.float32)
        values = spectrum.features(features, self._spec.rate_hz, held, len(held), bands_first=False)
        done = frames * features.hop_length
        self._skip = max(0, done - len(held))
        self._held = held[done:]
        return spectrum.fit_frames(features, values, bands_first=False)


def width(spec: AudioSpec) -> int:
    """Numbers per frame."""
    features = spec.features
    if features is None:
        return 1
    return features.cepstra or features.bands or features.fft_length // 2 + 1


def window_size(spec: AudioSpec) -> int:
    """Frames (or samples, for a waveform) that one run of the graph sees. Raises InputError where it takes any."""
    if spec.features is not None and spec.features.frames:
        return spec.features.frames
    fixed = spec.length or spec.windows
    if fixed is None:
        raise InputError(f"'{spec.value}' has no fixed length: its spec has no length, windows or features.frames")
    samples = fixed.samples
    return samples if spec.features is None else spectrum.extent(spec.features, samples, samples).frames


def tensors(spec: AudioSpec, window: Float32) -> dict[str, Array]:
    """A window of frames (n, bands) or samples (n,) as what the flow starts with; all of it counts as real."""
    values = window.T if spec.layout == "bands_frames" else window
    named = {spec.value: audio.shaped(spec, values)}
    if spec.mask is not None:
        named[spec.mask] = np.ones((1, len(window)), np.int64)
    return named
