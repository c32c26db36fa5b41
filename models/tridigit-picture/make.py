"""Makes weights/image.tflite and golden/expected.npz from those of tridigit.

    python models/tridigit-picture/make.py

MediaPipe Tasks takes colour pictures only. tridigit's picture is grey = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601,
Pillow's "L"), normalised by one mean and deviation; since the three factors add up to 1, that is the same sum of three
normalised channels, and the first convolution does it when each of its weights is spread by these factors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

HERE = Path(__file__).resolve().parent
TRIDIGIT = HERE.parent / "tridigit"
LUMA = np.array([0.299, 0.587, 0.114])


def main() -> None:
    model: Any = schema.ModelT.InitFromPackedBuf((TRIDIGIT / "weights/image.tflite").read_bytes(), 0)
    graph = model.subgraphs[0]
    (picture,) = graph.inputs
    first = next(op for op in graph.operators if picture in op.inputs)
    pixels, weights = graph.tensors[picture], graph.tensors[first.inputs[1]]
    buffer = model.buffers[weights.buffer]
    grey = np.frombuffer(bytes(buffer.data), np.float32).reshape(weights.shape)
    colour = (grey.astype(np.float64) * LUMA).astype(np.float32)
    buffer.data, weights.shape = np.frombuffer(colour.tobytes(), np.uint8), np.array(colour.shape, np.int32)
    pixels.shape = np.array([*pixels.shape[:3], 3], np.int32)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    (HERE / "weights/image.tflite").write_bytes(builder.Output())
    with np.load(TRIDIGIT / "golden/expected.npz") as expected:
        pictures = np.repeat(expected["pixel_values"], 3, axis=1)
        np.savez(HERE / "golden/expected.npz", pixel_values=pictures, image_embeds=expected["image_embeds"])


if __name__ == "__main__":
    main()
