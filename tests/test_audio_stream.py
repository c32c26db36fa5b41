"""A sound in chunks gives the features of the whole sound, each computed once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from audio_specs import AST, KWS, TRIDIGIT, WAVEFORM, WHISPER

from edgekit.errors import InputError
from edgekit.preprocess.audio import transform
from edgekit.preprocess.audio_stream import StreamingFeatures, tensors, window_size
from edgekit.preprocess.sound import Sound
from edgekit.specs.audio import AudioSpec

KWS_STREAM = KWS.replace(normalize="none", streamable=True, mask="m")
STREAMS = {
    "waveform": WAVEFORM.replace(streamable=True),
    "mfcc": KWS_STREAM.replace(length=None, dtype="float32", quantization=None, shape=(1, -1, 10)),
    "mel": TRIDIGIT.replace(length=None, streamable=True, shape=(1, -1, 40)),
    "kaldi": AST.replace(features=AST.features.replace(frames=0), streamable=True, shape=(1, -1, 128)),
    "gaps": TRIDIGIT.replace(
        features=TRIDIGIT.features.replace(hop_length=300), length=None, streamable=True, shape=(1, -1, 40)
    ),
}


def noise(seconds: float, rate_hz: int, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(rate_hz)
    return (rng.standard_normal((int(seconds * rate_hz), channels)) * 4000).astype(np.int16)


def in_chunks(spec: AudioSpec, samples: np.ndarray, rate_hz: int, largest: int) -> Any:
    rng = np.random.default_rng(largest)
    stream, parts, at = StreamingFeatures(spec), [], 0
    while at < len(samples):
        size = int(rng.integers(1, largest + 1))
        parts.append(stream.push(Sound(samples[at : at + size], rate_hz)))
        at += size
    return np.concatenate([*parts, stream.flush()])


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("largest", [1, 160, 7000])
def test_chunks_at_the_models_rate_equal_the_whole(name: str, largest: int) -> None:
    spec = STREAMS[name]
    samples = noise(0.3 if largest == 1 else 2.013, spec.rate_hz, 2)
    whole = transform(spec, Sound(samples, spec.rate_hz))["x"][0]
    made = in_chunks(spec, samples, spec.rate_hz, largest)
    assert made.shape == whole.shape
    # OpenBLAS rounds a product by how many rows it has: the last bits of sums over all bands.
    last_bits = 4 * np.finfo(np.float32).eps * np.abs(whole).max()
    assert np.abs(made - whole).max() <= (0.0 if name == "waveform" else last_bits)


@pytest.mark.parametrize("rate_hz", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("largest", [50, 4000])
def test_resampled_chunks_equal_the_whole(rate_hz: int, largest: int) -> None:
    spec = STREAMS["waveform"]
    samples = noise(1.007, rate_hz)
    whole = transform(spec, Sound(samples, rate_hz))["x"][0]
    made = in_chunks(spec, samples, rate_hz, largest)
    assert made.shape == whole.shape
    assert np.abs(made - whole).max() <= 1e-6


def test_window_of_streamed_frames_is_the_tensor_of_that_stretch_of_sound() -> None:
    samples = noise(3.0, 16000)
    frames = in_chunks(KWS_STREAM, samples, 16000, 900)
    size = window_size(KWS_STREAM)
    assert size == 49
    for first in (0, 7, 99):
        start = first * 320
        whole = transform(KWS_STREAM, Sound(samples[start : start + 16000], 16000))
        window = tensors(KWS_STREAM, frames[first : first + size])
        assert window["x"].dtype == np.int8
        assert np.abs(window["x"].astype(int) - whole["x"]).max() <= 1  # a number on the edge of a step may fall
        assert (window["x"] == whole["x"]).mean() > 0.99
        assert (window["m"] == whole["m"]).all()


def test_stream_starts_anew_after_flush() -> None:
    spec = STREAMS["mel"]
    stream = StreamingFeatures(spec)
    for rate_hz in (44100, 8000):
        samples = noise(0.5, rate_hz)
        made = np.concatenate([stream.push(Sound(samples, rate_hz)), stream.flush()])
        assert np.abs(made - transform(spec, Sound(samples, rate_hz))["x"][0]).max() <= 1e-5


def test_another_rate_within_a_sound_is_refused() -> None:
    stream = StreamingFeatures(STREAMS["mel"])
    stream.push(Sound(noise(0.1, 16000), 16000))
    with pytest.raises(InputError, match="expected chunks of 16000 Hz like the first, got 8000 Hz"):
        stream.push(Sound(noise(0.1, 8000), 8000))


def test_what_needs_the_whole_sound_is_not_streamed() -> None:
    with pytest.raises(InputError, match="cannot be fed in chunks"):
        StreamingFeatures(WHISPER)
    with pytest.raises(InputError, match="no fixed length"):
        window_size(STREAMS["mel"])
