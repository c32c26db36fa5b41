"""What the rows are measured on: photographs, speech, words; made on the spot where nothing real is there."""

from __future__ import annotations

import io
import wave
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.environment import ROOT

SHARED = ROOT.parent / "shared"
SIZES = {"640x480": (640, 480), "1080p": (1920, 1080), "12MP": (4032, 3024)}
JPEG_QUALITY = 92


@cache
def canvas() -> Any:
    """A 4032 x 3024 picture made of whole photographs side by side (mirrored and turned), or of smooth noise."""
    from PIL import Image, ImageOps

    folder = SHARED / "data" / "photos"
    whole = Image.new("RGB", SIZES["12MP"])
    if not folder.is_dir():
        rng = np.random.default_rng(0)
        coarse = Image.fromarray(rng.integers(0, 256, (378, 504, 3), np.uint8))
        return coarse.resize(SIZES["12MP"], Image.Resampling.BICUBIC)
    photos = [Image.open(p).convert("RGB") for p in sorted(folder.iterdir()) if p.suffix in (".bmp", ".jpg")]
    photos += [ImageOps.mirror(p) for p in photos] + [ImageOps.flip(p) for p in photos]
    turn = 0
    for left in range(0, whole.width, 512):
        top = 0
        while top < whole.height:
            photo = photos[turn % len(photos)]
            whole.paste(photo, (left, top))
            top += photo.height
            turn += 1
        turn += 3
    return whole


def portrait(edge: int) -> Any:
    """The photo of a face, (edge, edge) pixels."""
    from PIL import Image

    with Image.open(SHARED / "data" / "photos" / "grace_hopper.bmp") as photo:
        return photo.convert("RGB").crop((44, 44, 468, 468)).resize((edge, edge), Image.Resampling.BICUBIC)


@cache
def jpeg(size: str) -> bytes:
    """The canvas's top left part as a JPEG of quality 92."""
    width, height = SIZES[size]
    stream = io.BytesIO()
    canvas().crop((0, 0, width, height)).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


@cache
def frame(size: str) -> np.ndarray:
    """The same part as a camera gives it: uint8 (H, W, 3)."""
    width, height = SIZES[size]
    return np.ascontiguousarray(np.asarray(canvas().crop((0, 0, width, height))))


@cache
def speech(seconds: int) -> np.ndarray:
    """Float32 at 16 kHz, a real voice repeated, or noise shaped like one."""
    found = SHARED / "zoo" / "inputs" / "jfk_16k.wav"
    if found.is_file():
        with wave.open(str(found)) as file:
            once = np.frombuffer(file.readframes(file.getnframes()), np.int16) / np.float32(32768)
    else:
        rng = np.random.default_rng(0)
        once = (rng.standard_normal(160000) * np.abs(np.sin(np.arange(160000) / 3000)) / 8).astype(np.float32)
    return np.resize(once, seconds * 16000).astype(np.float32)


@cache
def wav(seconds: int, rate_hz: int, channels: int) -> bytes:
    """The same as a 16-bit WAV file that claims this rate and number of channels."""
    samples = np.resize(speech(seconds), seconds * rate_hz * channels)
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return stream.getvalue()


def tokenizer_file() -> Path | None:
    """BERT's uncased WordPiece with 30,522 words."""
    found = SHARED / "models" / "minilm" / "tokenizer.json"
    return found if found.is_file() else None


WORDS = [
    "the",
    "a",
    "of",
    "and",
    "to",
    "in",
    "is",
    "you",
    "that",
    "it",
    "he",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "his",
    "they",
    "I",
    "at",
    "be",
    "this",
    "have",
    "from",
    "or",
    "one",
    "had",
    "by",
]
RARE = [
    "naïve café",
    "東京タワー",
    "über-cool",
    "don't",
    "e-mail@example.org",
    "3.14159",
    "COVID-19",
    "🙂👍",
    "Straße",
    "ﬁnance",
]


def lines(count: int) -> list[str]:
    """Seeded lines of words, rare words, punctuation and other scripts."""
    rng = np.random.default_rng(1)
    made = []
    for _ in range(count):
        words = [WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(1, 24))]
        letters = rng.integers(97, 123, rng.integers(2, 12))
        words.insert(int(rng.integers(0, len(words) + 1)), "".join(map(chr, letters)))
        if rng.random() < 0.3:
            words.append(RARE[int(rng.integers(0, len(RARE)))])
        made.append(" ".join(words) + (".", "?", "!", "")[int(rng.integers(0, 4))])
    return made
