"""R6: an ONNX file is read without a runtime and without trust; truth comes from the `onnx` package."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from graphs import affine_onnx, big_onnx, cache_onnx, info, node, onnx_bytes

from edgekit.errors import EdgekitError, GraphRefused
from edgekit.formats import OpCount, mapped
from edgekit.formats.onnx import DATATYPES, OnnxModel, parse_onnx, read_onnx
from edgekit.formats.protobuf import FIELD_LIMIT

onnx = pytest.importorskip("onnx")


def plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def compare_with_package(path: Path) -> OnnxModel:
    """Everything our reader says, against what the `onnx` package says."""
    ours, theirs = read_onnx(path), onnx.load(path, load_external_data=False)
    graph = theirs.graph
    assert ours.ir_version == theirs.ir_version
    assert ours.opsets == {plain(o.domain): o.version for o in theirs.opset_import}
    assert ours.metadata == {p.key: p.value for p in theirs.metadata_props}
    named = {t.name for t in graph.initializer}
    for values, protos in (
        (ours.inputs, [i for i in graph.input if i.name not in named]),
        (ours.outputs, graph.output),
    ):
        assert [v.name for v in values] == [p.name for p in protos]
        for value, proto in zip(values, protos):
            kind = proto.type.tensor_type
            assert value.datatype == DATATYPES[kind.elem_type]
            dims = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
            assert value.shape == (dims if kind.HasField("shape") else None)
            assert value.symbols == tuple(d.dim_param for d in kind.shape.dim)
    counts: dict[tuple[str, str], int] = {}
    count_nodes(graph, counts)
    assert {(o.name, o.domain): o.count for o in ours.ops} == counts
    stored = {t.name: t for t in ours.tensors}
    with mapped(path, path.name) as data:
        for proto in graph.initializer:
            tensor = stored[proto.name]
            assert (tensor.shape, tensor.datatype) == (tuple(proto.dims), DATATYPES[proto.data_type])
            if tensor.encoding == "raw" and not tensor.location and proto.data_type in (1, 7, 2, 3):
                array = onnx.numpy_helper.to_array(proto)
                assert data[tensor.offset : tensor.offset + tensor.size_bytes] == array.tobytes()
    return ours


def count_nodes(graph: object, counts: dict[tuple[str, str], int]) -> None:
    for item in graph.node:  # type: ignore[attr-defined]
        key = (item.op_type, plain(item.domain))
        counts[key] = counts.get(key, 0) + 1
        for attribute in item.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                count_nodes(inner, counts)


def test_a_small_graph_is_read_whole(tmp_path: Path) -> None:
    model = compare_with_package(affine_onnx(tmp_path / "m.onnx"))
    assert model.producer == "edgekit tests"
    assert model.ops == (
        OpCount(name="Add", domain="", version=17, count=1),
        OpCount(name="MatMul", domain="", version=17, count=1),
    )
    assert model.inputs[0].shape == (-1, 4)
    assert model.inputs[0].symbols == ("rows", "")
    assert [(t.name, t.size_bytes, t.encoding) for t in model.tensors] == [("w", 64, "raw"), ("b", 16, "raw")]


def test_every_onnx_file_of_the_zoo_is_read_as_the_package_reads_it(shared: Path) -> None:
    files = sorted((shared / "zoo").rglob("*.onnx")) + sorted((shared / "models").rglob("*.onnx"))
    assert len(files) >= 10
    for path in files:
        compare_with_package(path)


def test_subgraphs_constants_functions_and_typed_payloads_are_seen(tmp_path: Path) -> None:
    """Operators of both branches are counted; a constant in a node and a varint payload have their place."""
    helper = onnx.helper
    then = helper.make_graph([node("Neg", ["x"], ["y"])], "then", [], [info("y", [4])])
    other = helper.make_graph([node("Abs", ["x"], ["y"])], "else", [], [info("y", [4])])
    constant = node("Constant", [], ["limit"], value=onnx.numpy_helper.from_array(np.array([7], np.float32)))
    nodes = [constant, node("If", ["flag"], ["y"], then_branch=then, else_branch=other)]
    data = onnx_bytes(nodes, [info("x", [4]), info("flag", [], "BOOL")], [info("y", [4])])
    model = onnx.load_from_string(data)
    model.graph.initializer.append(helper.make_tensor("ints", onnx.TensorProto.INT32, [3], [1, 300, -1]))
    model.graph.initializer.append(helper.make_tensor("text", onnx.TensorProto.STRING, [1], [b"hello"]))
    model.functions.append(
        helper.make_function("own", "F", ["a"], ["b"], [node("Sin", ["a"], ["b"])], [helper.make_opsetid("", 17)])
    )
    read = parse_onnx(model.SerializeToString(), "m.onnx")
    assert {o.name: o.count for o in read.ops} == {"Constant": 1, "If": 1, "Neg": 1, "Abs": 1, "Sin": 1}
    encodings = {t.name: t.encoding for t in read.tensors}
    assert encodings == {"limit": "raw", "ints": "varint", "text": "scattered"}


def test_weights_outside_are_listed_not_followed(tmp_path: Path) -> None:
    path = big_onnx(tmp_path / "m.onnx", layers=2, width=8, data="m.data")
    (tmp_path / "m.data").unlink()
    model = read_onnx(path)
    assert [(t.name, t.location, t.size_bytes) for t in model.tensors] == [("w0", "m.data", 256), ("w1", "m.data", 256)]
    assert len(model.external) == 2


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"hello world, this is no model", "wire type"),
        (b"\x08\x08", "no graph"),
        (b"\x3a\x00", "no ir_version"),
        (b"\x08\x08\x3a\x00\x3a\x00", "two graphs"),
        (b"\x08\x08\x3a\x7f\x00", "beyond its message"),
        (b"\x08" + b"\xff" * 11, "more than 10 bytes"),
        (b"\x08\x08\x38\x01", "field 7 has wire type 0"),
        (b"\x00\x00", "field number 0"),
        (b"\x08\x08\x3a\x06\x2a\x04\x08\xff\xff\xff", "truncated|beyond"),
    ],
)
def test_literal_malformed_files_are_refused_by_name(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(GraphRefused, match=rf"bad\.onnx.*({problem})"):
        read_onnx(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphRefused, match="cannot be opened"):
        read_onnx(tmp_path / "none.onnx")
    with pytest.raises(GraphRefused, match=r"cannot be (mapped|opened)"):
        read_onnx(tmp_path)


def wrapped(payload: bytes, field: int) -> bytes:
    size, length = len(payload), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([field << 3 | 2]) + length + bytes([size]) + payload


def test_graphs_nested_a_thousand_deep_are_refused_without_recursion() -> None:
    graph = b""
    for _ in range(1000):
        graph = wrapped(wrapped(wrapped(graph, 6), 5), 1)  # graph in an attribute in a node
    with pytest.raises(GraphRefused, match="nested"):
        parse_onnx(b"\x08\x08" + wrapped(graph, 7), "deep.onnx")


def test_work_is_bounded_by_a_number_of_fields() -> None:
    graph = b"\x6a\x00" * (FIELD_LIMIT + 10)  # value_info, empty
    with pytest.raises(GraphRefused, match="more than"):
        parse_onnx(b"\x08\x08" + wrapped(graph, 7), "wide.onnx")


def test_absurd_ranks_and_axes_are_refused() -> None:
    rank = wrapped(wrapped(wrapped(b"\x01" * 100, 1), 5), 7)
    with pytest.raises(GraphRefused, match="more than 32 axes"):
        parse_onnx(b"\x08\x08" + rank, "rank.onnx")
    negative = wrapped(wrapped(b"\x08" + b"\xff" * 9 + b"\x01", 5), 7)
    with pytest.raises(GraphRefused, match="negative axis"):
        parse_onnx(b"\x08\x08" + negative, "negative.onnx")


def mutate(rng: random.Random, data: bytes) -> bytes:
    """A flip, cut, insert, fill or splice."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) or 1)
        kind = rng.randrange(5)
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at : at + rng.randint(1, 32)]
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.randint(1, 16))
        elif kind == 3:
            out[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\x80\x80\x80"))
        else:
            other = rng.randrange(len(out) or 1)
            out[at : at + 16] = out[other : other + 16]
    return bytes(out)


def test_2000_mutated_files_and_every_truncation_give_a_record_or_our_error(tmp_path: Path) -> None:
    rng = random.Random(20)
    seeds = [affine_onnx(tmp_path / "a.onnx").read_bytes(), cache_onnx(tmp_path / "c.onnx").read_bytes()]
    seeds.append(big_onnx(tmp_path / "e.onnx", layers=2, width=8, data="e.data").read_bytes())
    refused = read = 0
    cases = [mutate(rng, rng.choice(seeds)) for _ in range(2000)]
    cases += [seed[:n] for seed in seeds for n in range(len(seed))]
    for data in cases:
        try:
            assert isinstance(parse_onnx(data, "m.onnx"), OnnxModel)
        except EdgekitError as error:
            refused += "m.onnx" in error.message
        else:
            read += 1
    assert refused + read == len(cases)
    assert refused > 1000
