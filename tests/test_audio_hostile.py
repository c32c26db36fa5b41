"""PROMISES L3: 5,000 mutated files of each format: 0 crashes, 0 foreign errors, at most 1 s each, bounded memory."""

from __future__ import annotations

import io
import resource
import time

import numpy as np
import pytest
import soundfile
from audio_specs import LIMITS, WAVEFORM

from edgekit.errors import InputError
from edgekit.preprocess.audio import transform
from edgekit.preprocess.sound import decode

MUTATIONS = 5000
FORMATS = {
    "wav": [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM")],
    "flac": [("FLAC", "PCM_16"), ("FLAC", "PCM_24")],
    "ogg": [("OGG", "VORBIS"), ("OGG", "OPUS")],
    "mp3": [("MP3", "MPEG_LAYER_III")],
}


def original(container: str, subtype: str) -> bytes:
    rng = np.random.default_rng(3)
    samples = 0.4 * np.sin(np.arange(8000) * 0.05) + 0.02 * rng.standard_normal(8000)
    file = io.BytesIO()
    soundfile.write(file, samples.astype(np.float32), 16000, format=container, subtype=subtype)
    return file.getvalue()


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to five changes, half of them in the first 64 bytes: bits, words, cuts, inserts, fills, removals."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(0, min(len(changed), 64) if rng.random() < 0.5 else len(changed)))
        kind = int(rng.integers(0, 6))
        if kind == 0:
            changed[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            changed[at : at + 4] = rng.bytes(4)
        elif kind == 2 and at:
            del changed[at:]
        elif kind == 3:
            changed[at:at] = rng.bytes(int(rng.integers(1, 64)))
        elif kind == 4:
            changed[at : at + 8] = bytes([int(rng.choice([0, 255]))]) * 8
        elif len(changed) > at + 64:
            del changed[at : at + int(rng.integers(1, 64))]
    return bytes(changed)


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files_are_decoded_or_refused(name: str) -> None:
    rng = np.random.default_rng(11)
    seeds = [original(*form) for form in FORMATS[name]]
    good = [transform(WAVEFORM, decode(WAVEFORM, seed, LIMITS))["x"] for seed in seeds]
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused, slowest = 0, 0.0
    for number in range(MUTATIONS):
        which = number % len(seeds)
        started = time.perf_counter()
        try:
            sound = decode(WAVEFORM, mutate(seeds[which], rng), LIMITS)
            made = transform(WAVEFORM, sound)["x"]
            assert np.isfinite(made).all()
        except InputError:
            refused += 1
        slowest = max(slowest, time.perf_counter() - started)
        if number % 100 == 0:  # PROMISES L2: nothing is poisoned
            again = transform(WAVEFORM, decode(WAVEFORM, seeds[which], LIMITS))["x"]
            assert (again == good[which]).all()
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert refused > MUTATIONS // 10
    assert slowest <= 1.0
    assert grown_kib <= 128 << 10
