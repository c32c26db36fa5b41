"""Issue 7, item 5: the Java library under a JVM gives what the Python pipelines give, for every field of the specs."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import audio_specs
import numpy as np
import pytest
import tokenizers
from audio_specs import LIMITS as AUDIO_LIMITS
from drawn_specs import (
    drawn_audio_spec,
    drawn_image_spec,
    drawn_picture,
    drawn_sound,
    drawn_text_spec,
    wordpiece,
)
from golden import make_bert_ranges
from image_specs import LIMITS, image_spec
from jvm_bridge import Java, JavaError, start_java
from PIL import __version__ as pillow_version

from edgekit.errors import EdgekitError
from edgekit.preprocess import audio as audio_pipeline
from edgekit.preprocess import image, picture, sound
from edgekit.preprocess import text as text_pipeline
from edgekit.preprocess.frame import Frame
from edgekit.records import dump
from edgekit.specs.audio import AudioSpec
from edgekit.specs.image import ImageSpec
from edgekit.specs.text import TextSpec

IMAGES = 240
SOUNDS = 240
TEXTS = 240
TEXT_LIMITS = AUDIO_LIMITS.replace(text_bytes=1 << 20)
NEW_PILLOW = int(pillow_version.split(".")[0]) >= 13


@pytest.fixture(scope="module")
def java() -> Iterator[Java]:
    """The library, compiled and running."""
    with start_java() as bridge:
        yield bridge


def level(spec: ImageSpec) -> float:
    """What one of 255 levels is in the tensor, at its largest, plus one step where rounding can add it."""
    channels = len(spec.mean)
    again = spec.std[channels:] or (1.0,) * channels
    step = max(spec.scale / (s * a) for s, a in zip(spec.std, again))
    return step * 1.001 + 1e-6 if spec.quantization is None else step / spec.quantization.scale + 1.0


@pytest.mark.skipif(int(pillow_version.split(".")[0]) < 13, reason="Java resamples in the order of Pillow 13")
@pytest.mark.parametrize("part", range(4))
def test_images(part: int, java: Java) -> None:
    """Within one level everywhere; to the bit under Pillow's own arithmetic. What one refuses the other refuses."""
    answered = 0
    for seed in range(part * IMAGES // 4, (part + 1) * IMAGES // 4):
        choose = random.Random(seed)
        spec, pixels = drawn_image_spec(choose), drawn_picture(choose)
        orders: dict[int, Any] = {1: "grey", 3: "rgb", 4: "rgba"}
        frame = Frame(pixels if pixels.shape[2] > 1 else pixels[:, :, 0], orders[pixels.shape[2]])
        try:
            wanted, _ = image.transform(spec, picture.decode(spec, frame, LIMITS))
        except EdgekitError:
            with pytest.raises(JavaError, match="InputError"):
                java.ask("prepare", {"value": pixels}, spec=dump(spec))
            continue
        _, found = java.ask("prepare", {"value": pixels}, spec=dump(spec))
        answered += 1
        exact = NEW_PILLOW and all(getattr(s, "arithmetic", "pillow") == "pillow" for s in spec.steps)
        compare(seed, wanted, found, 0.0 if exact else level(spec))
    assert answered > IMAGES // 8


def compare(case: Any, wanted: dict[str, Any], found: dict[str, Any], tolerance: float) -> None:
    assert list(wanted) == list(found), case
    for name, expected in wanted.items():
        got = found[name]
        assert (expected.shape, expected.dtype) == (got.shape, got.dtype), (case, name)
        if expected.size:
            difference = np.abs(expected.astype(np.float64) - got.astype(np.float64)).max()
            assert difference <= tolerance, (case, name, difference)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int, java: Java, tmp_path: Path) -> None:
    """A picture with an EXIF tag, decoded without it and turned by the library, is what Pillow turns."""
    from PIL import Image

    pixels = drawn_picture(random.Random(3))
    picture_file = Image.fromarray(np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8))
    exif = picture_file.getexif()
    exif[0x0112] = orientation
    picture_file.save(tmp_path / "p.png", exif=exif)
    spec = image_spec(layout="nhwc", scale=1.0)
    wanted, _ = image.transform(spec, picture.decode(spec, tmp_path / "p.png", LIMITS))
    _, found = java.ask("prepare", {"value": np.asarray(picture_file)}, spec=dump(spec), orientation=orientation)
    compare(orientation, wanted, found, 0.0)
    assert pixels.size


@pytest.mark.parametrize("part", range(4))
def test_sounds(part: int, java: Java) -> None:
    """Waveforms and logarithmic features within 1e-4 (relative for powers), one step where quantised."""
    answered = 0
    for seed in range(part * SOUNDS // 4, (part + 1) * SOUNDS // 4):
        choose = random.Random(1000 + seed)
        spec = drawn_audio_spec(choose)
        samples, rate_hz = drawn_sound(choose, spec)
        try:
            wanted = audio_pipeline.transform(spec, sound.decode(spec, (samples, rate_hz), AUDIO_LIMITS))
        except EdgekitError:
            with pytest.raises(JavaError, match="InputError"):
                java.ask("prepare", {"value": samples}, spec=dump(spec), rate_hz=rate_hz)
            continue
        _, found = java.ask("prepare", {"value": samples}, spec=dump(spec), rate_hz=rate_hz)
        answered += 1
        compare(seed, wanted, found, sound_tolerance(spec, wanted[spec.value]))
    assert answered > SOUNDS // 10


def sound_tolerance(spec: AudioSpec, wanted: np.ndarray) -> float:
    return 1.0 if spec.dtype != "float32" else max(1e-4, 1e-5 * float(np.abs(wanted).max(initial=0.0)))


@pytest.mark.parametrize("name", ["WHISPER", "AST", "WAV2VEC2", "CLAP", "KWS", "TRIDIGIT"])
def test_published_front_ends(name: str, java: Java) -> None:
    """Whisper's log-mel, AST's Kaldi filter bank and others, two seconds at their own rate: 1e-4, or a step."""
    spec: AudioSpec = getattr(audio_specs, name)
    t = np.arange(2 * spec.rate_hz) / spec.rate_hz
    tone = 0.4 * np.sin(2 * np.pi * (150 + 300 * t) * t) * np.abs(np.sin(5 * t))
    samples = (tone + 0.01 * np.random.default_rng(9).standard_normal(len(t)))[:, None].astype(np.float32)
    wanted = audio_pipeline.transform(spec, sound.decode(spec, (samples, spec.rate_hz), AUDIO_LIMITS))
    _, found = java.ask("prepare", {"value": samples}, spec=dump(spec), rate_hz=spec.rate_hz)
    compare(name, wanted, found, 1e-4 if spec.dtype == "float32" else 1.0)


PARTS = (
    "cat", "CATS", "Unaffable", "sitting", "caf\u00e9", "na\u00efve", "\u0130stanbul", "\u03a3\u03a3", "\u4e2d\u6587",
    "\U0001f600", "e\u0301", "\u00a0", "\u2003", "\t", "\n", "\x00", "\ufffd", "\x7f", "\u200d", "...", "a-b",
    "[CLS]", "[MASK]", "[SEP", "##s", "\u0e01\u0e33", "\u1e9e", "x" * 101, "\ud55c\uae00", "\u2019",
    "$5", "\u20ac", "i\u0307", "", " ",
)  # fmt: skip


def same_tokens(case: Any, spec: TextSpec, tokenizer: str, text: str, java: Java) -> bool:
    try:
        encode = text_pipeline.load_encoder(spec, lambda name: tokenizer.encode())
        wanted, _ = text_pipeline.transform(spec, encode, [text_pipeline.decode(spec, text, TEXT_LIMITS)])
    except EdgekitError:
        with pytest.raises(JavaError, match="InputError"):
            java.ask("prepare", spec=dump(spec), tokenizer=tokenizer, text=text)
        return False
    _, found = java.ask("prepare", spec=dump(spec), tokenizer=tokenizer, text=text)
    compare((case, text), wanted, found, 0.0)
    return True


@pytest.mark.parametrize("json_tokenizer", [True, False])
def test_texts(json_tokenizer: bool, java: Java) -> None:
    """Ids, masks and type ids are identical: accents, other scripts, control characters, special tokens, long words."""
    answered = 0
    for seed in range(TEXTS):
        choose = random.Random(seed)
        spec, tokenizer = drawn_text_spec(choose, json_tokenizer), wordpiece(choose)
        text = choose.choice(["", " "]).join(choose.choice(PARTS) for _ in range(choose.randrange(9)))
        answered += same_tokens(seed, spec, tokenizer, text, java)
    assert answered > TEXTS // 2


def test_minilms_own_tokenizer(java: Java, shared: Path) -> None:
    """all-MiniLM's tokenizer.json with its 30,522 tokens: the same ids for English, for other scripts, for noise."""
    tokenizer = (shared / "zoo/minilm-embedding/model/tokenizer.json").read_text("utf-8")
    for seed in range(60):
        choose = random.Random(seed)
        spec = drawn_text_spec(choose, True)
        text = " ".join(choose.choice((*PARTS, "The", "quick", "brown", "fox's", "jumped!")) for _ in range(9))
        same_tokens(seed, spec, tokenizer, text, java)


def test_every_character(java: Java) -> None:
    """Each assigned character alone and between letters gives the same ids, but one that the JVM's Unicode composes."""
    letters = {chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")} - {
        "\U00011938"
    }
    tokens = sorted({t for c in letters if len(t := c.lower()) == 1})[:60000]
    vocabulary = {token: i for i, token in enumerate(["[UNK]", "a", "b", "##b", *(t for t in tokens if t not in "ab")])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    spec = drawn_text_spec(random.Random(0), True).replace(
        lowercase=False, max_length=1 << 16, truncation="error", padding="none", mask=None, type_ids=None
    )
    ordered = sorted(letters)
    for start in range(0, len(ordered), 8000):
        text = " ".join(f"{c} a{c}b" for c in ordered[start : start + 8000])
        assert same_tokens(start, spec, str(tokenizer.to_str()), text, java)


def test_character_classes_are_the_librarys() -> None:
    """BertRanges.java is what its generator makes of the installed tokenizers library."""
    made = make_bert_ranges.java(make_bert_ranges.find())
    assert made == make_bert_ranges.JAVA.read_text("utf-8")
