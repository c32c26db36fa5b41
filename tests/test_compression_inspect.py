"""Proves: what a model file contains is read out of it, each kind of compression where it is and none where not."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compression_models import (
    change,
    dynamic,
    half,
    network_bytes,
    plain,
    plain_arrays,
    pruned,
    replace_initializer,
    resnet8,
    static,
    two_of_four,
    weights,
)
from graphs import info, node, onnx_bytes

from edgekit.compression.facts import GraphFacts
from edgekit.compression.inspection import inspect_model
from edgekit.errors import EdgekitError, InputError
from edgekit.operations.inspect import inspect
from edgekit.targets import find_target

ROOT = Path(__file__).resolve().parent.parent
TRIDIGIT = ROOT / "models" / "tridigit" / "weights"
QUIET = ("folded", "fused-activation")
"""Kinds that nearly every trained file has."""


def kinds(facts: GraphFacts) -> set[str]:
    return set(facts.kinds()) - set(QUIET)


def finding(facts: GraphFacts, kind: str) -> tuple[int, float]:
    """Layers and figure of one kind."""
    found = next(f for f in facts.findings if f.kind == kind)
    assert found.figure is not None
    return found.layers, found.figure


def zoo_kinds() -> list[tuple[str, set[str]]]:
    return [
        ("vit/model/onnx/model.onnx", set()),
        ("vit/model/onnx/model_fp16.onnx", {"float16"}),
        ("vit/model/onnx/model_quantized.onnx", {"dynamic"}),
        ("vit/model/onnx/model_q4.onnx", {"weight-only"}),
        ("vit/tflite/vit.tflite", set()),
        ("vit/tflite/vit_dynamic_int8.tflite", {"dynamic"}),
        ("minilm-embedding/model/onnx/model_quantized.onnx", {"dynamic"}),
        ("minilm-embedding/model/onnx/model_q4.onnx", {"weight-only"}),
        ("minilm-embedding/tflite/minilm_dynamic_int8.tflite", {"dynamic", "weight-only"}),
        ("convnext/model/model.onnx", set()),
        ("convnext/tflite/convnext_dynamic_int8.tflite", {"dynamic"}),
        ("whisper/model/onnx/encoder_model_q4.onnx", {"weight-only"}),
        ("whisper/model/onnx/decoder_model_merged_q4.onnx", {"weight-only"}),
        # Named "quantized", and holds float32 weights only.
        ("whisper/model/onnx/decoder_model_merged_quantized.onnx", set()),
        ("distilbert-sentiment/model/model.onnx", set()),
        ("yolos/model/model.onnx", set()),
    ]


@pytest.mark.parametrize(("file", "expected"), zoo_kinds())
def test_zoo_variants_are_told_apart(file: str, expected: set[str], shared: Path) -> None:
    """Every variant of the zoo shows its kind, the float32 ones none."""
    assert kinds(inspect_model(shared / "zoo" / file)) == expected


def test_the_layers_of_a_kind_are_those_that_the_file_has(shared: Path) -> None:
    """The number of layers of a kind equals the operators counted with the onnx package."""
    onnx = pytest.importorskip("onnx")
    for name, ops, kind in (
        ("model_quantized", ("MatMulInteger", "ConvInteger"), "dynamic"),
        ("model_q4", ("MatMulNBits",), "weight-only"),
    ):
        path = shared / "zoo" / "vit" / "model" / "onnx" / f"{name}.onnx"
        counted = sum(n.op_type in ops for n in onnx.load(str(path)).graph.node)
        assert finding(inspect_model(path), kind)[0] == counted


@pytest.mark.parametrize("tower", ["image", "audio", "text"])
@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        (".onnx", set()),
        ("_fp16.onnx", {"float16"}),
        ("_int8.onnx", {"qdq"}),
        (".tflite", set()),
        ("_fp16.tflite", {"float16"}),
        ("_int8.tflite", {"integer"}),
    ],
)
def test_tridigit_in_six_forms(tower: str, suffix: str, expected: set[str]) -> None:
    """fp32, fp16 and int8 in both formats, as the exporters made them; the same parameters and work in all six."""
    facts = inspect_model(TRIDIGIT / f"{tower}{suffix}")
    assert kinds(facts) == expected
    reference = inspect_model(TRIDIGIT / f"{tower}.tflite")
    assert facts.parameters == reference.parameters
    assert facts.multiply_adds == reference.multiply_adds
    assert not any(layer.doubts for layer in facts.layers)


def test_onnxruntime_quantisers(tmp_path: Path) -> None:
    """QDQ, QOperator, dynamic and float16 made by onnxruntime, with the granularity that was asked for."""
    source = plain(tmp_path / "plain.onnx")
    assert kinds(inspect_model(source)) == set()
    for per_channel, word in ((True, "per-channel"), (False, "per-tensor")):
        facts = inspect_model(static(source, tmp_path / "qdq.onnx", per_channel=per_channel))
        assert kinds(facts) == {"qdq"}
        assert {layer.granularity for layer in facts.layers} == {word}
        assert {layer.datatype for layer in facts.layers} == {"INT8"}
    facts = inspect_model(static(source, tmp_path / "qop.onnx", qdq=False))
    assert kinds(facts) == {"qoperator"}
    facts = inspect_model(dynamic(source, tmp_path / "dynamic.onnx"))
    assert finding(facts, "dynamic") == (4, 8.0)
    assert kinds(inspect_model(half(source, tmp_path / "half.onnx"))) == {"float16"}


def test_work_is_the_same_in_every_form(tmp_path: Path) -> None:
    """Quantising changes neither parameters (biases aside) nor multiply-adds."""
    source = plain(tmp_path / "plain.onnx")
    want = inspect_model(source)
    # conv1 16x16 x 16 x 27, conv2 8x8 x 32 x 144, dense 2048 x 64 and 64 x 64
    assert want.multiply_adds == 256 * 16 * 27 + 64 * 32 * 144 + 2048 * 64 + 64 * 64
    assert want.parameters == sum(a.size for a in plain_arrays().values())
    for made in (
        static(source, tmp_path / "a.onnx"),
        static(source, tmp_path / "b.onnx", qdq=False),
        dynamic(source, tmp_path / "c.onnx"),
        half(source, tmp_path / "d.onnx"),
    ):
        got = inspect_model(made)
        assert (got.multiply_adds, got.not_counted) == (want.multiply_adds, {})
        assert got.parameters == pytest.approx(want.parameters, rel=0.01)


def test_int4_in_blocks(tmp_path: Path) -> None:
    """MatMulNBits as the converter packs it: 4 bits, two in a byte, zero is 8; zeros counted within 1 %."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 16, (32, 64), dtype=np.uint8)
    codes[rng.random((32, 64)) < 0.6] = 8
    packed = (codes[:, 0::2] | (codes[:, 1::2] << 4)).reshape(32, 2, 16)
    arrays = {"b": packed, "s": np.full(64, 0.1, np.float32)}
    nodes = [
        node(
            "MatMulNBits", ["x", "b", "s"], ["y"], name="q4", domain="com.microsoft", K=64, N=32, bits=4, block_size=32
        )
    ]
    opsets = {"": 17, "com.microsoft": 1}
    path = tmp_path / "q4.onnx"
    path.write_bytes(onnx_bytes(nodes, [info("x", [1, 64])], [info("y", [1, 32])], arrays, opsets=opsets))
    facts = inspect_model(path)
    (layer,) = facts.layers
    assert (layer.datatype, layer.scheme, layer.granularity) == ("UINT4", "weight-only", "per-block")
    assert (facts.parameters, facts.multiply_adds) == (2048, 2048)
    assert layer.measures is not None
    assert layer.measures.zeros == int((codes == 8).sum())
    assert "unstructured-sparsity" in kinds(facts)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.95])
def test_pruning_is_measured(share: float, tmp_path: Path) -> None:
    """Unstructured zeros within 1 % of the truth; the transfer gain is what deflate makes of the weights."""
    arrays = {name: pruned(array, share) for name, array in plain_arrays().items() if array.ndim > 1}
    path = plain(tmp_path / "pruned.onnx", **arrays)
    facts = inspect_model(path)
    # Of 95 % zeros some of 16 small filters keep nothing: that is a fact of its own.
    assert kinds(facts) - ({"structured-sparsity"} if share > 0.9 else set()) == {"unstructured-sparsity"}
    truth = sum(int((a == 0).sum()) for a in arrays.values()) / sum(a.size for a in arrays.values())
    assert finding(facts, "unstructured-sparsity")[1] == pytest.approx(truth, rel=0.01)
    everything = {**plain_arrays(), **arrays}
    raw = b"".join(a.tobytes() for a in everything.values())
    assert facts.transfer.ratio == pytest.approx(len(raw) / len(zlib.compress(raw, 6)), rel=0.01)
    said = next(s for s in facts.benefits if "zeros" in s)
    assert said == (
        f"{truth:.0%} zeros: no runtime here skips them; the gain is {facts.transfer.ratio:.1f} x in transfer only"
    )


def test_a_mask_in_the_graph_counts_as_pruning(tmp_path: Path) -> None:
    """W' = W * M with M as a constant of the graph: the zeros are those of the product."""
    w, mask = weights(64, 64), (np.random.default_rng(1).random((64, 64)) < 0.25).astype(np.float32)
    nodes = [node("Mul", ["w", "m"], ["wm"]), node("MatMul", ["x", "wm"], ["y"], name="masked")]
    path = tmp_path / "mask.onnx"
    path.write_bytes(onnx_bytes(nodes, [info("x", [1, 64])], [info("y", [1, 64])], {"w": w, "m": mask}))
    facts = inspect_model(path)
    assert finding(facts, "unstructured-sparsity")[1] == pytest.approx(float((mask == 0).mean()), rel=0.01)
    assert facts.parameters == 64 * 64


def test_two_of_four_and_whole_channels(tmp_path: Path) -> None:
    """2:4 along the summed axis is seen, along another it is not; dead channels are counted exactly."""
    arrays = plain_arrays()
    facts = inspect_model(plain(tmp_path / "24.onnx", m1=two_of_four(arrays["m1"], 0)))
    assert kinds(facts) == {"unstructured-sparsity", "two-of-four"}
    assert finding(facts, "two-of-four") == (1, 0.5)
    facts = inspect_model(plain(tmp_path / "other.onnx", m1=two_of_four(arrays["m1"], 1)))
    assert kinds(facts) == {"unstructured-sparsity"}
    arrays["c2"][5:13] = 0
    facts = inspect_model(plain(tmp_path / "dead.onnx", c2=arrays["c2"]))
    assert kinds(facts) == {"structured-sparsity"}
    layers, figure = finding(facts, "structured-sparsity")
    assert (layers, figure) == (1, 8 / 32)


def factored(tmp_path: Path, rank: int, *, bias: bool = False, relu: bool = False) -> GraphFacts:
    """Two matrices 128 x rank x 96 in a row, and two convolutions 32 -> rank -> 48."""
    arrays = {
        "u": weights(128, rank), "v": weights(rank, 96), "vb": weights(96),
        "cu": weights(rank, 32, 3, 3), "cv": weights(48, rank, 1, 1),
    }  # fmt: skip
    first = node("MatMul", ["x", "u"], ["h"], name="first")
    between = [node("Relu", ["h"], ["hr"], name="bend")] if relu else []
    nodes = [first, *between, node("Gemm", ["hr" if relu else "h", "v", "vb"], ["y"], name="second")]
    names = ["p", "cu"]
    if bias:
        arrays["cub"] = weights(rank)
        names.append("cub")
    nodes.append(node("Conv", names, ["q"], name="squeeze", pads=[1, 1, 1, 1]))
    nodes.append(node("Conv", ["q", "cv"], ["z"], name="expand"))
    inputs = [info("x", [1, 128]), info("p", [1, 32, 8, 8])]
    path = tmp_path / "factored.onnx"
    path.write_bytes(onnx_bytes(nodes, inputs, [info("y", [1, 96]), info("z", [1, 48, 8, 8])], arrays))
    return inspect_model(path)


def test_low_rank_pairs(tmp_path: Path) -> None:
    """Rank and full rank are the true ones, the parameters kept within 1 %; a bend or a bias makes it no pair."""
    facts = factored(tmp_path, 12)
    assert [(p.first, p.second, p.rank, p.full) for p in facts.low_rank] == [
        ("first", "second", 12, 96),
        ("squeeze", "expand", 12, 48),
    ]
    assert facts.low_rank[0].kept == pytest.approx(12 * (128 + 96) / (128 * 96), rel=0.01)
    assert facts.low_rank[1].kept == pytest.approx((12 * 32 * 9 + 48 * 12) / (48 * 32 * 9), rel=0.01)
    assert kinds(facts) == {"low-rank"}
    assert [p.first for p in factored(tmp_path, 12, bias=True, relu=True).low_rank] == []
    assert factored(tmp_path, 90).low_rank[0:1] == ()  # as many parameters as the full matrix


def test_clusters(tmp_path: Path) -> None:
    """W = codebook[index]: values and entropy are numpy's; a clustered weight stored in full is seen as well."""
    rng = np.random.default_rng(9)
    index = rng.choice(16, (128, 64), p=np.arange(1, 17) / 136).astype(np.int64)
    codebook = rng.standard_normal(16).astype(np.float32)
    counts = np.bincount(index.reshape(-1), minlength=16) / index.size
    truth = float(-(counts * np.log2(counts)).sum())
    nodes = [node("Gather", ["codebook", "index"], ["w"]), node("MatMul", ["x", "w"], ["y"], name="coded")]
    arrays = {"codebook": codebook, "index": index.astype(np.int32)}
    ends = [info("x", [1, 128])], [info("y", [1, 64])]
    path = tmp_path / "coded.onnx"
    path.write_bytes(onnx_bytes(nodes, *ends, arrays))
    facts = inspect_model(path)
    assert kinds(facts) == {"clustered"}
    (layer,) = facts.layers
    assert (layer.codebook, facts.parameters, layer.parameters) == (16, 128 * 64, 128 * 64)
    assert layer.measures is not None
    assert layer.measures.distinct == 16
    assert layer.measures.entropy_bits == pytest.approx(truth, rel=0.01)
    path.write_bytes(onnx_bytes(nodes[1:], *ends, {"w": codebook[index]}))
    facts = inspect_model(path)
    assert kinds(facts) == {"clustered-values-in-float"}
    assert finding(facts, "clustered-values-in-float")[1] == pytest.approx(truth, rel=0.01)
    even = (np.round(weights(128, 64) * 200) / 200).clip(-0.3, 0.3).astype(np.float32)
    path.write_bytes(onnx_bytes(nodes[1:], *ends, {"w": even}))
    assert "quantised-values-in-float" in kinds(inspect_model(path))


def test_shared_and_doubled_weights(tmp_path: Path) -> None:
    """One initializer in two layers is shared; the same bytes under two names are stored twice, and said so."""
    w = weights(64, 64)
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="a"),
        node("Relu", ["a"], ["r"], name="r"),
        node("MatMul", ["r", "w2"], ["y"], name="b"),
    ]
    path = tmp_path / "shared.onnx"
    ends = [info("x", [1, 64])], [info("y", [1, 64])]
    path.write_bytes(onnx_bytes(nodes, *ends, {"w": w, "w2": w}))
    facts = inspect_model(path)
    assert kinds(facts) == set()
    assert [(s.copies, s.users) for s in facts.shared] == [(2, ("a", "b"))]
    assert any("could be shared" in s for s in facts.benefits)
    nodes[2] = node("MatMul", ["r", "w"], ["y"], name="b")
    path.write_bytes(onnx_bytes(nodes, *ends, {"w": w}))
    facts = inspect_model(path)
    assert kinds(facts) == {"shared"}
    assert facts.parameters == 64 * 64


def test_published_counts(shared: Path, tmp_path: Path) -> None:
    """MobileNetV2 1.0 224: 3.5 M parameters, 300 M multiply-adds (its paper); DS-CNN S: 38.6 kB of int8 weights and
    data, 5.4 M operations (Hello Edge, table 5); ResNet8: 78,666 parameters, 12.5 M multiply-adds (MLPerf Tiny)."""
    facts = inspect_model(shared / "models" / "conse" / "mobilenet_v2_1.0_224_quant.tflite")
    assert facts.parameters == pytest.approx(3.5e6, rel=0.01)
    assert facts.multiply_adds == pytest.approx(300e6, rel=0.01)
    facts = inspect_model(shared / "models" / "mlperf-kws" / "kws_ref_model.tflite")
    assert facts.activation_bytes is not None
    assert facts.parameters + facts.activation_bytes == pytest.approx(38.6e3, rel=0.01)
    assert round(facts.multiply_adds / 1e6, 1) == 2.7
    facts = inspect_model(resnet8(tmp_path / "resnet8.onnx"))
    # Keras counts the running mean and variance of its 7 normalisations among the parameters.
    assert facts.parameters == pytest.approx(78_666, rel=0.01)
    assert facts.multiply_adds == pytest.approx(12.5e6, rel=0.01)
    assert facts.folding.after_convolution == 7


def test_ort_format_counts_the_same(tmp_path: Path) -> None:
    """The same model in ORT format has the same parameters and work, and its fused operators are named."""
    ort = pytest.importorskip("onnxruntime")
    source = resnet8(tmp_path / "resnet8.onnx")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "resnet8.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    want, got = inspect_model(source), inspect_model(tmp_path / "resnet8.ort")
    assert got.multiply_adds == want.multiply_adds
    assert got.folding.batch_normalizations == 0
    assert got.parameters == pytest.approx(want.parameters, rel=0.01)
    assert got.folding.fused_operators.get("FusedConv", 0) > 0


def test_rearranged_graphs_count_the_same(tmp_path: Path) -> None:
    """What ONNX Runtime writes at its highest level for this CPU: channels last, blocked layouts, fused operators."""
    ort = pytest.importorskip("onnxruntime")
    source = plain(tmp_path / "plain.onnx")
    want = inspect_model(source)
    quantised = static(source, tmp_path / "qdq.onnx")
    for name, model in (("plain", source), ("half", half(source, tmp_path / "half.onnx")), ("quantised", quantised)):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(tmp_path / f"{name}.ort")
        options.add_session_config_entry("session.save_model_format", "ORT")
        ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        facts = inspect_model(tmp_path / f"{name}.ort")
        assert (facts.multiply_adds, facts.not_counted) == (want.multiply_adds, {}), name
        assert facts.parameters == pytest.approx(want.parameters, rel=0.01)
        assert kinds(facts) == ({"qoperator"} if name == "quantised" else set())


@pytest.mark.parametrize("coordinates", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_weights_stored_without_their_zeros(coordinates: bool, inside: bool, tmp_path: Path) -> None:
    """ONNX's sparse tensors, as an initializer and in a Constant, by flat place and by coordinates: the zeros that are
    not stored are counted, shapes and work are those of the whole matrix; places outside it are refused."""
    onnx = pytest.importorskip("onnx")
    kept = pruned(plain_arrays()["m1"], 0.9)
    places = np.argwhere(kept) if coordinates else np.flatnonzero(kept)

    def store(model: Any, places: np.ndarray) -> None:
        values = onnx.helper.make_tensor("m1", onnx.TensorProto.FLOAT, [len(places)], kept[np.nonzero(kept)])
        index = onnx.numpy_helper.from_array(places.astype(np.int64), "m1_places")
        stored = onnx.helper.make_sparse_tensor(values, index, list(kept.shape))
        dense = next(t for t in model.graph.initializer if t.name == "m1")
        model.graph.initializer.remove(dense)
        if inside:
            model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["m1"], sparse_value=stored))
        else:
            model.graph.sparse_initializer.append(stored)

    source = plain(tmp_path / "plain.onnx")
    want = inspect_model(source)
    facts = inspect_model(change(source, tmp_path / "sparse.onnx", lambda model: store(model, places)))
    assert kinds(facts) == {"unstructured-sparsity"}
    assert finding(facts, "unstructured-sparsity") == (1, pytest.approx(0.9, rel=0.01))
    assert (facts.parameters, facts.multiply_adds) == (want.parameters, want.multiply_adds)
    wrong = change(source, tmp_path / "wrong.onnx", lambda model: store(model, places + kept.size))
    with pytest.raises(EdgekitError, match="places outside its shape"):
        inspect_model(wrong)


def test_shapes_are_those_of_the_runtime(shared: Path) -> None:
    """Every value of a transformer has the shape that ONNX Runtime gives it, shape arithmetic included."""
    onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from edgekit.compression.reading import read_network
    from edgekit.compression.shapes import Shapes
    from edgekit.compression.weights import Weights

    path = shared / "zoo" / "clip" / "model" / "onnx" / "model.onnx"
    network = read_network(path)
    inputs = {"pixel_values": (2, 3, 224, 224), "input_ids": (5, 77), "attention_mask": (5, 77)}
    with Weights(path) as stored:
        shapes = Shapes(stored)
        shapes.run(network.main, inputs)
    model = onnx.load(str(path))
    there = {o.name for o in model.graph.output}
    names = [o for n in model.graph.node if n.op_type != "Constant" for o in n.output if o not in there]
    model.graph.output.extend([onnx.ValueInfoProto(name=name) for name in names])
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    types = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
    feed = {i.name: np.ones(inputs[i.name], types[i.type]) for i in session.get_inputs()}
    for output, value in zip(session.get_outputs(), session.run(None, feed)):
        assert shapes.of(output.name) == value.shape, output.name


def test_what_cannot_be_counted_is_named(shared: Path) -> None:
    """A free axis leaves its layers uncounted and named; a shape on request counts them."""
    path = shared / "zoo" / "vit" / "model" / "onnx" / "model.onnx"
    facts = inspect_model(path)
    assert list(facts.not_counted.values()) == ["a size is not fixed"]
    whole = inspect_model(path, shapes={"pixel_values": (1, 3, 224, 224)})
    assert whole.not_counted == {}
    assert whole.multiply_adds == inspect_model(shared / "zoo" / "vit" / "tflite" / "vit.tflite").multiply_adds
    with pytest.raises(InputError, match="has no input 'image'"):
        inspect_model(path, shapes={"image": (1, 3, 224, 224)})


def test_scales_that_look_wrong_are_named(tmp_path: Path) -> None:
    """Saturated weights, unused levels, a zero scale, a bias scale that does not fit: each in its layer."""
    source = static(plain(tmp_path / "plain.onnx"), tmp_path / "good.onnx")
    assert not [layer.name for layer in inspect_model(source).layers if layer.doubts]

    def doubts(name: str, do: object) -> dict[str, str]:
        path = change(source, tmp_path / "bad.onnx", lambda model: replace_initializer(model, name, do))
        return {layer.name: layer.doubts[0] for layer in inspect_model(path).layers if layer.doubts}

    def saturate(q: np.ndarray) -> np.ndarray:
        return np.clip(q.astype(np.int32) * 4, -127, 127).astype(np.int8)

    assert "saturated" in doubts("m1_quantized", saturate)["dense1"]
    assert "levels" in doubts("m1_quantized", lambda q: (q // 16).astype(np.int8))["dense1"]

    def zero_one(s: np.ndarray) -> np.ndarray:
        s[3] = 0
        return s

    found = doubts("c2_scale", zero_one)
    assert list(found) == ["conv2"]
    assert "1 of 32 scales" in found["conv2"]
    assert "disagree" in doubts("c1_scale", lambda s: s * np.float32(3))["conv1"]

    def kill(q: np.ndarray) -> np.ndarray:
        q[4] = 0
        return q

    assert doubts("c2_quantized", kill) == {"conv2": "1 of 32 output channels are zero throughout"}


def test_external_weights_are_read(tmp_path: Path) -> None:
    """Weights beside the file are counted and measured; a path that leaves the folder is not followed."""
    onnx = pytest.importorskip("onnx")
    arrays = {name: pruned(array, 0.7) for name, array in plain_arrays().items() if array.ndim > 1}
    model = onnx.load_from_string(network_bytes({**plain_arrays(), **arrays}))
    path = tmp_path / "outside.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="outside.data", size_threshold=0)
    facts = inspect_model(path)
    assert facts.unread == ()
    assert "unstructured-sparsity" in kinds(facts)
    assert facts.size_bytes >= 4 * facts.parameters
    (tmp_path / "outside.data").unlink()
    facts = inspect_model(path)
    assert len(facts.unread) == 4
    assert facts.findings == () or kinds(facts) == set()


def test_targets_change_what_is_said(tmp_path: Path) -> None:
    """int8 is native where the CPU multiplies it, and said to be none where it does not."""
    path = TRIDIGIT / "image_int8.tflite"
    five = inspect_model(path, target=find_target("raspberry-pi-5")).benefits
    three = inspect_model(path, target=find_target("raspberry-pi-3")).benefits
    assert any("natively (asimddp)" in s for s in five)
    assert any("no int8 dot product" in s for s in three)
    android = inspect_model(TRIDIGIT / "image_int8.onnx", target=find_target("android-arm64")).benefits
    assert android[0].startswith("android-arm64 has no onnxruntime")


def test_bundles_and_folders(tridigit: Path, tmp_path: Path) -> None:
    """A bundle keeps its facts and takes sizes from its golden samples; a folder shows every model file; the table
    fits 100 columns and the JSON is plain."""
    found = inspect(str(tridigit), target=None, shapes={})
    assert found.about["name"] == "tridigit 1.0"
    assert set(found.graphs) == {"image", "audio", "text"}
    assert all(not g.not_counted and not g.assumed for g in found.graphs.values())
    folder = inspect(str(TRIDIGIT), target="raspberry-pi-5", shapes={})
    assert len(folder.graphs) == 18
    for text in (str(found), str(folder)):
        assert max(map(len, text.splitlines())) <= 100
    assert json.loads(json.dumps(folder.to_dict()))["graphs"]["image.onnx"]["parameters"] == 64384
    with pytest.raises(InputError, match="no model file"):
        inspect(str(tmp_path), target=None, shapes={})


def test_hostile_files_give_edgekit_errors(tmp_path: Path) -> None:
    """3,000 damaged files: an answer or an EdgekitError, never anything else."""
    static(plain(tmp_path / "plain.onnx"), tmp_path / "qdq.onnx")
    sources = [
        (TRIDIGIT / "text_int8.onnx").read_bytes(),
        (TRIDIGIT / "text_int8.tflite").read_bytes(),
        (TRIDIGIT / "text_fp16.tflite").read_bytes(),
    ]
    rng = np.random.default_rng(42)
    answered = refused = 0
    for source, suffix in zip(sources, (".onnx", ".tflite", ".tflite")):
        path = tmp_path / f"damaged{suffix}"
        head = min(len(source), 6000)
        for i in range(1000):
            data = bytearray(source)
            if i % 10 == 0:
                del data[int(rng.integers(1, len(data))) :]
            for at in rng.integers(0, min(head, len(data)), int(rng.integers(1, 6))):
                data[at] = int(rng.integers(0, 256))
            path.write_bytes(bytes(data))
            try:
                inspect_model(path)
                answered += 1
            except EdgekitError:
                refused += 1
    assert answered > 100
    assert refused > 100


def quantizer_files() -> dict[str, dict[str, Any]]:
    document: dict[str, dict[str, Any]] = json.loads(
        (ROOT / "tests" / "golden" / "quantized_tflite.json").read_text("utf-8")
    )
    return document


@pytest.mark.parametrize("name", sorted(quantizer_files()))
def test_files_of_ai_edge_quantizer(name: str, tmp_path: Path) -> None:
    """int8, int4 and int2, dynamic, weight-only and static: the scheme that was asked for, bits and scales as LiteRT
    itself reads them."""
    entry = quantizer_files()[name]
    path = tmp_path / "model.tflite"
    path.write_bytes(zlib.decompress(base64.b64decode(entry["deflated_base64"])))
    facts = inspect_model(path)
    assert kinds(facts) == {entry["scheme"]}
    assert finding(facts, entry["scheme"])[1] == entry["bits"]
    assert facts.parameters == inspect_model(TRIDIGIT / "text.tflite").parameters
    dense = [layer for layer in facts.layers if layer.op == "FULLY_CONNECTED"]
    matrices = [m for m in entry["matrices"].values() if m["shape"] == [64, 64]]
    assert len(dense) == 2
    grain = {1: "per-tensor", 64: "per-channel", 128: "per-block"}
    assert [layer.granularity for layer in dense] == [grain[m["scales"]] for m in matrices]
    assert not any(layer.doubts for layer in facts.layers)


@pytest.mark.filterwarnings("ignore:Warning. Enabling `experimental_preserve_all_tensors`:UserWarning")
def test_int16_data_with_int8_weights(tmp_path: Path) -> None:
    """Biases are 64 bits wide then; parameters and work are those of the float file all the same."""
    from ai_edge_quantizer import quantizer, recipe

    source, made = TRIDIGIT / "text.tflite", tmp_path / "int16x8.tflite"
    engine = quantizer.Quantizer(str(source), recipe.static_wi8_ai16())
    rows = np.random.default_rng(0).integers(0, 38, (8, 1, 8)).astype(np.int32)
    ranges = engine.calibrate({"serving_default": [{"input_ids": row} for row in rows]}, num_threads=1)
    made.write_bytes(bytes(engine.quantize(ranges, enable_progress_report=False).quantized_model))
    facts, want = inspect_model(made), inspect_model(source)
    assert (facts.parameters, facts.multiply_adds) == (want.parameters, want.multiply_adds)
    assert kinds(facts) == {"integer"}
    assert "INT16" in next(f.evidence for f in facts.findings if f.kind == "integer")
    assert {layer.datatype for layer in facts.layers if layer.op == "FULLY_CONNECTED"} == {"INT8"}
