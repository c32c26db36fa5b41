"""Proves: every method of compress gives a recipe that packages and runs; inspect recognises it; it costs little."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compression_models import plain, plain_arrays
from packing import TRIDIGIT, WORDS, pack
from PIL import Image

from edgekit.compression.inspection import inspect_model
from edgekit.compression.methods import METHODS, Method, compress_onnx, parse_method, precision_after
from edgekit.compression.tflite_methods import compress_tflite
from edgekit.compression.weight_edits import kmeans, pack_int4
from edgekit.errors import EdgekitError, GraphRefused, InputError, RuntimeMissing
from edgekit.operations.compare import compared_text
from edgekit.operations.compare_records import Compared
from edgekit.operations.compress import compress, inline_toml

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


def quiet(text: str) -> None:
    """A note that nobody reads."""


def calibration() -> Any:
    rng = np.random.default_rng(4)
    return iter([{"x": rng.standard_normal((1, 3, 16, 16)).astype(np.float32)} for _ in range(8)])


def outputs(path: Path) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(6).standard_normal((8, 3, 16, 16)).astype(np.float32)
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize(
    ("method", "kind", "cosine", "smaller"),
    [
        ("fp16", "float16", 0.9999, 0.51),
        ("int8-dynamic", "dynamic", 0.999, 0.40),
        ("int8-static", "qdq", 0.99, 0.28),
        ("int4", "weight-only", 0.98, 0.25),
        ("prune:0.3", "unstructured-sparsity", 0.97, 1.01),
        ("mask-channels:0.25", "structured-sparsity", 0.5, 1.01),
        ("low-rank:0.8", "low-rank", 0.8, 0.95),
        ("cluster:32", "clustered", 0.99, 0.30),
    ],
)
def test_each_method_runs_and_is_recognised(
    method: str, kind: str, cosine: float, smaller: float, tmp_path: Path
) -> None:
    """On a network of convolutions and matrices: the output stays close, the kind is found, the file shrinks."""
    source = plain(tmp_path / "plain.onnx")
    made = tmp_path / "made.onnx"
    compress_onnx(source, made, [parse_method(method)], calibration)
    facts = inspect_model(made)
    assert kind in facts.kinds()
    want, got = outputs(source), outputs(made)
    alike = (want * got).sum(1) / np.linalg.norm(want, axis=1) / np.linalg.norm(got, axis=1)
    assert alike.min() > cosine
    assert made.stat().st_size < smaller * source.stat().st_size
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made.onnx", "plain.onnx"]


def test_methods_in_order(tmp_path: Path) -> None:
    """Pruned, then quantised: both kinds are there; nothing is left of the files between."""
    source, made = plain(tmp_path / "plain.onnx"), tmp_path / "made.onnx"
    compress_onnx(source, made, [parse_method("prune:0.7"), parse_method("int8-static")], calibration)
    facts = inspect_model(made)
    assert {"qdq", "unstructured-sparsity"} <= set(facts.kinds())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made.onnx", "plain.onnx"]
    assert precision_after([Method("prune", 0.7), Method("int8-static", None)], "float32") == "int8"
    assert precision_after([Method("prune", 0.7)], "float32") == "float32"


def test_the_laws_of_the_edits() -> None:
    """k-means puts every number to its nearest value; an int4 number is at most a step from its weight; the best
    approximation of a rank leaves the energy that was asked for."""
    numbers = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    codebook, index = kmeans(numbers, 16)
    nearest = np.abs(numbers[:, None] - codebook[None]).argmin(1)
    assert len(codebook) == 16
    assert np.abs(np.abs(numbers - codebook[index]) - np.abs(numbers - codebook[nearest])).max() < 1e-6
    matrix = np.random.default_rng(2).standard_normal((8, 70)).astype(np.float32)
    packed, scales = pack_int4(matrix)
    assert (packed.shape, scales.shape) == ((8, 3, 16), (24,))
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(8, 3, 32).astype(np.float32) - 8
    back = (codes * scales.reshape(8, 3, 1)).reshape(8, 96)[:, :70]
    step = np.repeat(np.abs(scales).reshape(8, 3), 32, axis=1)[:, :70]
    assert (np.abs(back - matrix) <= step * 1.001).all()


def test_low_rank_keeps_the_energy(tmp_path: Path) -> None:
    """The squared singular values kept are at least the share asked for, with one rank less they are not."""
    source, made = plain(tmp_path / "plain.onnx"), tmp_path / "made.onnx"
    compress_onnx(source, made, [parse_method("low-rank:0.8")], None)
    ranks = {pair.first: pair.rank for pair in inspect_model(made).low_rank}
    singular = np.linalg.svd(plain_arrays()["m1"].astype(np.float64), compute_uv=False) ** 2
    kept = np.cumsum(singular) / singular.sum()
    rank = ranks["dense1_u"]
    assert kept[rank - 1] >= 0.8 > kept[rank - 2]


def test_wrong_words_and_wrong_files(tmp_path: Path) -> None:
    """An unknown method, a missing or impossible amount, no data to calibrate on, a file that is no model."""
    for text in ("int3", "prune", "prune:2", "fp16:2", "cluster:1", "low-rank:0.1", "PRUNE:0.5", "prune:0.5x"):
        with pytest.raises(InputError):
            parse_method(text)
    assert [str(parse_method(t)) for t in ("fp16", "prune:0.50")] == ["fp16", "prune:0.5"]
    source = plain(tmp_path / "plain.onnx")
    with pytest.raises(InputError, match="calibrate"):
        compress_onnx(source, tmp_path / "made.onnx", [Method("int8-static", None)], None)
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x08no model at all")
    for name, kind in METHODS.items():
        method = Method(name, None if kind.amount is None else kind.amount[0])
        with pytest.raises(EdgekitError):
            compress_onnx(tmp_path / "bad.onnx", tmp_path / "made.onnx", [method], calibration)
    with pytest.raises(GraphRefused):
        inspect_model(tmp_path / "bad.onnx")
    assert inline_toml({"a b": [1, 2.5, True, "x\n"], "c": {}}) == '{ "a b" = [1, 2.5, true, "x\\n"], c = {} }'


@pytest.fixture(scope="module")
def data(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """200 test pictures, and 100 test recordings (takes 0 and 1), by label."""
    arrays = np.load(shared / "data" / "tridigit" / "mnist_t10k_first8000.npz")
    folders = [tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("recordings")]
    for i in range(7000, 7200):
        place = folders[0] / WORDS[int(arrays["labels"][i])]
        place.mkdir(exist_ok=True)
        Image.fromarray(arrays["images"][i]).save(place / f"{i}.png")
    for path in sorted((shared / "data" / "tridigit" / "recordings").glob("*_[01].wav")):
        place = folders[1] / WORDS[int(path.name[0])]
        place.mkdir(exist_ok=True)
        (place / path.name).write_bytes(path.read_bytes())
    return folders


TRIDIGIT_METHODS = (
    "fp16",
    "int8-dynamic",
    "int8-static",
    "int4",
    "prune:0.3",
    "prune-channels:0.07",
    "mask-channels:0.07",
    "low-rank:0.97",
    "cluster:32",
)


@pytest.mark.parametrize("method", TRIDIGIT_METHODS)
def test_tridigit_through_every_method(method: str, data: list[Path], tmp_path: Path) -> None:
    """The result packages and answers; pictures lose at most 0.01 with fp16 and int8, and little with the rest."""
    output = tmp_path / "made"
    found: Compared = compress(
        "tridigit",
        [method],
        output=output,
        data=data,
        runs=20,
        seconds=0.0,
        latency=method == "int8-static",
        note=quiet,
    )
    reference, made = found.candidates
    assert (found.samples, found.measure) == (200, "accuracy")
    assert reference.score.value > 0.99
    limit = 0.01 if method in ("fp16", "int8-dynamic", "int8-static") else 0.05
    assert made.drop.value <= limit
    if method.startswith("prune-channels"):  # what was taken out is no sparsity: there is less of everything
        assert made.parameters < reference.parameters
        assert (made.multiply_adds or 0) < (reference.multiply_adds or 0)
        assert made.size_bytes < reference.size_bytes
    else:
        assert made.kinds
    assert max(map(len, compared_text(found).splitlines())) <= 100
    variant = found.candidates[1].name
    manifest = pack(output / "recipe.toml", tmp_path / "again.edgekit", variant)
    assert manifest.name == "tridigit"
    assert {g.name for g in manifest.graphs} == {"image", "audio", "text"}
    truths = {g.truth for g in manifest.golden}
    assert truths in ({"external"}, {"self"})
    assert method not in ("fp16", "int8-static") or truths == {"external"}


@pytest.mark.parametrize(
    ("method", "kind", "noise_db", "smaller", "truth"),
    [
        ("fp16", "float16", 60, 0.57, "external"),
        ("int8-dynamic", "dynamic", 35, 0.36, "external"),
        ("int8-static", "integer", 30, 0.37, "external"),
        ("int4", "weight-only", 15, 0.25, "self"),
    ],
)
def test_tridigit_on_litert(
    method: str, kind: str, noise_db: float, smaller: float, truth: str, data: list[Path], tmp_path: Path
) -> None:
    """TFLite through ai-edge-quantizer: pictures lose at most 0.01, the kind is found, the golden samples of the
    original hold; int8-static takes integers, which the recipe says how to round to."""
    output = tmp_path / "made"
    options: dict[str, Any] = {"data": data, "runs": 1, "seconds": 0.0, "latency": False, "note": quiet}
    found = compress("tridigit@tflite-fp32", [method], output=output, **options)
    reference, made = found.candidates
    assert reference.score.value > 0.99
    assert made.drop.value <= 0.01
    assert made.kinds == (kind,)
    assert made.size_bytes < smaller * reference.size_bytes
    assert made.multiply_adds == reference.multiply_adds
    noise = {s.value: s.snr_db for s in made.stages}
    assert (noise["image_embeds"] or 0) > noise_db
    assert (noise["text_embeds"] or 0) > noise_db
    assert made.broken == ()
    manifest = pack(output / "recipe.toml", tmp_path / "again.edgekit", made.name)
    assert {g.runtime for g in manifest.graphs} == {"litert"}
    assert {g.truth for g in manifest.golden} == {truth}
    (port,) = next(g for g in manifest.graphs if g.name == "image").inputs
    assert (port.datatype, port.quantization is not None) == (
        ("INT8", True) if method == "int8-static" else ("FP32", False)
    )


def test_what_tflite_cannot_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edits of ONNX graphs, two methods, a file that is int8 already, no data, no quantiser, no model: refused."""
    options: dict[str, Any] = {"data": [], "runs": 1, "seconds": 0.0, "latency": False, "note": quiet}
    for variant, methods, told in (
        ("tflite-fp32", ["prune:0.5"], "works on ONNX graphs"),
        ("tflite-fp32", ["fp16", "int4"], "takes one method"),
        ("tflite-int8", ["fp16"], "is int8 already"),
        ("none", ["fp16"], "no variant none"),
    ):
        with pytest.raises(InputError, match=told):
            compress(f"tridigit@{variant}", methods, output=tmp_path / "made", **options)
    source, made = TRIDIGIT / "weights" / "text.tflite", tmp_path / "made.tflite"
    with pytest.raises(InputError, match="calibrate"):
        compress_tflite(source, made, [Method("int8-static", None)], None)
    (tmp_path / "bad.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(40))
    with pytest.raises(GraphRefused, match=r"bad.tflite: fp16 failed"):
        compress_tflite(tmp_path / "bad.tflite", made, [Method("fp16", None)], None)
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(RuntimeMissing) as missing:
        compress_tflite(source, made, [Method("fp16", None)], None)
    assert missing.value.hint == 'pip install "edgekit-sdk[compress]"'
    assert [p.name for p in tmp_path.iterdir()] == ["bad.tflite"]


def test_compress_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    """No recipe, no ONNX variant, a folder that is there already, no method: an InputError, and nothing is left."""
    options: dict[str, Any] = {"data": [], "runs": 1, "seconds": 0.0, "latency": False, "note": quiet}
    for source, methods in (("nothing", ["fp16"]), ("tridigit@nothing", ["fp16"]), ("tridigit", [])):
        with pytest.raises(InputError):
            compress(source, methods, output=tmp_path / "made", **options)
    with pytest.raises(InputError, match="exists already"):
        compress("tridigit", ["fp16"], output=tmp_path, **options)
    assert list(tmp_path.iterdir()) == []
    assert (TRIDIGIT / "recipe.toml").is_file()
