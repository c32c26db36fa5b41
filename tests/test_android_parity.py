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
from audio_specs import audio, length, spectrum
from golden import make_bert_ranges
from image_specs import CLIP_MEAN, CLIP_STD, FILTERS, LIMITS, crop, image_spec, pad, resize
from jvm_bridge import Java, JavaError, start_java
from PIL import __version__ as pillow_version

from edgekit.errors import EdgekitError
from edgekit.preprocess import audio as audio_pipeline
from edgekit.preprocess import image, picture, sound
from edgekit.preprocess import text as text_pipeline
from edgekit.preprocess.frame import Frame
from edgekit.records import dump
from edgekit.specs.audio import AudioSpec, Resample, Windows
from edgekit.specs.image import Align, ImageSpec
from edgekit.specs.tensor import Quantization
from edgekit.specs.text import CharacterCodes, TextSpec, TokenizerFile

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


def quantization(choose: random.Random, dtype: str, scales: tuple[float, ...]) -> Quantization:
    zero_point = {"uint8": 128, "int8": choose.choice([-128, 0, 3]), "int16": 0}[dtype]
    rounding: Any = choose.choice(["nearest_even", "nearest_away", "trunc"])
    return Quantization(scale=choose.choice(scales), zero_point=zero_point, rounding=rounding)


def drawn_image_spec(choose: random.Random) -> ImageSpec:
    """A spec of the whole space: every value of every field comes up."""
    arithmetic = choose.choice(["pillow", "pillow", "pillow_fused", "matrix"])
    filter_name, antialias = choose.choice(FILTERS), arithmetic != "matrix" or choose.random() < 0.5
    asymmetric = filter_name == "bilinear" and not antialias and choose.random() < 0.5
    mode = choose.choice(["stretch", "shortest_edge", "longest_edge", "fit", "cover", "least_change", "thumbnail"])
    height = choose.choice([7, 28, 64, 100, 224])
    width = height if mode in ("shortest_edge", "longest_edge") else choose.choice([7, 28, 64, 100, 224])
    steps: list[Any] = [
        resize(
            mode,
            height,
            width,
            filter=filter_name,
            arithmetic=arithmetic,
            antialias=antialias,
            coordinates="asymmetric" if asymmetric else "half_pixel",
            rounding=choose.choice(["floor", "nearest_even", "nearest_away", "ceil"]),
            multiple_of=choose.choice([1, 1, 8]),
            shrink_only=choose.random() < 0.2,
            longest=choose.choice([0, 2 * height]) if mode == "shortest_edge" else 0,
        )
    ]
    colour = choose.choice(["rgb", "bgr", "grey"])
    channels = 1 if colour == "grey" else 3
    if choose.random() < 0.5:
        sides = choose.choice([20, 50, 64]), choose.choice([20, 50, 64])
        steps.append(crop(*sides, rounding=choose.choice(["floor", "nearest_even"]), fill=choose.choice([0.0, 7.0])))
    elif choose.random() < 0.3:
        steps.append(crop(0, 0, fraction=0.875))
    if choose.random() < 0.5:
        where = {"position": choose.choice(["center", "top_left"]), "stage": choose.choice(["pixels", "normalized"])}
        to = choose.choice(["square", "multiple", "size"])
        sides = (256, 288) if to == "size" else (0, 0)
        multiple = 32 if to == "multiple" else 1
        steps.append(pad(to, *sides, multiple_of=multiple, fill=(3.0, 4.0, 5.0)[:channels], **where))
    if choose.random() < 0.1:
        steps.insert(0, Align(step="align_long_axis", height=10, width=20))
    dtype = choose.choice(["float32", "float32", "uint8", "int8"])
    return image_spec(
        *steps,
        colour=colour,
        mean=CLIP_MEAN[:channels],
        std=CLIP_STD[:channels] * choose.choice([1, 1, 2]),
        offset=choose.choice([0.0, -1.0]),
        layout=choose.choice(["nchw", "nhwc"]),
        dtype=dtype,
        quantization=None if dtype == "float32" else quantization(choose, dtype, (1 / 128, 0.02)),
        mask=choose.choice([None, "mask"]),
        alpha=choose.choice(["drop", "white", "black"]),
        orientation=choose.choice(["exif", "ignore"]),
    )


def drawn_picture(choose: random.Random) -> np.ndarray:
    sides = choose.choice([1, 9, 33, 100, 250, 400]), choose.choice([1, 9, 33, 100, 250, 400])
    channels = choose.choice([1, 3, 3, 4])
    noise = np.random.default_rng(choose.randrange(1 << 30)).integers(0, 256, (*sides, channels), np.uint8)
    if choose.random() < 0.5:
        return noise
    y, x = np.mgrid[0 : sides[0], 0 : sides[1]]
    smooth = np.stack([x * 255 // sides[1], y * 255 // sides[0], (x + y) % 256], 2).astype(np.uint8)
    noise[:, :, : min(channels, 3)] = smooth[:, :, :channels]
    return noise


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


def drawn_audio_spec(choose: random.Random) -> AudioSpec:
    rate_hz = choose.choice([8000, 16000, 22050])
    features = drawn_spectrum(choose, rate_hz) if choose.random() < 0.8 else None
    layout = choose.choice(["frames_bands", "bands_frames"]) if features else "samples"
    windows = None
    if choose.random() < 0.25:
        samples = choose.choice([4000, 6000])
        tail: Any = choose.choice(["fill", "drop"])
        windows = Windows(
            samples=samples, hop=choose.choice([samples, samples // 2]), lead=choose.choice([0, 500]), tail=tail
        )
    fixed = None
    if choose.random() < 0.6:
        pads, trims = ["zero", "repeat", "wrap", "none"], ["right", "center", "none"]
        fixed = length(choose.choice([3000, 8000, 20000]), pad=choose.choice(pads), trim=choose.choice(trims))
    dtype = choose.choice(["float32", "float32", "float32", "int8", "uint8", "int16"])
    whole = None if dtype == "float32" else quantization(choose, dtype, (0.05, 0.2))
    if dtype == "int16" and choose.random() < 0.5:
        whole = None
    width = (features.cepstra or features.bands or features.fft_length // 2 + 1) if features else 0
    shapes = {"samples": (1, -1), "frames_bands": (1, -1, width), "bands_frames": (1, width, -1)}
    return audio(
        rate_hz=rate_hz,
        downmix=choose.choice(["mean", "first"]),
        resample=Resample(
            zeros=choose.choice([8, 32]), rolloff=choose.choice([0.9, 0.965]), beta=choose.choice([0.0, 8.0])
        ),
        amplitude=choose.choice(["unit", "unit", "int16"]),
        windows=windows,
        length=fixed,
        normalize=choose.choice(["none", "none", "zero_mean_unit_variance", "peak"]),
        epsilon=1e-7,
        features=features,
        layout=layout,
        shape=(-1, *shapes[layout][1:]) if windows and -1 not in shapes[layout][1:] else shapes[layout],
        dtype=dtype,
        quantization=whole,
        mask=choose.choice([None, "mask"]),
    )


def drawn_spectrum(choose: random.Random, rate_hz: int) -> Any:
    kind = choose.choice(["whisper", "kaldi", "mel", "mfcc"])
    frame_length = choose.choice([200, 256, 400])
    bands = choose.choice([20, 40, 80]) if kind == "mfcc" or choose.random() < 0.9 else 0
    log = choose.choice(["none", "ln", "log10", "db"])
    return spectrum(
        type=kind,
        frame_length=frame_length,
        hop_length=choose.choice([80, 128, 160]),
        fft_length=choose.choice([frame_length, 400, 441, 512, 600]),
        center=choose.choice(["none", "reflect", "zero"]),
        remove_dc=choose.random() < 0.4,
        preemphasis=choose.choice([0.0, 0.97]),
        window=choose.choice(["hann", "hann_symmetric", "hamming", "hamming_symmetric", "povey", "rectangular"]),
        power=choose.choice([1.0, 2.0, 2.0, 1.5]),
        drop_last=choose.random() < 0.3,
        bands=bands,
        low_hz=choose.choice([0.0, 20.0]),
        high_hz=choose.choice([3300.0, 3300.0, rate_hz / 2]),
        mel_scale=choose.choice(["htk", "slaney", "kaldi"]),
        mel_norm=choose.choice(["none", "slaney"]),
        triangles=choose.choice(["hz", "mel"]),
        floor_mode=choose.choice(["add", "clamp"]),
        floor=choose.choice([1e-10, 1.1920928955078125e-07, 1e-6]),
        log=log,
        dynamic_range=choose.choice([0.0, 0.0, 8.0]),
        cepstra=choose.choice([10, 13]) if kind == "mfcc" else 0,
        dct_norm=choose.choice(["none", "ortho", "tensorflow"]),
        frames=choose.choice([0, 0, 61, 100]),
        frame_pad=choose.choice([0.0, -1.0]),
        offset=choose.choice([0.0, -4.0]),
        divisor=choose.choice([1.0, 4.0]),
    )


def drawn_sound(choose: random.Random, spec: AudioSpec) -> tuple[np.ndarray, int]:
    """A gliding tone over noise. Beyond what a rate carries, a resampled sound holds nothing but float32's rounding,
    whose logarithm nobody reproduces: features that look there get a sound of their own rate."""
    rate_hz = choose.choice([8000, 11025, 16000, 44100, 48000])
    features = spec.features
    if features is not None and features.log != "none" and (features.bands == 0 or features.high_hz > 3300.0):
        rate_hz = spec.rate_hz
    count = choose.choice([1, 700, 5000, 20000])
    random_numbers = np.random.default_rng(choose.randrange(1 << 30))
    t = np.arange(count) / rate_hz
    tone = 0.4 * np.sin(2 * np.pi * (200 + 900 * t) * t) * (0.5 + 0.5 * np.sin(9 * t))
    channels = choose.choice([1, 1, 2, 3])
    samples = tone[:, None] + 0.02 * random_numbers.standard_normal((count, channels))
    if choose.random() < 0.1:
        samples[:] = 0.0
    if choose.random() < 0.5:
        return (samples * 32767).astype(np.int16), rate_hz
    return samples.astype(np.float32), rate_hz


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


WORDS = ["a", "the", "cat", "sat", "##s", "##ing", "un", "##aff", "##able", "ca", "##t", "##e", "##i", "!", "?"]
PARTS = (
    "cat", "CATS", "Unaffable", "sitting", "caf\u00e9", "na\u00efve", "\u0130stanbul", "\u03a3\u03a3", "\u4e2d\u6587",
    "\U0001f600", "e\u0301", "\u00a0", "\u2003", "\t", "\n", "\x00", "\ufffd", "\x7f", "\u200d", "...", "a-b",
    "[CLS]", "[MASK]", "[SEP", "##s", "\u0e01\u0e33", "\u1e9e", "x" * 101, "\ud55c\uae00", "\u2019",
    "$5", "\u20ac", "i\u0307", "", " ",
)  # fmt: skip


def wordpiece(choose: random.Random) -> str:
    """A tokenizer.json with a small vocabulary and some of the choices that the format leaves."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(c) for c in range(97, 123)]
    vocabulary = dict.fromkeys([*specials, *WORDS, *letters, *(f"##{c}" for c in letters), "\u4e2d", "$", ".", "-"])
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            {token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]", max_input_chars_per_word=100
        )
    )
    if choose.random() < 0.9:
        tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(
            clean_text=choose.random() < 0.8,
            handle_chinese_chars=choose.random() < 0.8,
            strip_accents=choose.choice([None, True, False]),
            lowercase=choose.random() < 0.7,
        )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    kind = choose.choice(["template", "bert", "none"])
    if kind == "bert":
        tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    elif kind == "template":
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS]:0 $A:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    tokenizer.add_special_tokens(specials)
    return str(tokenizer.to_str())


def drawn_text_spec(choose: random.Random, json_tokenizer: bool) -> TextSpec:
    kind: Any = TokenizerFile(type="tokenizer_json", file="tokenizer.json", add_special_tokens=choose.random() < 0.8)
    if not json_tokenizer:
        kind = CharacterCodes(
            type="characters", alphabet="abc\u00e9\U0001f600 tsin", unknown_id=choose.choice([-1, 0, 99])
        )
    truncation: Any = choose.choice(["right", "left", "error"])
    padding: Any = choose.choice(["max_length", "longest", "none"])
    side: Any = choose.choice(["right", "left"])
    dtype: Any = choose.choice(["int64", "int32"])
    return TextSpec(
        kind="text",
        ids="ids",
        mask=choose.choice([None, "mask"]),
        type_ids=choose.choice([None, "types"]),
        tokenizer=kind,
        lowercase=choose.random() < 0.5,
        max_length=choose.choice([4, 8, 32]),
        truncation=truncation,
        padding=padding,
        pad_side=side,
        pad_id=choose.choice([0, 7]),
        dtype=dtype,
    )


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
