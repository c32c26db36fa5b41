"""Specs and values drawn from their whole space, for comparisons with another implementation; seeded by the caller."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import tokenizers
from audio_specs import audio, length, spectrum
from image_specs import CLIP_MEAN, CLIP_STD, FILTERS, crop, image_spec, pad, resize

from edgekit.specs.audio import AudioSpec, Resample, Windows
from edgekit.specs.image import Align, ImageSpec
from edgekit.specs.tensor import Quantization
from edgekit.specs.text import CharacterCodes, TextSpec, TokenizerFile

WORDS = ["a", "the", "cat", "sat", "##s", "##ing", "un", "##aff", "##able", "ca", "##t", "##e", "##i", "!", "?"]


def quantization(choose: random.Random, dtype: str, scales: tuple[float, ...]) -> Quantization:
    zero_point = {"uint8": 128, "int8": choose.choice([-128, 0, 3]), "int16": 0}[dtype]
    rounding: Any = choose.choice(["nearest_even", "nearest_away", "trunc"])
    return Quantization(scale=choose.choice(scales), zero_point=zero_point, rounding=rounding)


def drawn_image_spec(choose: random.Random) -> ImageSpec:
    """A spec of the whole space: every value of every field comes up."""
    arithmetic = choose.choice(["pillow", "pillow", "pillow_fused", "pillow_matrix", "matrix"])
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
