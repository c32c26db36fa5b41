"""Writes hub.json and hub.npz: what transformers makes of hub configs, tokens and model outputs.

    python -m venv referee && referee/bin/pip install transformers==4.57.6 torch==2.13.0 pillow numpy
    referee/bin/python tests/golden/make_hub_golden.py

images: a config as a folder may hold it (keys left out, older forms), a drawn picture, and the sha256 of the float32
`pixel_values` of the Pillow processor. sounds: a config, and the features of a drawn sound (every k-th number).
tasks: drawn outputs of models and what transformers' own post-processing gives for them.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from make_image_golden import NAMES, digest, draw_config, picture

HERE = Path(__file__).parent
MORE = ["ChineseCLIP", "ConditionalDetr", "Deta", "GroundingDino", "OwlViT", "PoolFormer", "Pvt", "DeformableDetr"]
LEGACY: list[tuple[str, dict[str, Any]]] = [
    ("ViT", {"size": 48}),
    ("ViT", {"size": [40, 56], "do_convert_rgb": None}),
    ("ViT", {"feature_extractor_type": "ViTFeatureExtractor", "size": 32, "image_mean": [0.1, 0.2, 0.3]}),
    ("CLIP", {"size": 48, "crop_size": 40, "do_convert_rgb": True}),
    ("CLIP", {"size": {"height": 40, "width": 60}, "do_center_crop": False}),
    ("ConvNext", {"size": 64, "crop_pct": 0.9}),
    ("ConvNext", {"size": {"shortest_edge": 384}}),
    ("Detr", {"size": 60, "max_size": 90, "format": "coco_detection"}),
    ("Detr", {"size": 60}),
    ("Yolos", {"size": {"shortest_edge": 60, "longest_edge": 100}, "do_pad": True, "pad_size": None}),
    ("RTDetr", {"size": {"height": 64, "width": 80}, "do_resize": True}),
    ("Segformer", {"size": 64, "reduce_labels": True}),
    ("DPT", {"size": 56, "keep_aspect_ratio": True, "ensure_multiple_of": 14}),
    ("Donut", {"size": [60, 80]}),
    ("Donut", {"size": {"height": 80, "width": 60}, "do_align_long_axis": True}),
    ("Levit", {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}),
    ("MobileViT", {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}),
    ("EfficientNet", {"size": {"height": 60, "width": 60}, "include_top": False, "do_rescale": True}),
    ("EfficientNet", {"size": 60, "do_rescale": False}),
    ("Bit", {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}, "do_normalize": False}),
    ("PoolFormer", {"size": {"shortest_edge": 56}, "crop_pct": 0.95, "crop_size": {"height": 56, "width": 56}}),
    ("Beit", {"size": {"height": 60, "width": 60}, "do_center_crop": False, "do_rescale": False}),
    ("Siglip", {"size": {"height": 56, "width": 56}, "do_resize": False}),
]


def images() -> list[dict[str, Any]]:
    import transformers

    draw = random.Random(71)
    wanted: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in (*NAMES, *MORE)]
    for name in (*NAMES, *MORE):
        for _ in range(5):
            config = draw_config(name, draw)
            wanted.append((name, {k: v for k, v in config.items() if draw.random() < 0.6 or k == "size"}))
    cases = []
    for name, config in (*wanted, *LEGACY):
        seed, height, width = draw.randrange(1 << 30), draw.randint(24, 150), draw.randint(24, 150)
        given = {"image_processor_type": f"{name}ImageProcessor", **config}
        if "feature_extractor_type" in config:
            del given["image_processor_type"]
        if name == "DeformableDetr":  # its slow class needs torch only for what comes after the graph
            given["image_processor_type"] = "DeformableDetrImageProcessor"
        processor = getattr(transformers, f"{name}ImageProcessor").from_dict(dict(given))
        try:
            made = processor(picture_of(seed, height, width), return_tensors="np")
        except (ValueError, KeyError, TypeError):  # what its own class cannot do: a pad too small, a size unread
            continue
        pixels = np.asarray(made["pixel_values"], np.float32)
        case = {
            "config": given,
            "picture": [seed, height, width],
            "shape": list(pixels.shape),
            "sha256": digest(pixels),
        }
        if "pixel_mask" in made:
            case["mask_sha256"] = digest(np.asarray(made["pixel_mask"]).astype(np.int64))
        cases.append(case)
    return cases


def make_clip() -> np.ndarray:
    """1.3 s int16 at 16 kHz: a sweep, a steady tone and noise, then 0.2 s of digital silence."""
    draw = np.random.default_rng(11)
    seconds = np.arange(17600) / 16000
    sound = 0.4 * np.sin(2 * np.pi * (150 * seconds + 2500 * seconds**2)) + 0.1 * np.sin(2 * np.pi * 523 * seconds)
    sound += 0.01 * draw.standard_normal(len(seconds)) + 0.01
    return np.concatenate([np.round(sound * 32767).astype(np.int16), np.zeros(3200, np.int16)])


def picture_of(seed: int, height: int, width: int) -> Any:
    from PIL import Image

    return Image.fromarray(picture(seed, height, width))


SOUNDS: list[tuple[str, dict[str, Any]]] = [
    ("Whisper", {"chunk_length": 2}),
    ("Whisper", {"feature_size": 128, "chunk_length": 1, "hop_length": 160, "n_fft": 400, "dither": 0.0}),
    ("Wav2Vec2", {}),
    ("Wav2Vec2", {"do_normalize": False, "return_attention_mask": True}),
    ("Wav2Vec2", {"sampling_rate": 16000, "feature_size": 1, "do_normalize": True, "padding_side": "right"}),
    ("AST", {"max_length": 64}),
    ("AST", {"max_length": 200, "num_mel_bins": 64, "mean": -3.0, "std": 2.5}),
    ("AST", {"max_length": 100, "do_normalize": False}),
    ("Clap", {"truncation": "rand_trunc", "max_length_s": 4, "sampling_rate": 16000, "frequency_max": 8000}),
    ("Clap", {"truncation": "rand_trunc", "max_length_s": 4, "sampling_rate": 16000, "frequency_max": 7000,
              "padding": "repeat"}),
    ("Clap", {"truncation": "rand_trunc", "max_length_s": 3, "sampling_rate": 16000, "frequency_max": 8000,
              "padding": "pad", "feature_size": 32, "frequency_min": 50}),
]  # fmt: skip


def sounds(arrays: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    import transformers

    samples = make_clip()
    unit = (samples / 32768.0).astype(np.float32)
    arrays["clip"] = samples
    cases = []
    for index, (name, config) in enumerate(SOUNDS):
        extractor = getattr(transformers, f"{name}FeatureExtractor")(**config)
        made = extractor(unit, sampling_rate=16000, return_tensors="np")
        key = next(k for k in ("input_features", "input_values") if k in made)
        features = np.asarray(made[key], np.float32)
        step = max(1, features.size // 2000)
        arrays[f"sound_{index}"] = features.reshape(-1)[::step]
        given = {"feature_extractor_type": f"{name}FeatureExtractor", **config}
        cases.append({"config": given, "input": key, "shape": list(features.shape), "step": step})
    return cases


def tasks(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch
    import transformers

    random_state = np.random.RandomState(3)
    found: dict[str, Any] = {"detection": [], "entities": []}
    logits = (random_state.standard_normal((1, 12, 5)) * 3).astype(np.float32)
    boxes = random_state.uniform(0.05, 0.9, (1, 12, 4)).astype(np.float32)
    arrays["detection_logits"], arrays["detection_boxes"] = logits, boxes
    output = SimpleNamespace(logits=torch.from_numpy(logits), pred_boxes=torch.from_numpy(boxes))
    names = {"detr": "Detr", "yolos": "Yolos", "rt_detr": "RTDetr", "conditional_detr": "ConditionalDetr"}
    for model_type, name in {**names, "deformable_detr": "DeformableDetr"}.items():
        processor = getattr(transformers, f"{name}ImageProcessor")
        made = processor.post_process_object_detection(
            processor.__new__(processor), output, threshold=0.2, target_sizes=[(123, 321)]
        )[0]
        found["detection"].append({"model_type": model_type, **{k: v.tolist() for k, v in made.items()}})
    segments = random_state.standard_normal((1, 7, 9, 11)).astype(np.float32)
    made = transformers.SegformerImageProcessor().post_process_semantic_segmentation(
        SimpleNamespace(logits=torch.from_numpy(segments)), target_sizes=[(50, 61)]
    )[0]
    arrays["segmentation_logits"], arrays["segmentation_mask"] = segments, made.numpy().astype(np.uint8)
    depth = random_state.uniform(0, 10, (1, 14, 21)).astype(np.float32)
    made = transformers.DPTImageProcessor().post_process_depth_estimation(
        SimpleNamespace(predicted_depth=torch.from_numpy(depth)), target_sizes=[(33, 52)]
    )[0]["predicted_depth"]
    arrays["depth"], arrays["depth_resized"] = depth, made.numpy()
    found["entities"] = entities(random_state)
    return found


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "wolf", "##gang", "lives", "in", "ber", "##lin", "and", "works",
              "for", "sie", "##mens", ".", ",", "new", "york", "##ers"]  # fmt: skip
SENTENCES = [
    "Wolfgang lives in Berlin and works for Siemens.",
    "New Yorkers, Berlin",
    "wolfgang zzz berlin",
    "lives in",
]
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "MISC"]


def tokenizer_document() -> dict[str, Any]:
    """A WordPiece tokenizer.json over VOCABULARY."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = decoders.WordPiece()
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


def entities(random_state: Any) -> list[dict[str, Any]]:
    """TokenClassificationPipeline's own grouping, run on drawn logits."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast
    from transformers.pipelines.token_classification import AggregationStrategy, TokenClassificationPipeline

    backend = Tokenizer.from_str(json.dumps(tokenizer_document()))
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **{f"{k}_token": v for k, v in names.items()})
    pipeline = TokenClassificationPipeline.__new__(TokenClassificationPipeline)
    pipeline.tokenizer, pipeline.framework = tokenizer, "np"
    pipeline.model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate(LABELS))))
    cases = []
    for sentence in SENTENCES:
        encoded = tokenizer(sentence, return_offsets_mapping=True, return_special_tokens_mask=True)
        logits = (random_state.standard_normal((len(encoded["input_ids"]), len(LABELS))) * 2).astype(np.float32)
        scores = np.exp(logits - logits.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        case = {"text": sentence, "ids": encoded["input_ids"], "logits": logits.tolist()}
        for strategy in AggregationStrategy:
            if strategy == AggregationStrategy.NONE:
                continue
            pieces = pipeline.gather_pre_entities(
                sentence, np.array(encoded["input_ids"]), scores, encoded["offset_mapping"],
                np.array(encoded["special_tokens_mask"]), strategy,
            )  # fmt: skip
            groups = pipeline.aggregate(pieces, strategy)
            kept = [g for g in groups if g["entity_group"] != "O"]
            case[strategy.value] = [{k: v.item() if hasattr(v, "item") else v for k, v in g.items()} for g in kept]
        cases.append(case)
    return cases


def main() -> None:
    import PIL
    import torch
    import transformers

    arrays: dict[str, np.ndarray] = {}
    document = {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__, "pillow": PIL.__version__},
        "images": images(),
        "sounds": sounds(arrays),
        "tasks": tasks(arrays),
        "tokenizer": tokenizer_document(),
        "labels": LABELS,
    }
    (HERE / "hub.json").write_text(json.dumps(document, separators=(",", ":")) + "\n")
    np.savez_compressed(HERE / "hub.npz", **arrays)


if __name__ == "__main__":
    main()
