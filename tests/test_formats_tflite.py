"""R6: a TFLite file is read without a runtime and without trust; truth comes from the schema's own generated reader."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import (
    Scalar,
    Vector,
    affine_tflite,
    custom_tflite,
    flatbuffer,
    quantized_tflite,
    tensor,
    tflite_bytes,
    variable_tflite,
)
from test_formats_onnx import mutate

from edgekit.errors import EdgekitError, GraphRefused
from edgekit.formats import OpCount, StoredQuantization, mapped
from edgekit.formats.packed import packed_files, read_packed
from edgekit.formats.tflite import TfliteModel, parse_tflite, read_metadata, read_tflite, unique_names
from edgekit.formats.tflite_ops import BUILTIN_OPERATORS


def schema() -> Any:
    """The reader that the schema compiler generated."""
    return pytest.importorskip("ai_edge_litert.schema_py_generated", exc_type=ImportError)


def compare_with_schema(path: Path) -> TfliteModel:
    """Everything our reader says, against what the generated one says."""
    ours, theirs = read_tflite(path), schema().Model.GetRootAsModel(path.read_bytes(), 0)
    assert (ours.version, ours.description) == (theirs.Version(), (theirs.Description() or b"").decode())
    main = theirs.Subgraphs(0)
    for values, indices in ((ours.inputs, main.InputsAsNumpy()), (ours.outputs, main.OutputsAsNumpy())):
        for value, index in zip(values, np.atleast_1d(indices).tolist(), strict=True):
            source = main.Tensors(index)
            assert not source.Name() or value.name == source.Name().decode()
            known = source.ShapeSignatureAsNumpy() if source.ShapeSignatureLength() else source.ShapeAsNumpy()
            assert value.shape == tuple(np.atleast_1d(known).tolist() if source.ShapeLength() else ())
            quantization = source.Quantization()
            if quantization is None or not quantization.ScaleLength():
                assert value.quantization is None
            else:
                assert value.quantization == StoredQuantization(
                    scales=tuple(quantization.ScaleAsNumpy().tolist()),
                    zero_points=tuple(quantization.ZeroPointAsNumpy().tolist()),
                    axis=quantization.QuantizedDimension(),
                )
    count = sum(theirs.Subgraphs(i).OperatorsLength() for i in range(theirs.SubgraphsLength()))
    assert sum(op.count for op in ours.ops) == count
    weights = {}
    for i in range(main.TensorsLength()):
        source = main.Tensors(i)
        size = theirs.Buffers(source.Buffer()).DataLength()
        if size:
            weights[source.Name().decode()] = theirs.Buffers(source.Buffer()).DataAsNumpy().tobytes()
    with mapped(path, path.name) as data:
        found = {t.name: data[t.offset : t.offset + t.size_bytes] for t in ours.tensors}
    assert found.keys() >= weights.keys()
    assert all(found[name] == content for name, content in weights.items())
    return ours


def test_every_tflite_file_at_hand_is_read_as_the_schemas_reader_reads_it(shared: Path) -> None:
    schema()
    files = [p for p in sorted(shared.rglob("*.tflite")) if p.parent.name != "negative"]  # no buffers at all
    assert len(files) >= 10
    for path in files:
        compare_with_schema(path)


def test_a_small_graph_is_read_whole(tmp_path: Path) -> None:
    model = read_tflite(quantized_tflite(tmp_path / "q.tflite"))
    assert model.ops == (OpCount(name="ADD", domain="", version=2, count=1),)
    assert model.inputs[0].quantization == StoredQuantization(scales=(0.5,), zero_points=(-3,), axis=0)
    assert (model.inputs[0].datatype, model.inputs[0].shape) == ("INT8", (1, 4))
    affine = read_tflite(affine_tflite(tmp_path / "a.tflite"))
    assert affine.inputs[0].shape == (-1, 4)
    assert [(t.name, t.size_bytes, t.shape) for t in affine.tensors] == [("w", 64, (4, 4)), ("b", 16, (4,))]
    assert read_tflite(variable_tflite(tmp_path / "v.tflite")).variables == 1
    assert read_tflite(custom_tflite(tmp_path / "c.tflite")).ops[0].domain == "custom"


def test_per_axis_scales_and_metadata_are_read(tmp_path: Path) -> None:
    weights = tensor("w", [3, 2], "int8", scale=[0.5, 0.25, 2.0], zero_point=[0, 0, 0], data=np.ones((3, 2), np.int8))
    tensors = [tensor("x", [1, 4]), weights, tensor("y", [1, 4])]
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite_bytes(tensors, [(0, [0, 0], [2])], [0], [2], metadata={"min_runtime_version": b"1.5.0"}))
    assert read_tflite(path).tensors[0].quantization == StoredQuantization(
        scales=(0.5, 0.25, 2.0), zero_points=(0, 0, 0), axis=0
    )
    assert read_metadata(path, "min_runtime_version") == b"1.5.0"
    assert read_metadata(path, "TFLITE_METADATA") is None


def test_the_operator_table_is_the_schemas() -> None:
    codes = {v: k for k, v in vars(schema().BuiltinOperator).items() if isinstance(v, int)}
    shorter = min(len(codes), len(BUILTIN_OPERATORS))
    assert [codes[i] for i in range(shorter)] == list(BUILTIN_OPERATORS[:shorter])


def test_names_tell_tensors_apart() -> None:
    assert unique_names(["a", "a", "", "b", ""], "input") == ["a", "a#2", "input", "b", "input#2"]
    assert unique_names(["a", "a#2", "a"], "input") == ["a", "a#2", "a#3"]
    assert unique_names(["a", "a", "a#2"], "input") == ["a", "a#3", "a#2"]


def test_files_appended_by_the_metadata_tools_are_listed_and_read(tmp_path: Path, shared: Path) -> None:
    yamnet = shared / "models" / "yamnet" / "yamnet_audio_classifier_with_metadata.tflite"
    assert packed_files(yamnet) == {"yamnet_label_list.txt": 6230}
    labels = read_packed(yamnet, "yamnet_label_list.txt").decode().splitlines()
    assert (len(labels), labels[0]) == (521, "Speech")
    with pytest.raises(GraphRefused, match="yamnet_label_list"):
        read_packed(yamnet, "labels.txt")
    assert packed_files(affine_tflite(tmp_path / "a.tflite")) == {}


def test_a_bomb_twins_and_a_broken_archive_behind_the_model_are_refused(tmp_path: Path) -> None:
    path = affine_tflite(tmp_path / "a.tflite")
    plain = path.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", bytes(17 << 20))
    path.write_bytes(plain + buffer.getvalue())
    with pytest.raises(GraphRefused, match="at most"):
        read_packed(path, "labels.txt")
    rng = random.Random(3)
    for _ in range(300):
        path.write_bytes(plain + mutate(rng, buffer.getvalue()[-200:]))
        try:
            for name in packed_files(path):
                read_packed(path, name)
        except GraphRefused:
            pass
    twins = io.BytesIO()
    with zipfile.ZipFile(twins, "w") as archive:
        archive.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", "2")
    path.write_bytes(plain + twins.getvalue())
    with pytest.raises(GraphRefused, match="each once"):
        packed_files(path)


def minimal(**changes: Any) -> bytes:
    fields: dict[int, Any] = {0: Scalar("I", 3), 1: [], 2: [{0: [], 1: Vector("i", []), 2: Vector("i", [])}], 4: [{}]}
    return flatbuffer(fields | {int(k[1:]): v for k, v in changes.items()}, b"TFL3")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"TFL3", "not a TFLite file"),
        (b"\x08\0\0\0TFL2" + bytes(64), "not a TFLite file"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(64), "is outside"),
        (b"\x04\0\0\0TFL3" + bytes(64), "impossible size|outside"),
        (minimal(_0=Scalar("I", 4)), "schema 4"),
        (minimal(_2=[]), "no subgraph"),
        (minimal(_2=[{0: [{0: Vector("i", [2]), 2: Scalar("I", 9), 3: "t"}]}]), "buffer 9 of 1"),
        (minimal(_2=[{0: [], 1: Vector("i", [0])}]), "tensor 0 of 0"),
        (minimal(_2=[{0: [], 3: [{0: Scalar("I", 5)}]}]), "operator code 5"),
        (minimal(_2=[{0: [{0: Vector("i", [1] * 33)}]}]), "33 numbers"),
        (minimal(_2=[{0: [{0: Vector("i", [-4])}]}]), "negative axis"),
        (minimal(_4=[{}, {1: Scalar("Q", 2), 2: Scalar("Q", 2**63)}]), "beyond the file"),
        (minimal(_4=[{}, {0: Vector("B", b"123")}], _2=[{0: [{0: Vector("i", [4]), 2: Scalar("I", 1)}]}]), "16 bytes"),
    ],
)
def test_literal_malformed_files_are_refused_by_name(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "bad.tflite"
    path.write_bytes(data)
    with pytest.raises(GraphRefused, match=rf"bad\.tflite.*({problem})"):
        read_tflite(path)


def test_many_references_to_one_object_are_bounded_work() -> None:
    """80 kB that unfold to 10^8 tensors: the subgraphs are all one, and so are its tensors."""
    tensors = [{0: Vector("i", [1]), 3: "t"}] * 10_000
    data = minimal(_2=[{0: tensors}] * 10_000)
    assert len(data) < 100_000
    with pytest.raises(GraphRefused, match=r"bomb\.tflite.*more than a model can"):
        parse_tflite(data, "bomb.tflite")


def test_2000_mutated_files_and_every_truncation_give_a_record_or_our_error(tmp_path: Path) -> None:
    rng = random.Random(21)
    makers = (affine_tflite, quantized_tflite, variable_tflite, custom_tflite)
    seeds = [make(tmp_path / "seed.tflite").read_bytes() for make in makers]
    cases = [mutate(rng, rng.choice(seeds)) for _ in range(2000)]
    cases += [seed[:n] for seed in seeds for n in range(len(seed))]
    refused = read = 0
    for data in cases:
        try:
            parse_tflite(data, "m.tflite")
        except EdgekitError as error:
            refused += "m.tflite" in error.message
        else:
            read += 1
    assert refused + read == len(cases)
    assert refused > 1000
