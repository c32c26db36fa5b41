"""The peers, made ready to be called; each says what it is when it cannot be had here."""

from __future__ import annotations

import io
from typing import Any

CLIP = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}


def one_thread_torch() -> Any:
    """torch on one thread, with torchvision importable although its compiled part is for another torch.

    The index has torchvision for CUDA only. Its image functions are made of torch's own operators; the two that its
    import looks for are declared and never called.
    """
    import torch

    torch.set_num_threads(1)
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.bench_library = library  # a library that is collected takes its declarations along
    return torch


def clip_torchvision() -> Any:
    """JPEG bytes or array -> tensor by transformers' CLIPImageProcessor on torchvision."""
    one_thread_torch()
    from PIL import Image
    from transformers import CLIPImageProcessor

    processor = CLIPImageProcessor(**CLIP)

    def call(value: Any) -> Any:
        image = Image.open(io.BytesIO(value)) if isinstance(value, bytes) else value
        return processor(image, return_tensors="pt")["pixel_values"].numpy()

    return call


def clip_pillow() -> Any:
    """The same by CLIPImageProcessorPil, which needs no torch."""
    from PIL import Image
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(**CLIP)

    def call(value: Any) -> Any:
        image = Image.open(io.BytesIO(value)) if isinstance(value, bytes) else value
        return processor(image, return_tensors="np")["pixel_values"]

    return call


def whisper(*, torch: bool) -> Any:
    """Samples at 16 kHz -> log-mel by transformers' WhisperFeatureExtractor, with torch or as it is without."""
    one_thread_torch()
    from transformers import WhisperFeatureExtractor
    from transformers.models.whisper import feature_extraction_whisper as module

    extractor = WhisperFeatureExtractor()
    present = module.is_torch_available

    def call(samples: Any) -> Any:
        module.is_torch_available = present if torch else _absent
        try:
            return extractor(samples, sampling_rate=16000, return_tensors="np")["input_features"]
        finally:
            module.is_torch_available = present

    return call


def _absent() -> bool:
    return False
