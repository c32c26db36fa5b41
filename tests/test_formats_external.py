"""R7: weights outside an ONNX file come from the graph's own data file of the bundle, and from nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from graphs import big_onnx

from edgekit.errors import BundleError, GraphRefused
from edgekit.formats.external import ExternalData, check_external_data
from edgekit.runtimes.graph import Settings
from edgekit.runtimes.loading import load_graph

onnx = pytest.importorskip("onnx")
SETTINGS = Settings(threads=1, spinning=False, providers=(), cache=None)
WIDTH, SIZE_BYTES = 16, 16 * 16 * 4


def rewrite(path: Path, **entries: str | None) -> None:
    """Give the model's only tensor other external_data entries; None removes one."""
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    known = {e.key: e.value for e in tensor.external_data}
    del tensor.external_data[:]
    for key, value in {**known, **entries}.items():
        if value is not None:
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (tmp_path / "secret.data").write_bytes(bytes(SIZE_BYTES))
    return big_onnx(folder / "m.onnx", layers=1, width=WIDTH, data="m.data")


def load(model: Path, data: str | None = "m.data") -> None:
    descriptor = os.open(model.parent, os.O_RDONLY)
    folder = f"/proc/self/fd/{descriptor}"
    try:
        load_graph("onnxruntime", f"{folder}/m.onnx", SETTINGS, f"{folder}/{data}" if data else None).close()
    finally:
        os.close(descriptor)


def test_the_graphs_own_data_file_is_read_through_the_folders_descriptor(model: Path) -> None:
    pytest.importorskip("onnxruntime")
    load(model)


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "../secret.data"},
        {"location": "sub/../m.data"},
        {"location": "./m.data"},
        {"location": "/etc/passwd"},
        {"location": "C:\\secret.data"},
        {"location": "..\\secret.data"},
        {"location": "other.data"},
        {"location": "M.DATA"},
        {"location": "m.data\0"},
        {"location": ""},
        {"location": None},
        {"location": "*/_ORT_MEM_ADDR_/*"},
        {"location": "m.onnx"},
        {"offset": "-1"},
        {"offset": "-9223372036854775808"},
        {"offset": "99999999999999999999999"},
        {"offset": str(2**63)},
        {"offset": "1"},
        {"offset": " 0"},
        {"offset": "0x0"},
        {"offset": "1e3"},
        {"length": "-1"},
        {"length": str(2**64)},
        {"length": str(SIZE_BYTES + 1)},
        {"length": "4"},
        {"length": ""},
        {"prepacked_0": "x|0;16;y"},
        {"Location": "m.data"},
        {"": "m.data"},
    ],
    ids=repr,
)
def test_any_other_location_offset_length_or_key_is_refused_before_the_runtime_sees_it(
    model: Path, entries: dict[str, str | None]
) -> None:
    pytest.importorskip("onnxruntime")
    rewrite(model, **entries)
    with pytest.raises(BundleError, match=r"m\.onnx: weights of tensor 'w0'") as caught:
        load(model)
    assert caught.value.exit_code == 3


def test_weights_outside_without_a_data_file_in_the_manifest_are_refused(model: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(BundleError, match="expected them in the graph file"):
        load(model, data=None)


def test_a_link_in_place_of_the_data_file_is_refused(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (model.parent / "m.data").unlink()
    (model.parent / "m.data").symlink_to(tmp_path / "secret.data")
    with pytest.raises(BundleError, match="expected a plain file"):
        load(model)
    (model.parent / "m.data").unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        load(model)
    os.mkfifo(model.parent / "m.data")
    with pytest.raises(BundleError, match="expected a plain file"):
        load(model)


def test_a_data_file_in_another_folder_is_refused(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(GraphRefused, match="beside it"):
        load_graph("onnxruntime", model, SETTINGS, tmp_path / "secret.data")


def test_entries_without_the_external_mark_are_judged_as_well(model: Path) -> None:
    """A later field of the same message could add the mark; what is listed is checked."""
    pytest.importorskip("onnxruntime")
    rewrite(model, location="../secret.data")
    document = onnx.load(model, load_external_data=False)
    document.graph.initializer[0].data_location = onnx.TensorProto.DEFAULT
    document.graph.initializer[0].raw_data = np.zeros((WIDTH, WIDTH), np.float32).tobytes()
    model.write_bytes(document.SerializeToString())
    with pytest.raises(BundleError, match="secret"):
        load(model)


def test_a_doubled_key_is_refused() -> None:
    item = ExternalData(tensor="w", entries=(("location", "m.data"), ("location", "m.data")), expected_bytes=4)
    with pytest.raises(BundleError, match="doubled key 'location'"):
        check_external_data((item,), "m.onnx", "m.data", lambda name: 4)


def test_a_missing_length_is_the_tensors_own() -> None:
    item = ExternalData(tensor="w", entries=(("location", "m.data"), ("offset", "8")), expected_bytes=8)
    check_external_data((item,), "m.onnx", "m.data", lambda name: 16)
    with pytest.raises(BundleError, match="a part of the 15 bytes"):
        check_external_data((item,), "m.onnx", "m.data", lambda name: 15)
