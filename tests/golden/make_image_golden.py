"""Writes image_processors.json: what transformers' Pillow processors compute for drawn configurations and pictures.

    python -m venv referee && referee/bin/pip install transformers==4.57.6 pillow numpy
    referee/bin/python tests/golden/make_image_golden.py

Each case is a processor's class and configuration, the size and seed of a picture (`picture` draws it), and the
shape and sha256 of the float32 `pixel_values` (and `pixel_mask`, where there is one).
"""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).with_name("image_processors.json")
EACH = 15
SEED = 20240611
MEANS = ([0.485, 0.456, 0.406], [0.5, 0.5, 0.5], [0.48145466, 0.4578275, 0.40821073], [0.0, 0.0, 0.0])
STDS = (
    [0.229, 0.224, 0.225],
    [0.5, 0.5, 0.5],
    [0.26862954, 0.26130258, 0.27577711],
    [0.47853944, 0.4732864, 0.47434163],
)


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """A picture (height, width, 3) with smooth parts, edges and noise, from whole-number arithmetic only."""
    draw = np.random.Generator(np.random.PCG64(seed))
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for _ in range(3):
        a, b, c, d = (int(n) for n in draw.integers(1, 9, 4))
        smooth = (x * a + y * b) % 256
        edges = (((x // (3 + c)) + (y // (3 + d))) % 2) * 255
        noise = draw.integers(0, 256, (height, width))
        planes.append((smooth * 2 + edges + noise) // 4)
    return np.stack(planes, axis=2).astype(np.uint8)


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def draw_config(name: str, draw: random.Random) -> dict[str, Any]:
    """One configuration of a processor, small enough to be quick, over all that its class can vary."""

    def side(low: int = 12, high: int = 96) -> int:
        return draw.randint(low, high)

    def size() -> dict[str, int]:
        return {"height": side(), "width": side()}

    def one_of_both() -> dict[str, int]:
        return {"shortest_edge": side()} if draw.random() < 0.6 else size()

    config: dict[str, Any] = {"resample": draw.choice((0, 1, 2, 2, 3, 3, 4, 5))}
    config["rescale_factor"] = draw.choice((1 / 255, 1 / 255, 1 / 127.5, 0.00392156862745098))
    if name not in ("MobileViT",):
        config["do_normalize"] = draw.random() < 0.9
        config["image_mean"], config["image_std"] = draw.choice(MEANS), draw.choice(STDS)
    if name in ("CLIP", "Bit"):
        config |= {"size": {"shortest_edge": side()}, "crop_size": size(), "do_center_crop": draw.random() < 0.8}
    elif name in ("DeiT", "Beit"):
        config |= {"size": size(), "crop_size": size(), "do_center_crop": draw.random() < 0.8}
    elif name in ("MobileNetV1", "MobileNetV2", "MobileViT", "Levit"):
        config |= {"size": one_of_both(), "crop_size": size(), "do_center_crop": draw.random() < 0.8}
        if name == "MobileViT":
            config["do_flip_channel_order"] = draw.random() < 0.7
    elif name == "EfficientNet":
        config |= {"size": size(), "crop_size": size(), "do_center_crop": draw.random() < 0.5}
        config |= {"rescale_offset": draw.random() < 0.5, "include_top": draw.random() < 0.6}
    elif name == "ConvNext":
        config |= {
            "size": {"shortest_edge": draw.choice((side(), side(), 384))},
            "crop_pct": draw.choice((0.875, 0.9, 0.95)),
        }
    elif name in ("Detr", "Yolos", "RTDetr"):
        short = side(20, 80)
        config["size"] = draw.choice(
            (
                {"shortest_edge": short, "longest_edge": draw.randint(short + 1, 2 * short)},
                {"shortest_edge": short, "longest_edge": draw.randint(short + 1, 2 * short)},
                {"max_height": side(32), "max_width": side(32)},
                {"height": side(), "width": side()},
            )
        )
        config["do_pad"] = draw.random() < 0.7
        if config["do_pad"] and draw.random() < 0.7:
            config["pad_size"] = {"height": draw.randint(160, 200), "width": draw.randint(160, 200)}
    elif name == "DPT":
        config |= {
            "size": size(),
            "keep_aspect_ratio": draw.random() < 0.7,
            "ensure_multiple_of": draw.choice((1, 8, 14, 32)),
        }
        config |= {"do_pad": draw.random() < 0.4, "size_divisor": draw.choice((16, 30))}
    elif name == "Donut":
        config |= {"size": size(), "do_align_long_axis": draw.random() < 0.5}
        config |= {"do_thumbnail": draw.random() < 0.8, "do_pad": draw.random() < 0.8}
    else:  # ViT, Siglip, Segformer, Blip
        config["size"] = size()
    return config


NAMES = [
    "ViT",
    "DeiT",
    "Beit",
    "CLIP",
    "Siglip",
    "ConvNext",
    "EfficientNet",
    "MobileNetV1",
    "MobileNetV2",
    "MobileViT",
    "Levit",
    "Bit",
    "Detr",
    "Yolos",
    "RTDetr",
    "Segformer",
    "DPT",
    "Donut",
    "Blip",
]


def main() -> None:
    import transformers
    from PIL import Image

    draw = random.Random(SEED)
    cases = []
    for name in NAMES:
        made = 0
        while made < (2 * EACH if name in ("Detr", "Yolos", "DPT", "Donut", "CLIP") else EACH):
            config = draw_config(name, draw)
            seed, height, width = draw.randrange(1 << 30), draw.randint(8, 150), draw.randint(8, 150)
            processor = getattr(transformers, f"{name}ImageProcessor")(**config)
            image = Image.fromarray(picture(seed, height, width))
            try:
                given = processor(image, return_tensors="np")
            except ValueError:  # a pad smaller than the picture, a side of no pixels
                continue
            made += 1
            pixels = given["pixel_values"].astype(np.float32)
            case = {"processor": name, "config": config, "picture": [seed, height, width]}
            case |= {"shape": list(pixels.shape), "sha256": digest(pixels)}
            if "pixel_mask" in given:
                case["mask_sha256"] = digest(given["pixel_mask"].astype(np.int64))
            cases.append(case)
    head = {"transformers": transformers.__version__, "pillow": Image.__version__, "numpy": np.__version__}
    lines = ",\n".join(json.dumps(case) for case in cases)
    GOLDEN.write_text(f'{{"made_with": {json.dumps(head)},\n"cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
