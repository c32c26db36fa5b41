"""R6: an ORT-format file says the same as the ONNX file that ONNX Runtime made it from."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from graphs import affine_onnx, cache_onnx
from test_formats_onnx import mutate

from edgekit.errors import EdgekitError, GraphRefused
from edgekit.formats.onnx import read_onnx
from edgekit.formats.ort import parse_ort, read_ort


def to_ort(path: Path) -> Path:
    """The same model, written by ONNX Runtime in its own format."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(path.with_suffix(".ort"))
    runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return path.with_suffix(".ort")


def test_inputs_outputs_operators_and_tensors_are_those_of_the_onnx_file(tmp_path: Path) -> None:
    for make in (affine_onnx, cache_onnx):
        path = make(tmp_path / "m.onnx")
        onnx, ort = read_onnx(path), read_ort(to_ort(path))
        assert ort.inputs == onnx.inputs
        assert [(v.name, v.datatype, v.shape) for v in ort.outputs] == [
            (v.name, v.datatype, v.shape) for v in onnx.outputs
        ]
        assert [(o.name, o.domain, o.version, o.count) for o in ort.ops] == [
            (o.name, o.domain, o.version, o.count) for o in onnx.ops
        ]
        shapes = {t.name: (t.datatype, t.shape, t.size_bytes) for t in onnx.tensors}
        assert {t.name: (t.datatype, t.shape, t.size_bytes) for t in ort.tensors} == shapes
        assert ort.opsets[""] == 17


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = affine_onnx(tmp_path / "m.onnx")
    with pytest.raises(GraphRefused, match=r"m\.onnx: not an ORT-format file"):
        read_ort(path)


def test_2000_mutated_files_give_a_record_or_our_error(tmp_path: Path) -> None:
    rng = random.Random(22)
    seed = to_ort(affine_onnx(tmp_path / "m.onnx")).read_bytes()
    for data in [mutate(rng, seed) for _ in range(2000)] + [seed[:n] for n in range(0, len(seed), 3)]:
        try:
            parse_ort(data, "m.ort")
        except EdgekitError as error:
            if "m.ort" not in error.message:
                raise
