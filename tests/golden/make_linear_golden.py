"""Writes opencv_linear.npz: OpenCV's resize without antialiasing, for small drawn pictures.

    python -m venv referee && referee/bin/pip install opencv-python-headless numpy
    referee/bin/python tests/golden/make_linear_golden.py

Keys `HEIGHTxWIDTH_HEIGHTxWIDTH` (from, to); the pictures are `picture(7, ...)` of make_image_golden. OpenCV gets
float32 pixels, so that nothing is rounded before the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from make_image_golden import picture

GOLDEN = Path(__file__).with_name("opencv_linear.npz")
SIZES = [((40, 60), (16, 16)), ((31, 17), (9, 30)), ((20, 20), (33, 47)), ((64, 48), (5, 7)), ((9, 5), (9, 11))]


def main() -> None:
    import cv2

    arrays = {}
    for (height, width), (new_height, new_width) in SIZES:
        source = picture(7, height, width).astype(np.float32)
        scaled = cv2.resize(source, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        arrays[f"{height}x{width}_{new_height}x{new_width}"] = scaled
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    main()
