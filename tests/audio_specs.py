"""Audio specs for the tests, written out: every key of every stage."""

from __future__ import annotations

from typing import Any

from edgekit.manifest import Limits
from edgekit.specs.audio import AudioSpec, Length, Resample, Spectrum
from edgekit.specs.tensor import Quantization

LIMITS = Limits(
    pixels=1,
    image_bytes=1,
    audio_seconds=600.0,
    audio_bytes=64 << 20,
    audio_channels=8,
    text_bytes=1,
    candidates=1,
)


def spectrum(**changes: Any) -> Spectrum:
    """Whisper's mel without its clamp and scaling, with changes."""
    fields: dict[str, Any] = {
        "type": "mel",
        "frame_length": 400,
        "hop_length": 160,
        "fft_length": 400,
        "center": "none",
        "remove_dc": False,
        "preemphasis": 0.0,
        "window": "hann",
        "power": 2.0,
        "drop_last": False,
        "bands": 80,
        "low_hz": 0.0,
        "high_hz": 8000.0,
        "mel_scale": "slaney",
        "mel_norm": "slaney",
        "triangles": "hz",
        "floor_mode": "clamp",
        "floor": 1e-10,
        "log": "log10",
        "dynamic_range": 0.0,
        "cepstra": 0,
        "dct_norm": "none",
        "frames": 0,
        "frame_pad": 0.0,
        "offset": 0.0,
        "divisor": 1.0,
    }
    return Spectrum(**{**fields, **changes})


def audio(**changes: Any) -> AudioSpec:
    """A waveform at 16 kHz as it is, with changes."""
    fields: dict[str, Any] = {
        "kind": "audio",
        "value": "x",
        "mask": None,
        "rate_hz": 16000,
        "downmix": "mean",
        "resample": Resample(zeros=32, rolloff=0.965, beta=8.0),
        "amplitude": "unit",
        "windows": None,
        "length": None,
        "normalize": "none",
        "epsilon": 0.0,
        "features": None,
        "layout": "samples",
        "shape": (1, -1),
        "dtype": "float32",
        "quantization": None,
        "streamable": False,
    }
    return AudioSpec(**{**fields, **changes})


def length(samples: int, pad: str = "zero", trim: str = "right") -> Length:
    return Length(samples=samples, pad=pad, trim=trim)  # type: ignore[arg-type]


WAVEFORM = audio()

WHISPER = audio(
    length=length(480000),
    features=spectrum(type="whisper", center="reflect", drop_last=True, dynamic_range=8.0, offset=-4.0, divisor=4.0),
    layout="bands_frames",
    shape=(1, 80, 3000),
)

AST = audio(
    features=spectrum(
        type="kaldi",
        fft_length=512,
        remove_dc=True,
        preemphasis=0.97,
        window="hann_symmetric",
        bands=128,
        low_hz=20.0,
        mel_scale="kaldi",
        mel_norm="none",
        triangles="mel",
        floor=1.1920928955078125e-07,
        log="ln",
        frames=256,
        offset=-4.2677393,
        divisor=2 * 4.5689974,
    ),
    layout="frames_bands",
    shape=(1, 256, 128),
)

WAV2VEC2 = audio(normalize="zero_mean_unit_variance", epsilon=1e-7)

CLAP = audio(
    rate_hz=48000,
    length=length(96000, pad="repeat"),
    features=spectrum(
        frame_length=1024, hop_length=480, fft_length=1024, center="reflect", bands=64, high_hz=14000.0, log="db"
    ),
    layout="frames_bands",
    shape=(1, 1, -1, 64),
)

KWS = audio(
    length=length(16000),
    normalize="peak",
    features=spectrum(
        type="mfcc",
        frame_length=480,
        hop_length=320,
        fft_length=512,
        power=1.0,
        bands=40,
        low_hz=20.0,
        high_hz=4000.0,
        mel_scale="htk",
        mel_norm="none",
        triangles="mel",
        floor_mode="add",
        floor=1e-6,
        log="ln",
        cepstra=10,
        dct_norm="tensorflow",
    ),
    layout="frames_bands",
    shape=(1, 49, 10, 1),
    dtype="int8",
    quantization=Quantization(scale=0.58470291, zero_point=83, rounding="trunc"),
)

TRIDIGIT = audio(
    rate_hz=8000,
    length=length(8000),
    features=spectrum(
        frame_length=256,
        hop_length=128,
        fft_length=256,
        bands=40,
        low_hz=20.0,
        high_hz=4000.0,
        mel_scale="htk",
        mel_norm="none",
        floor_mode="add",
        floor=1e-6,
        log="ln",
        offset=-10.161,
        divisor=4.939,
    ),
    layout="frames_bands",
    shape=(1, 61, 40),
)
