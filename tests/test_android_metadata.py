"""Issue 7, item 1: metadata is written without touching what a model computes; truth is the schema's own reader."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import affine_tflite, quantized_tflite, variable_tflite
from packing import TRIDIGIT

from edgekit.errors import GraphRefused
from edgekit.formats.packed import packed_files, read_packed
from edgekit.formats.tflite import read_tflite
from edgekit.packaging.metadata_writer import (
    Calibration,
    ModelNotes,
    TensorNotes,
    dump_metadata,
    read_calibrations,
    write_metadata,
)
from edgekit.packaging.tflite_metadata import read_model_metadata
from edgekit.runtimes.graph import Settings
from edgekit.runtimes.loading import load_graph
from edgekit.specs.tensor import NUMPY_NAMES

SETTINGS = Settings(threads=1, spinning=False, providers=(), cache=None)
FILES = {"labels.txt": b"cat\ndog", "calibration.txt": b"1,2,3\n4,5,6"}


def notes(name: str, **facts: Any) -> TensorNotes:
    empty: dict[str, Any] = {
        "description": "",
        "content": "feature",
        "grey": False,
        "size": (0, 0),
        "rate_hz": 0,
        "mean": (),
        "std": (),
        "labels": "",
        "calibration": None,
    }
    return TensorNotes(name=name, **{**empty, **facts})


NOTES = ModelNotes(
    name="a model",
    description="what it does",
    version="1.2",
    author="someone",
    license="Apache-2.0",
    inputs=(notes("image", content="image", size=(128, 64), mean=(127.5, 1.0, 2.0), std=(127.5, 3.0, 4.0)),),
    outputs=(notes("probability", labels="labels.txt", calibration=Calibration(1, 0.25, "calibration.txt")),),
    vocabulary="",
)

MODELS = {"affine": affine_tflite, "quantized": quantized_tflite, "variable": variable_tflite}


def models(tmp_path: Path) -> list[Path]:
    made = [make(tmp_path / f"{name}.tflite") for name, make in MODELS.items()]
    return made + sorted((TRIDIGIT / "weights").glob("*.tflite"))


def outputs(path: Path) -> dict[str, np.ndarray]:
    graph = load_graph("litert", path, SETTINGS, None)
    random = np.random.default_rng(5)
    given = {}
    for spec in graph.spec.inputs:
        shape = [max(n, 1) for n in spec.shape]
        values = random.standard_normal(shape) if spec.datatype == "FP32" else random.integers(0, 9, shape)
        given[spec.name] = values.astype(NUMPY_NAMES[spec.datatype])
    answer = graph.run(given)
    graph.close()
    return answer


def test_outputs_are_bit_equal_before_and_after(tmp_path: Path) -> None:
    """Every model computes the same bits, written once or twice, and its weights lie at multiples of 16."""
    for source in models(tmp_path):
        once, twice = tmp_path / "once.tflite", tmp_path / "twice.tflite"
        write_metadata(source, NOTES, FILES, once)
        write_metadata(once, NOTES, FILES, twice)
        before = outputs(source)
        for after in (once, twice):
            assert all(np.array_equal(before[name], array) for name, array in outputs(after).items())
            own = source.read_bytes()
            shift = [
                new.offset - old.offset for new, old in zip(read_tflite(after).tensors, read_tflite(source).tensors)
            ]
            assert len(set(shift)) <= 1
            assert all(s % 64 == 0 for s in shift)
            assert own[-64:] in after.read_bytes()


def test_only_metadata_differs_by_the_schemas_own_reader(tmp_path: Path) -> None:
    """The model, unpacked by the reader that LiteRT's schema compiler generated, is the same but for the entry."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", exc_type=ImportError)
    for source in models(tmp_path):
        output = tmp_path / "out.tflite"
        write_metadata(source, NOTES, FILES, output)
        before, after = (schema.ModelT.InitFromPackedBuf(p.read_bytes(), 0) for p in (source, output))
        entry = [m for m in after.metadata if m.name == b"TFLITE_METADATA"]
        assert len(entry) == 1
        assert bytes(after.buffers[entry[0].buffer].data) == dump_metadata(NOTES)
        after.metadata = [m for m in after.metadata if m is not entry[0]] or None
        del after.buffers[entry[0].buffer]
        assert plain(before) == plain(after)


def plain(value: Any) -> Any:
    """Unpacked tables as dictionaries."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [plain(v) for v in value]
    return {k: plain(v) for k, v in vars(value).items()} if hasattr(value, "__dict__") else value


def test_metadata_read_back_equals_what_was_written(tmp_path: Path) -> None:
    """Our reader finds every field, and the appended files are those given, stored, with fixed times."""
    output = tmp_path / "out.tflite"
    write_metadata(affine_tflite(tmp_path / "a.tflite"), NOTES, FILES, output)
    found = read_model_metadata(output)
    assert found is not None
    assert (found.name, found.description, found.version) == ("a model", "what it does", "1.2")
    assert (found.author, found.license) == ("someone", "Apache-2.0")
    image = found.inputs[0]
    assert (image.content, image.grey, image.mean, image.std) == ("image", False, (127.5, 1.0, 2.0), (127.5, 3.0, 4.0))
    assert found.outputs[0].labels == "labels.txt"
    assert read_calibrations(output) == {0: Calibration(1, 0.25, "calibration.txt")}
    assert {name: read_packed(output, name) for name in packed_files(output)} == FILES
    with zipfile.ZipFile(output) as archive:
        assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_same_arguments_same_bytes_and_old_files_are_replaced(tmp_path: Path) -> None:
    """Written twice it is byte-equal; what was appended before does not stay."""
    source = affine_tflite(tmp_path / "a.tflite")
    first, second, third = (tmp_path / f"{n}.tflite" for n in range(3))
    write_metadata(source, NOTES, FILES, first)
    write_metadata(source, NOTES, FILES, second)
    assert first.read_bytes() == second.read_bytes()
    write_metadata(first, NOTES, {"other.txt": b"x"}, third)
    assert packed_files(third) == {"other.txt": 1}


def test_no_model_is_refused(tmp_path: Path) -> None:
    """A damaged file is refused by name."""
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(affine_tflite(tmp_path / "a.tflite").read_bytes()[:100])
    with pytest.raises(GraphRefused, match=r"broken\.tflite"):
        write_metadata(broken, NOTES, {}, tmp_path / "out.tflite")


def test_every_cut_of_a_model_is_refused_or_written(tmp_path: Path) -> None:
    """No prefix of a model raises anything but GraphRefused."""
    data = quantized_tflite(tmp_path / "q.tflite").read_bytes()
    cut = tmp_path / "cut.tflite"
    for size in range(1, len(data), 7):
        cut.write_bytes(data[:size])
        with pytest.raises(GraphRefused):
            write_metadata(cut, NOTES, {}, tmp_path / "out.tflite")
