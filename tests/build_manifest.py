"""A complete, valid manifest with every kind of input, and the bytes of its files; other tests start from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from edgekit.bundle import write_bundle
from edgekit.manifest import (
    FORMAT,
    Constant,
    ExpectedTensor,
    FileFact,
    GoldenSample,
    GraphSpec,
    Limits,
    Manifest,
    RunSettings,
    State,
)
from edgekit.specs.audio import AudioSpec, Length, Resample, Spectrum, Windows
from edgekit.specs.image import Crop, ImageSpec, Pad, Resize
from edgekit.specs.post import EmbeddingSource, Pooling, Similarity
from edgekit.specs.tensor import Port, Quantization, TensorInput
from edgekit.specs.text import TextSpec, TokenizerFile

QUANTIZATION = Quantization(scale=0.0078125, zero_point=-1, rounding="nearest_even")


def build_files(seed: int = 0) -> dict[str, bytes]:
    """The files of the bundle, about 3 KB; the graphs are random bytes."""
    random = Random(seed)
    return {
        "audio.tflite": random.randbytes(300),
        "golden/audio.bin": random.randbytes(24),
        "golden/picture.bin": random.randbytes(40),
        "image.onnx": random.randbytes(500),
        "image.onnx.data": random.randbytes(700),
        "labels.txt": b"cat\ndog\n",
        "text/tokenizer.json": b"{}",
    }


def build_manifest(files: Mapping[str, bytes] | None = None, **changes: Any) -> Manifest:
    """A manifest over `files`; `changes` replace its top-level keys."""
    facts = {
        name: FileFact(size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in (build_files() if files is None else files).items()
    }
    fields: dict[str, Any] = {
        "format": FORMAT,
        "name": "everything",
        "version": "1.2.0",
        "task": "zero-shot-image-classification",
        "license": "Apache-2.0",
        "source": "made for tests",
        "inputs": {"image": _image(), "audio": _audio(), "text": _text(), "extra": _tensor()},
        "graphs": (_image_graph(), _audio_graph()),
        "postprocess": _postprocess(),
        "generation": None,
        "golden": (_golden(),),
        "limits": Limits(
            pixels=50_000_000,
            image_bytes=1 << 26,
            audio_seconds=600.0,
            audio_bytes=1 << 26,
            audio_channels=8,
            text_bytes=1 << 20,
            candidates=1000,
        ),
        "target": "linux-x86_64",
        "run": RunSettings(threads=2, spinning=False, providers=("CPUExecutionProvider",), fallback=True),
        "requires": {"onnxruntime": ">=1.18"},
        "files": facts,
    }
    return Manifest(**{**fields, **changes})


def build_bundle(path: Path, files: Mapping[str, bytes] | None = None, **changes: Any) -> Manifest:
    """Write a bundle file and return its manifest."""
    contents = build_files() if files is None else files
    manifest = build_manifest(contents, **changes)
    write_bundle(path, manifest, lambda name: BytesIO(contents[name]))
    return manifest


def _image() -> ImageSpec:
    return ImageSpec(
        kind="image",
        value="pixels",
        mask="pixel_mask",
        decode="exact",
        orientation="exif",
        alpha="white",
        colour="rgb",
        steps=(
            Resize(
                step="resize",
                mode="shortest_edge",
                height=224,
                width=224,
                longest=0,
                multiple_of=1,
                rounding="floor",
                shrink_only=False,
                filter="bicubic",
                antialias=True,
                coordinates="half_pixel",
                arithmetic="pillow",
            ),
            Crop(step="crop", height=224, width=224, fraction=0.0, rounding="floor", fill=0.0),
            Pad(
                step="pad",
                to="size",
                height=224,
                width=224,
                multiple_of=1,
                position="center",
                fill=(0.0, 0.0, 0.0),
                stage="pixels",
            ),
        ),
        scale=0.00392156862745098,
        offset=0.0,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        layout="nchw",
        dtype="uint8",
        quantization=QUANTIZATION,
    )


def _audio() -> AudioSpec:
    return AudioSpec(
        kind="audio",
        value="mel",
        mask="mel_mask",
        rate_hz=16000,
        downmix="mean",
        resample=Resample(zeros=24, rolloff=0.95, beta=14.77),
        amplitude="unit",
        windows=Windows(samples=16000, hop=8000, lead=64, tail="fill"),
        length=Length(samples=16000, pad="zero", trim="right"),
        normalize="none",
        epsilon=1e-07,
        features=Spectrum(
            type="kaldi",
            frame_length=400,
            hop_length=160,
            fft_length=512,
            center="none",
            remove_dc=True,
            preemphasis=0.97,
            window="povey",
            power=2.0,
            drop_last=False,
            bands=80,
            low_hz=20.0,
            high_hz=8000.0,
            mel_scale="kaldi",
            mel_norm="none",
            triangles="hz",
            log="ln",
            floor_mode="clamp",
            floor=1.1920928955078125e-07,
            dynamic_range=0.0,
            cepstra=0,
            dct_norm="none",
            frames=98,
            frame_pad=0.0,
            offset=0.0,
            divisor=1.0,
        ),
        layout="frames_bands",
        shape=(1, -1, 80),
        dtype="int8",
        quantization=QUANTIZATION,
        streamable=True,
    )


def _text() -> TextSpec:
    return TextSpec(
        kind="text",
        ids="input_ids",
        mask="attention_mask",
        type_ids="token_type_ids",
        tokenizer=TokenizerFile(type="tokenizer_json", file="text/tokenizer.json", add_special_tokens=True),
        lowercase=True,
        max_length=77,
        truncation="right",
        padding="max_length",
        pad_side="right",
        pad_id=0,
        dtype="int64",
    )


def _tensor() -> TensorInput:
    return TensorInput(kind="tensor", value="extra", datatype="FP32", shape=(1, 4))


def _port(name: str, value: str, datatype: Any, shape: tuple[int, ...]) -> Port:
    quantization = QUANTIZATION if datatype in ("UINT8", "INT8") else None
    return Port(name=name, value=value, datatype=datatype, shape=shape, quantization=quantization)


def _image_graph() -> GraphSpec:
    return GraphSpec(
        name="image",
        file="image.onnx",
        data="image.onnx.data",
        runtime="onnxruntime",
        role="image",
        precision="int8",
        inputs=(_port("pixel_values", "pixels", "UINT8", (1, 3, 224, 224)),),
        outputs=(_port("image_embeds", "image_embedding", "FP32", (1, 64)),),
        state=(State(input="h", output="hn", init="zeros"),),
        constants=(Constant(name="sr", datatype="INT64", shape=(1,), data=(16000.0,)),),
    )


def _audio_graph() -> GraphSpec:
    return GraphSpec(
        name="audio",
        file="audio.tflite",
        data=None,
        runtime="litert",
        role="audio",
        precision="int8",
        inputs=(_port("mel", "mel", "INT8", (1, -1, 80)),),
        outputs=(_port("embedding", "audio_embedding", "FP32", (1, 64)),),
        state=(),
        constants=(),
    )


def _postprocess() -> Similarity:
    return Similarity(
        task="similarity",
        sources={
            "image": EmbeddingSource(value="image_embedding", pooling=None),
            "audio": EmbeddingSource(value="audio_embedding", pooling=None),
            "text": EmbeddingSource(value="text_states", pooling=Pooling(mode="mean", mask="attention_mask")),
        },
        scale=100.0,
        bias=-10.0,
        activation="softmax",
        template="a photo of a {}",
    )


def _golden() -> GoldenSample:
    return GoldenSample(
        name="cat",
        truth="external",
        origin="written by hand",
        inputs=({"image": {"file": "golden/picture.bin"}, "text": {"texts": ["a cat", "a dog"]}},),
        tensors=(
            ExpectedTensor(
                value="pixels",
                stage="preprocess",
                datatype="FP32",
                shape=(1, 3, 224, 224),
                file="golden/audio.bin",
                indices_seed=7,
                count=6,
                mean=0.5,
                deviation=0.25,
                tolerance=1e-06,
            ),
        ),
        result={"label": "cat", "scores": {"cat": 0.75, "dog": 0.25}},
        tolerance=0.05,
    )
