"""TFLite bundles on whichever interpreter is installed: ai-edge-litert, or tflite-runtime 2.14 with numpy 1."""

from __future__ import annotations

from pathlib import Path

import pytest
from packing import SEVEN_PNG, SEVEN_WAV, TRIDIGIT, WORDS, pack

from edgekit.predictor import load
from edgekit.runtimes.loading import installed


@pytest.mark.parametrize("variant", ["tflite-fp32", "tflite-fp16", "tflite-int8"])
def test_tridigit_answers_on_a_tflite_interpreter_alone(variant: str, tmp_path: Path) -> None:
    """Packaged against the external truth and predicting on all three inputs, whole numbers in and out for int8."""
    assert {"ai-edge-litert", "tflite-runtime"} & set(installed())
    manifest = pack(TRIDIGIT / "recipe.toml", tmp_path / "t.edgekit", variant)
    assert {g.runtime for g in manifest.graphs} == {"litert"}
    with load(tmp_path / "t.edgekit") as predictor:
        assert predictor.predict(image=SEVEN_PNG, text=list(WORDS)).label == "seven"
        assert predictor.predict(audio=SEVEN_WAV, text=list(WORDS)).label == "seven"
        assert predictor.predict(text="7").embedding.shape == (64,)
