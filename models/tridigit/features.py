"""Preprocessing of tridigit in plain numpy: the reference that the golden tensors are made with.

Every number here is a fact about the weights; README.md lists them for the recipe.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_CHARACTERS = tuple("0123456789")


@dataclass(frozen=True)
class ImageSpec:
    height: int = 28
    width: int = 28
    mean: float = 0.1307
    std: float = 0.3081


@dataclass(frozen=True)
class AudioSpec:
    rate_hz: int = 8000
    samples: int = 8000
    frame_length: int = 256
    hop_length: int = 128
    fft_length: int = 256
    mel_bands: int = 40
    low_hz: float = 20.0
    high_hz: float = 4000.0
    log_epsilon: float = 1e-6
    mean: float = -10.161
    std: float = 4.939

    @property
    def frames(self) -> int:
        return 1 + (self.samples - self.frame_length) // self.hop_length


@dataclass(frozen=True)
class TextSpec:
    alphabet: str = "abcdefghijklmnopqrstuvwxyz0123456789 "
    length: int = 8

    @property
    def codes(self) -> int:
        return len(self.alphabet) + 1


IMAGE = ImageSpec()
AUDIO = AudioSpec()
TEXT = TextSpec()


def read_image(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("L")


def image_features(image: Image.Image, spec: ImageSpec = IMAGE) -> Float32:
    """Return `pixel_values`, (1, height, width): stretched, bilinear, x/255, (x-mean)/std."""
    grey = image.convert("L").resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    return normalise_pixels(np.asarray(grey), spec)[np.newaxis]


def normalise_pixels(pixels: NDArray[np.uint8], spec: ImageSpec = IMAGE) -> Float32:
    scaled = pixels.astype(np.float32) / np.float32(255)
    return (scaled - np.float32(spec.mean)) / np.float32(spec.std)


def read_wave(path: Path, rate_hz: int = AUDIO.rate_hz) -> Float32:
    """Return the samples of a mono 16-bit WAV file, int16 / 32768."""
    with wave.open(str(path), "rb") as file:
        found = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        if found != (1, 2, rate_hz):
            raise ValueError(f"{path}: expected mono, 2 bytes, {rate_hz} Hz; got {found}")
        data = file.readframes(file.getnframes())
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(32768)


def fit_length(samples: Float32, length: int) -> Float32:
    """Trim on the right or pad with zeros on the right."""
    kept = samples[:length]
    return np.pad(kept, (0, length - len(kept)))


def periodic_hann(length: int) -> Float64:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def mel_filters(spec: AudioSpec = AUDIO) -> Float64:
    """Return (fft_length // 2 + 1, mel_bands): HTK mel, triangles in Hz, peak 1 (librosa: htk=True, norm=None)."""
    low, high = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (spec.low_hz, spec.high_hz))
    corners_mel = np.linspace(low, high, spec.mel_bands + 2)
    corners_hz = 700.0 * (10.0 ** (corners_mel / 2595.0) - 1.0)
    bins_hz = np.arange(spec.fft_length // 2 + 1) * spec.rate_hz / spec.fft_length
    widths = np.diff(corners_hz)
    rising = (bins_hz[:, None] - corners_hz[:-2]) / widths[:-1]
    falling = (corners_hz[2:] - bins_hz[:, None]) / widths[1:]
    return np.maximum(0.0, np.minimum(rising, falling))


def audio_features(samples: Float32, spec: AudioSpec = AUDIO) -> Float32:
    """Return `input_features`, (frames, mel_bands): ln(mel power + epsilon), (x-mean)/std."""
    signal = fit_length(samples, spec.samples).astype(np.float64)
    starts = np.arange(spec.frames) * spec.hop_length
    frames = signal[starts[:, None] + np.arange(spec.frame_length)]
    spectrum = np.fft.rfft(frames * periodic_hann(spec.frame_length), spec.fft_length)
    mel = (np.abs(spectrum) ** 2) @ mel_filters(spec)
    return ((np.log(mel + spec.log_epsilon) - spec.mean) / spec.std).astype(np.float32)


def text_features(text: str, spec: TextSpec = TEXT) -> NDArray[np.int32]:
    """Return `input_ids`, (length,): position in the alphabet plus one, 0 as padding."""
    codes = np.zeros(spec.length, dtype=np.int32)
    for position, character in enumerate(text.lower()[: spec.length]):
        codes[position] = spec.alphabet.index(character) + 1
    return codes
