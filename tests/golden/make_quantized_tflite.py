"""Makes quantized_tflite.json: tridigit's text tower quantised by ai-edge-quantizer 0.10, base64, with its truth.

    pip install ai-edge-quantizer==0.10.0
    python tests/golden/make_quantized_tflite.py

The truth is what the quantiser was asked for, and what LiteRT's own interpreter says of each constant.
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "models" / "tridigit" / "weights" / "text.tflite"
ASKED = {
    "dynamic_wi8_afp32": ("dynamic", 8),
    "dynamic_wi4_afp32": ("dynamic", 4),
    "dynamic_wi2c_afp32": ("dynamic", 2),
    "weight_only_wi8_afp32": ("weight-only", 8),
    "weight_only_wi4_afp32": ("weight-only", 4),
    "static_wi8_ai8": ("integer", 8),
    "dynamic_wi4b32_afp32": ("dynamic", 4),
}


def make(name: str) -> bytes:
    """The tower quantised by this recipe of the quantiser."""
    made = quantizer.Quantizer(str(SOURCE), getattr(recipe, name)())
    calibration = None
    if made.need_calibration:
        rows = np.random.default_rng(0).integers(0, 38, (16, 1, 8)).astype(np.int32)
        signature = next(iter(Interpreter(str(SOURCE)).get_signature_list()))
        calibration = made.calibrate({signature: [{"input_ids": row} for row in rows]})
    return bytes(made.quantize(calibration).quantized_model)


def truth(data: bytes) -> dict[str, object]:
    """Of each matrix: its datatype, the number of its scales and how many of its numbers are zero."""
    interpreter = Interpreter(model_content=data, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    found = {}
    for detail in interpreter.get_tensor_details():
        if (
            len(detail["shape"]) == 2
            and np.prod(detail["shape"]) >= 256
            and len(detail["quantization_parameters"]["scales"])
        ):
            found[detail["name"]] = {
                "shape": [int(n) for n in detail["shape"]],
                "scales": len(detail["quantization_parameters"]["scales"]),
            }
    return found


def main() -> None:
    document = {}
    for name, (scheme, bits) in ASKED.items():
        data = make(name)
        packed = base64.b64encode(zlib.compress(data, 9)).decode()
        document[name] = {"scheme": scheme, "bits": bits, "matrices": truth(data), "deflated_base64": packed}
        print(name, len(data), document[name]["matrices"])
    path = Path(__file__).with_name("quantized_tflite.json")
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
