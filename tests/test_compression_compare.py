"""Proves: models are compared on the same data with intervals, broken ones are caught and the layer is named."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from compression_models import change, dynamic, plain, replace_initializer, static
from graphs import info, node, onnx_bytes
from packing import TRIDIGIT, WORDS, changed_recipe, pack
from PIL import Image

from edgekit import results
from edgekit.cli import main
from edgekit.compression.agreement import agreement, correctness, cosine, word_error_rate
from edgekit.compression.intervals import (
    drop_interval,
    mean_interval,
    paired_difference,
    score_interval,
    wilson,
)
from edgekit.compression.onnx_network import parse_onnx_network
from edgekit.compression.reading import read_network
from edgekit.compression.signal import broken_layer, matched_values, snr_db
from edgekit.compression.tapping import compare_layers
from edgekit.errors import GateFailed, GateInconclusive, InputError
from edgekit.operations.advise import advise, precision_of
from edgekit.operations.compare import compare, compared_text, gate, write_page
from edgekit.operations.compare_records import Compared
from edgekit.operations.inspect import inspect


def quiet(text: str) -> None:
    """A note that nobody reads."""


@pytest.fixture(scope="module")
def digits(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 of the test pictures as FOLDER/<word>/<n>.png."""
    data = np.load(shared / "data" / "tridigit" / "mnist_t10k_first8000.npz")
    folder = tmp_path_factory.mktemp("digits")
    for i in range(7000, 7400):
        place = folder / WORDS[int(data["labels"][i])]
        place.mkdir(exist_ok=True)
        Image.fromarray(data["images"][i]).save(place / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """tridigit in four variants."""
    folder = tmp_path_factory.mktemp("variants")
    for name in ("fp32", "int8", "tflite-fp32", "tflite-int8"):
        pack(TRIDIGIT / "recipe.toml", folder / f"{name}.edgekit", name)
    return {path.stem: path for path in folder.glob("*.edgekit")}


def run(*sources: Path, data: Path | None, latency: bool = False, **changes: Any) -> Compared:
    options: dict[str, Any] = {"limit": None, "runs": 20, "seconds": 0.0, "qualities": (), "scales": ()}
    return compare([str(s) for s in sources], data=data, latency=latency, note=quiet, **{**options, **changes})


def broken_int8(folder: Path, suffix: str, damage: Callable[[Path], None]) -> Path:
    """The int8 variant of tridigit with its image graph damaged, and no golden sample but a text's to notice it by."""
    recipe = changed_recipe(folder, lambda text: text[: text.index("[[golden]]")] + text[text.rindex("[[golden]]") :])
    damage(recipe.parent / "weights" / f"image_int8.{suffix}")
    output = folder / "broken.edgekit"
    pack(recipe, output, "int8" if suffix == "onnx" else "tflite-int8")
    return output


def two_variants(text: str) -> str:
    """A recipe's text with its first two variants only."""
    blocks = text.split("[[variants]]")
    tail = blocks[-1][blocks[-1].index("[[golden]]") :]
    return "[[variants]]".join(blocks[:3]) + tail


# ---- intervals


def test_wilson_is_the_published_interval() -> None:
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20 and 1 of 29 with Wilson's score method."""
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = wilson(successes, n)
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert wilson(1, 29).low == pytest.approx(0.0061, abs=5e-5)
    assert wilson(1, 29).high == pytest.approx(0.1718, abs=5e-5)


def test_paired_difference_covers_the_truth() -> None:
    """Over 2,000 seeded experiments the interval holds the true difference in about 95 % of them."""
    rng = np.random.default_rng(11)
    p = np.array([0.80, 0.08, 0.04, 0.08])  # both, first only, second only, neither
    hits = 0
    for _ in range(2000):
        cells = rng.multinomial(150, p)
        first = [True] * (cells[0] + cells[1]) + [False] * (cells[2] + cells[3])
        second = [True] * cells[0] + [False] * cells[1] + [True] * cells[2] + [False] * cells[3]
        found = paired_difference(first, second)
        hits += found.low <= 0.04 <= found.high
    assert 0.93 <= hits / 2000 <= 0.98


def test_a_bootstrap_interval_and_the_choice_of_method() -> None:
    """Means of other scores: the interval is near the normal one; 0 and 1 alone take Wilson and Newcombe."""
    values = np.random.default_rng(5).normal(0.9, 0.05, 400).tolist()
    found = mean_interval(values)
    half = 1.96 * float(np.std(values)) / math.sqrt(400)
    assert found.low == pytest.approx(found.value - half, abs=half * 0.15)
    assert found.high == pytest.approx(found.value + half, abs=half * 0.15)
    assert score_interval([1.0, 0.0, 1.0]).method == "wilson"
    assert score_interval([0.5, 1.0]).method == "bootstrap"
    assert drop_interval([1.0, 1.0], [1.0, 0.0]).method == "newcombe"
    assert drop_interval([0.9, 1.0], [0.8, 0.9]).value == pytest.approx(0.1)
    with pytest.raises(InputError):
        paired_difference([True], [])


# ---- agreement


def result_of(kind: type[results.Result], **fields: Any) -> Any:
    return kind(timings={}, **fields)


def test_agreement_by_kind_of_result() -> None:
    """Each kind has its own measure; by hand: one of two boxes, three of four pixels, one word of four wrong."""
    one, two = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32), np.array([[0, 0, 10, 11]], np.float32)
    a = result_of(results.Detections, boxes=one, labels=["a", "b"], scores=[0.9, 0.8], keypoints=None)
    b = result_of(results.Detections, boxes=two, labels=["a"], scores=[0.9], keypoints=None)
    assert agreement(a, b) == pytest.approx(2 / 3)
    a = result_of(results.Segmentation, mask=np.array([[0, 1], [1, 1]], np.uint8), labels=["x", "y"])
    b = result_of(results.Segmentation, mask=np.array([[0, 1], [1, 0]], np.uint8), labels=["x", "y"])
    assert agreement(a, b) == 0.75
    a = result_of(results.Transcript, text="the cat sat down", tokens=[], timestamps=[])
    b = result_of(results.Transcript, text="the cat sat up", tokens=[], timestamps=[])
    assert agreement(a, b) == 0.75
    assert correctness(a, "The cat sat down") == 1.0
    vectors = [result_of(results.Embedding, embedding=np.array(v, np.float32)) for v in ([1, 0], [1, 1], [1, 0])]
    assert agreement(vectors[0], vectors[1]) == pytest.approx(1 / math.sqrt(2))
    assert agreement(vectors[0], vectors[2]) == 1.0
    depth = [result_of(results.Depth, predicted_depth=np.full((2, 2), v, np.float32)) for v in (2.0, 1.5)]
    assert agreement(*depth) == pytest.approx(0.75)
    raw = [result_of(results.Raw, tensors={"y": np.array([1.0, v])}) for v in (0.0, 1.0)]
    assert agreement(*raw) == pytest.approx(1 / math.sqrt(2))
    with pytest.raises(InputError, match="no label"):
        correctness(vectors[0], "cat")
    with pytest.raises(InputError, match="expected a Depth"):
        agreement(depth[0], raw[0])


def test_edge_cases_of_scores() -> None:
    """Zeros, NaN, other shapes and empty texts give a number between 0 and 1, never an error."""
    assert cosine(np.zeros(3), np.zeros(3)) == 1.0
    assert cosine(np.zeros(3), np.ones(3)) == 0.0
    assert cosine(np.ones(3), np.full(3, np.nan)) == 0.0
    assert cosine(np.ones(3), np.ones(4)) == 0.0
    assert word_error_rate([], []) == 0.0
    assert word_error_rate([], ["a"]) == 1.0
    assert word_error_rate("kitten", "sitting") == 3 / 6
    assert (snr_db(100.0, 1.0), snr_db(1.0, 0.0), snr_db(0.0, 1.0)) == (20.0, None, -200.0)


# ---- models


def test_int8_against_fp32_on_labelled_pictures(bundles: dict[str, Path], digits: Path, tmp_path: Path) -> None:
    """tridigit int8 is within 0.01 of fp32 on 400 pictures; every figure is there; table, JSON and page are written."""
    found = run(*(bundles[n] for n in ("fp32", "int8", "tflite-int8")), data=digits, latency=True)
    assert (found.samples, found.labelled, found.measure) == (400, True, "accuracy")
    fp32, int8, tflite = found.candidates
    assert fp32.score.value > 0.99
    for one in (int8, tflite):
        assert one.drop.value <= 0.01
        assert one.broken == ()
        assert one.latency is not None
        assert one.latency.ratio_low <= one.latency.ratio <= one.latency.ratio_high
        assert one.peak_bytes is not None
        assert one.multiply_adds == fp32.multiply_adds
    assert int8.size_bytes < fp32.size_bytes
    assert (int8.kinds, tflite.kinds, fp32.kinds) == (("qdq",), ("integer",), ())
    stages = {s.value: s.snr_db for s in int8.stages}
    assert stages["pixel_values"] is None
    assert 25 < (stages["image_embeds"] or 0) < 60
    assert all(25 < (n.snr_db or 0) < 60 for n in int8.layers["image"])
    assert tflite.layers == {}  # another format: layers do not match
    text = compared_text(found)
    assert max(map(len, text.splitlines())) <= 100
    document = json.loads(json.dumps(found.to_dict()))
    assert [c["name"] for c in document["candidates"]] == ["fp32", "int8", "tflite-int8"]
    page = tmp_path / "page.html"
    write_page(found, page)
    html = page.read_text("utf-8")
    assert html.count("<svg") == 2
    assert "Latency and score" in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert "<script" not in html
    with pytest.raises(GateInconclusive, match="may be more"):
        gate(found, 0.0001)
    gate(found, 0.05)


def test_a_layer_table_of_tflite(bundles: dict[str, Path], digits: Path) -> None:
    """TFLite against TFLite: the inner tensors are compared as well, dequantised by their own scales."""
    found = run(bundles["tflite-fp32"], bundles["tflite-int8"], data=digits, limit=40)
    noises = found.candidates[1].layers["image"]
    assert [n.op for n in noises].count("CONV_2D") == 4
    assert all(20 < (n.snr_db or 0) < 60 for n in noises)
    assert found.candidates[1].broken == ()


@pytest.mark.parametrize("layer", ["convolutions.1.0", "convolutions.3.0"])
def test_a_broken_int8_onnx_is_caught_with_its_layer(
    layer: str, bundles: dict[str, Path], digits: Path, tmp_path: Path
) -> None:
    """One layer's scales damaged: accuracy falls, the gate fails, and the damaged layer is the one that is named."""
    import onnx

    def damage(path: Path) -> None:
        model = onnx.load(str(path))
        (conv,) = [n for n in model.graph.node if n.op_type == "Conv" and n.name.endswith(f"{layer}/Conv")]
        makers = {o: n for n in model.graph.node for o in n.output}
        scale = makers[conv.input[1]].input[1]

        def shuffle(scales: np.ndarray) -> np.ndarray:
            wild = np.random.default_rng(2).permutation(scales) * np.float32(6)
            return np.asarray(wild.astype(np.float32))

        replace_initializer(model, scale, shuffle)
        path.write_bytes(model.SerializeToString())

    bad = broken_int8(tmp_path, "onnx", damage)
    found = run(bundles["fp32"], bad, data=digits, limit=100)
    one = found.candidates[1]
    assert len(one.broken) == 1
    assert one.broken[0].startswith(f"image: /{layer.split('.')[0]}.{layer.split('.')[1]}/")
    assert any(layer in doubt for doubt in one.doubts)  # inspect alone sees that the scales disagree
    # Behind the last convolution the answers hardly suffer (in none of the 100 pictures, where the runtime takes a
    # bias at input scale x weight scale whatever its own scale is, as 1.23 does): the layer is named all the same.
    assert one.worst or layer == "convolutions.3.0"
    with pytest.raises(GateFailed if layer == "convolutions.1.0" else GateInconclusive, match=re.escape(layer[:-2])):
        gate(found, 0.01)


def test_a_broken_int8_tflite_is_caught_with_its_layer(bundles: dict[str, Path], digits: Path, tmp_path: Path) -> None:
    """The scales of one convolution's weights in a .tflite, eight times too large: that convolution is named."""
    names = []

    def damage(path: Path) -> None:
        network = read_network(path)
        convolution = [n for n in network.main.nodes if n.op == "CONV_2D"][2]
        weight = network.main.constants[convolution.inputs[1]]
        assert weight.quantization is not None
        stored = np.array(weight.quantization.scales, "<f4")
        data = path.read_bytes()
        assert data.count(stored.tobytes()) == 1
        path.write_bytes(data.replace(stored.tobytes(), (stored * np.float32(8)).tobytes()))
        names.append(convolution.outputs[0])

    bad = broken_int8(tmp_path, "tflite", damage)
    found = run(bundles["tflite-fp32"], bad, data=digits, limit=60)
    (broken,) = found.candidates[1].broken
    assert broken.split(" (CONV_2D")[0].startswith("image: ")
    # Names of the float and the integer graph differ in their order of joined parts; the third convolution it is.
    reference = [n for n in found.candidates[1].layers["image"] if n.op == "CONV_2D"]
    assert broken.startswith(f"image: {reference[2].layer}")
    assert len(names) == 1


@pytest.mark.parametrize("form", ["qdq", "qoperator", "dynamic"])
def test_layers_match_in_every_form_of_quantisation(form: str, tmp_path: Path) -> None:
    """QDQ, QOperator and dynamic files of onnxruntime: layers match by the names that its quantisers leave, also where
    a Relu went into the quantiser's range; none looks broken, until one layer's weights are."""
    source = plain(tmp_path / "plain.onnx")
    path = tmp_path / "made.onnx"
    made = dynamic(source, path, signed=False) if form == "dynamic" else static(source, path, qdq=form == "qdq")
    rng = np.random.default_rng(8)
    feeds = [({"x": x}, {"x": x}) for x in rng.standard_normal((6, 1, 3, 16, 16)).astype(np.float32)]
    noises = compare_layers(read_network(source), read_network(made), feeds)
    assert len(noises) >= 5
    assert all(n.snr_db is not None and n.snr_db > 20 for n in noises)
    assert broken_layer(noises) is None

    def spoil(q: np.ndarray) -> np.ndarray:
        return np.asarray(np.roll(q, 3, axis=1))

    bad = change(made, tmp_path / "bad.onnx", lambda model: replace_initializer(model, "m1_quantized", spoil))
    broken = broken_layer(compare_layers(read_network(source), read_network(bad), feeds))
    assert broken is not None
    assert broken.layer in ("dense1", "relu3")  # the layer, or the Relu that was folded into it


def test_a_dequantised_value_behind_a_folded_relu_is_not_taken_for_the_one_before_it() -> None:
    """onnxruntime 1.23 leaves the folded Relu's own name on a DequantizeLinear; later ones do not leave it at all. A
    Relu that is still there keeps both values apart."""
    made = onnx_bytes(
        [
            node("Conv", ["x", "w"], ["h"], name="conv"),
            node("Relu", ["h"], ["r"], name="relu"),
            node("Flatten", ["r"], ["y"], name="flatten"),
        ],
        [info("x", [1, 1, 2, 2])],
        [info("y", [1, 4])],
        {"w": np.ones((1, 1, 1, 1), np.float32)},
    )
    first = parse_onnx_network(made, "", "first.onnx")
    folded = [node("QLinearConv", ["x"], ["h_quantized"]), node("DequantizeLinear", ["h_quantized"], ["r"])]
    kept = [
        node("QuantizeLinear", ["h"], ["h_QuantizeLinear_Output"]),
        node("DequantizeLinear", ["h_QuantizeLinear_Output"], ["h_DequantizeLinear_Output"]),
        node("Relu", ["h_DequantizeLinear_Output"], ["r"]),
    ]
    for nodes, want in (
        (folded, {"r": "r"}),
        (folded[:1], {"r": "h_quantized"}),
        (kept, {"h": "h_DequantizeLinear_Output", "r": "r"}),
    ):
        data = onnx_bytes(nodes, [info("x", [1, 1, 2, 2])], [info("r", [1, 1, 2, 2])])
        second = parse_onnx_network(data, "", "second.onnx")
        assert matched_values(first, second) == want


def test_golden_samples_and_their_limits(bundles: dict[str, Path]) -> None:
    """Without data the golden samples are compared: agreement, and a gate that says that this is too little."""
    found = run(bundles["fp32"], bundles["int8"], data=None)
    assert (found.samples, found.labelled, found.measure) == (3, False, "same label") or found.samples == 3
    assert found.candidates[1].score.value > 0.9
    with pytest.raises(GateInconclusive, match="3 samples"):
        gate(found, 0.5)


def test_csv_and_texts(bundles: dict[str, Path], digits: Path, tmp_path: Path) -> None:
    """A CSV with image and label gives what the folder gives; unlabelled texts are compared by their embeddings."""
    rows = [(p, p.parent.name) for p in sorted(digits.rglob("*.png"))[::20]]
    table = tmp_path / "some.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label"), *rows])
    found = run(bundles["fp32"], bundles["int8"], data=table)
    assert (found.samples, found.measure) == (20, "accuracy")
    texts = tmp_path / "texts.csv"
    texts.write_text("text\n" + "\n".join(WORDS) + "\n")
    found = run(bundles["fp32"], bundles["int8"], data=texts)
    assert found.measure == "cosine"
    assert 0.999 < found.candidates[1].score.low < 1.0
    for content, complaint in (("picture\nx\n", "expected the columns"), ("image\nnone.png\n", "no file none.png")):
        table.write_text(content)
        with pytest.raises(InputError, match=complaint):
            run(bundles["fp32"], bundles["int8"], data=table)


def test_compressed_pictures(bundles: dict[str, Path], shared: Path, tmp_path: Path) -> None:
    """Bytes fall with quality, decoding at a scale takes less time, and every row has its score and interval."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((shared / "data" / "photos").glob("*.jpg")):
        (folder / path.name).write_bytes(path.read_bytes())
    found = run(bundles["fp32"], data=folder, qualities=(95, 75, 50), scales=(1, 2, 4))
    rows = {(r.quality, r.scale): r for r in found.inputs}
    assert set(rows) == {(None, 1), *((q, s) for q in (95, 75, 50) for s in (1, 2, 4))}
    assert rows[95, 1].bytes > rows[75, 1].bytes > rows[50, 1].bytes
    assert rows[75, 4].bytes == rows[75, 1].bytes
    assert rows[None, 1].score.value == 1.0
    # The model sees 28 x 28 of it: quality 95 must be close to the file.
    assert rows[95, 1].score.value > 0.97
    assert all(r.decode_ms > 0 and r.pictures == len(list(folder.iterdir())) for r in found.inputs)
    with pytest.raises(InputError, match="1 to 100"):
        run(bundles["fp32"], data=folder, qualities=(0,))
    with pytest.raises(InputError, match="scales"):
        run(bundles["fp32"], data=folder, scales=(3,))


def test_the_command_line_and_its_gates(bundles: dict[str, Path], digits: Path, tmp_path: Path) -> None:
    """compare prints a table or JSON, writes the page; the gate's exit codes are 0, 9 (surely lost) and 10."""
    runner = CliRunner()
    page = tmp_path / "page.html"
    common = ["compare", str(bundles["fp32"]), str(bundles["int8"]), "--data", str(digits), "--limit", "60"]
    done = runner.invoke(main, [*common, "--no-latency", "--html", str(page), "--max-drop", "10%"])
    assert done.exit_code == 0, done.stderr
    assert page.is_file()
    done = runner.invoke(main, [*common, "--no-latency", "--json", "--max-drop", "0.1%"])
    assert done.exit_code == 10
    assert json.loads(done.stdout)["samples"] == 60
    done = runner.invoke(main, ["compare", str(bundles["fp32"]), "--data", str(digits)])
    assert done.exit_code == 4


# ---- advice


def test_advice_by_what_can_be_read() -> None:
    """The best variant follows the target's order; what does not run there says why; no time is made up."""
    for target, best in (("raspberry-pi-5", "tflite-int8"), ("linux-x86_64", "fp32"), ("android-arm64", "tflite-int8")):
        found = advise("tridigit", target=target, data=None, measure=False, note=quiet)
        assert found.best == best
        assert all(c.p50_ms is None and c.drop is None for c in found.choices)
        assert any("no latency was measured" in text for text in found.basis)
        assert max(map(len, str(found).splitlines())) <= 130
    refused = {c.variant: c.why_not for c in found.choices}
    assert refused["fp32"] == "needs onnxruntime, it has litert"
    with pytest.raises(InputError, match="not this machine"):
        advise("tridigit", target="raspberry-pi-5", data=None, measure=True, note=quiet)


def test_advice_for_a_folder_and_by_measuring(shared: Path, tmp_path: Path) -> None:
    """Model files are grouped by their variant, their precision is read from their contents; on this machine the
    fastest measured variant wins."""
    found = advise(str(shared / "zoo" / "vit"), target="raspberry-pi-5", data=None, measure=False, note=quiet)
    precisions = {c.variant: c.precision for c in found.choices}
    assert precisions == {
        "plain.onnx": "float32",
        "fp16.onnx": "float16",
        "quantized.onnx": "int8",
        "q4.onnx": "int4",
        "plain.tflite": "float32",
        "dynamic_int8.tflite": "int8",
    }
    assert found.best == "dynamic_int8.tflite"
    whisper = inspect(
        str(shared / "zoo" / "whisper" / "model" / "onnx" / "decoder_model_merged_quantized.onnx"),
        target=None,
        shapes={},
    )
    assert precision_of(whisper.graphs) == "float32"
    recipe = changed_recipe(tmp_path, two_variants)
    measured = advise(str(recipe), target=None, data=None, measure=True, note=quiet)
    timed = [c.p50_ms for c in measured.choices if c.p50_ms is not None]
    assert measured.best == min(measured.choices, key=lambda c: c.p50_ms or math.inf).variant
    assert len(timed) == 2
    assert measured.basis[0] == "latency measured on this machine, in turn"
