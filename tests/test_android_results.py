"""Issue 7, item 5: flow, postprocessing and whole answers of the Java library equal those of edgekit's predictor."""

from __future__ import annotations

import math
import random
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_specs import TRIDIGIT
from build_manifest import build_manifest
from graphs import affine_tflite, counter_tflite, quantized_tflite
from image_specs import image_spec, pad, resize
from jvm_bridge import Java, JavaError, start_java
from packing import SEVEN_PNG, SEVEN_WAV, WORDS
from PIL import Image

from edgekit.errors import EdgekitError
from edgekit.manifest import Constant, GraphSpec, State, dump_manifest
from edgekit.packaging.ports import read_all_ports
from edgekit.predictor import load
from edgekit.preprocess import sound
from edgekit.records import Json
from edgekit.specs import post
from edgekit.specs.image import Align
from edgekit.specs.tensor import TensorInput

CASES = 240


@pytest.fixture(scope="module")
def java() -> Iterator[Java]:
    """The library, compiled and running."""
    with start_java() as bridge:
        yield bridge


def bundle(folder: Path, files: dict[str, bytes], **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    settled = {"graphs": (), "golden": (), "requires": {}, "target": "android-arm64", **changes}
    (folder / "manifest.json").write_bytes(dump_manifest(build_manifest(files, **settled)))
    return folder


def answers(
    java: Java, folder: Path, given: dict[str, Any], *, text: Any = None, rate_hz: int = 0
) -> tuple[Any, Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Both results and both sets of values; the arrays of `given` are what Python takes, in Java's form."""
    keywords = dict(given)
    if "audio" in keywords:
        keywords["audio"] = (keywords["audio"], rate_hz)
    if text is not None:
        keywords["text"] = text
    with load(folder) as predictor:
        java.graphs = {spec.file: predictor._engine._graphs[spec.name] for spec in predictor.manifest.graphs}
        java.ask("load", folder=str(folder))
        try:
            result, values = predictor.trace(**keywords)
        except EdgekitError:
            with pytest.raises(JavaError, match=r"InputError|GraphRefused"):
                java.ask("predict", given, text=text, rate_hz=rate_hz)
            return None, None, {}, {}
        answer, found = java.ask("predict", given, text=text, rate_hz=rate_hz)
    wanted = result.to_dict()
    timings = wanted.pop("timings").keys(), answer["result"].pop("timings").keys()
    assert timings[0] - {"decode"} == timings[1]
    return wanted, answer["result"], values, found


def same(wanted: Json, got: Json, tolerance: float, key: str = "") -> None:
    """The same keys in the same order, the same words, and numbers within the tolerance of the largest of a list."""
    if isinstance(wanted, dict):
        assert list(wanted) == list(got), key
        for name in wanted:
            same(wanted[name], got[name], tolerance, f"{key}.{name}")
    elif isinstance(wanted, list):
        assert len(wanted) == len(got), key
        for a, b in zip(wanted, got):
            same(a, b, tolerance, key)
    elif isinstance(wanted, float):
        assert math.isclose(wanted, got, rel_tol=tolerance, abs_tol=tolerance), (key, wanted, got)
    else:
        assert wanted == got, key


def tensor_input(value: str, shape: Sequence[int], datatype: Any = "FP32") -> TensorInput:
    return TensorInput(kind="tensor", value=value, datatype=datatype, shape=tuple(shape))


def drawn_classification(choose: random.Random, numbers: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    classes, rows = choose.choice([1, 2, 10, 100]), choose.choice([1, 1, 4])
    activation: Any = choose.choice(["none", "softmax", "sigmoid"])
    aggregate: Any = choose.choice(["none", "mean", "max"])
    spec = post.Classification(
        task="classification",
        value="x",
        activation=activation,
        aggregate=aggregate,
        labels="labels.txt",
        top_k=choose.choice([0, 1, 5]),
    )
    array = (numbers.standard_normal((rows, classes)) * choose.choice([1, 50])).astype(np.float32)
    if choose.random() < 0.3:
        array = np.round(array)  # ties
    if choose.random() < 0.05:
        array[0, 0] = np.nan
    labels = "\n".join(f"label {i}" for i in range(classes)).encode()
    return {"inputs": {"x": tensor_input("x", (-1, classes))}, "postprocess": spec, "labels": labels}, {"x": array}


def drawn_embedding(choose: random.Random, numbers: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    mode: Any = choose.choice(["mean", "cls", "last", "max", None])
    if mode is not None and choose.random() < 0.5:  # frames of a sound, of which the mask says how many are real
        pooling = post.Pooling(mode=mode, mask="m")
        sources = {"audio": post.EmbeddingSource(value="input_features", pooling=pooling)}
        samples = numbers.uniform(-0.5, 0.5, (choose.choice([600, 3000, 9000]), 1)).astype(np.float32)
        embeddings = post.Embeddings(task="embedding", sources=sources, normalize=choose.random() < 0.5)
        spec_of = TRIDIGIT.replace(value="input_features", mask="m")
        return {"inputs": {"audio": spec_of}, "postprocess": embeddings}, {"audio": samples}
    tokens, width = choose.choice([1, 7]), choose.choice([3, 64])
    pooling = None if mode is None else post.Pooling(mode=mode, mask=None)
    spec = post.Embeddings(
        task="embedding",
        sources={"x": post.EmbeddingSource(value="x", pooling=pooling)},
        normalize=choose.random() < 0.5,
    )
    shape = (1, width) if mode is None else (1, tokens, width)
    return {"inputs": {"x": tensor_input("x", shape)}, "postprocess": spec}, {
        "x": numbers.standard_normal(shape).astype(np.float32)
    }


def drawn_detections(choose: random.Random, numbers: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    scoring: Any = choose.choice(["softmax_no_object", "sigmoid_top"])
    form: Any = choose.choice(["cxcywh", "xyxy"])
    unit: Any = choose.choice(["picture", "tensor"])
    queries, classes = choose.choice([1, 20]), choose.choice([2, 6])
    points = choose.choice([0, 0, 2])
    anchors = suppression = None
    if form == "cxcywh" and unit == "tensor" and choose.random() < 0.5:
        anchors = post.Anchors(height=64, width=48, strides=(16, 32), per_cell=(1, 2))
        queries = 4 * 3 + 2 * 2 * 2
    if choose.random() < 0.5:
        suppression = post.Suppression(method=choose.choice(["best", "weighted"]), overlap=choose.choice([0.0, 0.3]))
    spec = post.Detections(
        task="detections",
        boxes="b",
        logits="l",
        image="image",
        scoring=scoring,
        format=form,
        unit=unit,
        labels="labels.txt",
        threshold=choose.choice([0.0, 0.5]),
        top_k=choose.choice([0, 3]),
        anchors=anchors,
        suppression=suppression,
    )
    steps: list[Any] = [resize("longest_edge", 64, 64), pad("size", 64, 64)]
    if choose.random() < 0.3:
        steps.insert(0, Align(step="align_long_axis", height=64, width=32))
    inputs = {
        "image": image_spec(*steps, value="pixels"),
        "l": tensor_input("l", (1, queries, classes)),
        "b": tensor_input("b", (1, queries, 4 + 2 * points)),
    }
    labels = "\n".join(f"thing {i}" for i in range(classes)).encode()
    given = {
        "image": numbers.integers(0, 256, (choose.choice([30, 80]), choose.choice([50, 80]), 3), np.uint8),
        "l": (3 * numbers.standard_normal((1, queries, classes))).astype(np.float32),
        "b": (numbers.random((1, queries, 4 + 2 * points)) * choose.choice([1, 30])).astype(np.float32),
    }
    return {"inputs": inputs, "postprocess": spec, "labels": labels}, given


KINDS = {"classification": drawn_classification, "embedding": drawn_embedding, "detections": drawn_detections}


@pytest.mark.parametrize("kind", KINDS)
def test_results(kind: str, java: Java, tmp_path: Path) -> None:
    """Every field of each task: the same labels in the same order, numbers to 1e-6 (1e-4 from a sound's features)."""
    answered = 0
    for seed in range(CASES // len(KINDS)):
        changes, given = KINDS[kind](random.Random(seed), np.random.default_rng(seed))
        files = {"labels.txt": changes.pop("labels")} if "labels" in changes else {}
        wanted, got, _, _ = answers(java, bundle(tmp_path / str(seed), files, **changes), given, rate_hz=8000)
        if wanted is not None:
            same(wanted, got, 1e-6 if "audio" not in given else 1e-4, f"{seed}")
            answered += 1
    assert answered > CASES // len(KINDS) // 2


def graph(folder: Path, make: Any, name: str, **changes: Any) -> tuple[GraphSpec, dict[str, bytes]]:
    path = make(folder / f"{name}.tflite")
    inputs, outputs = read_all_ports(path, "litert", changes.pop("rounding", "nearest_even"))
    fields: dict[str, Any] = {
        "name": name,
        "file": path.name,
        "data": None,
        "runtime": "litert",
        "role": "model",
        "precision": "float32",
        "inputs": inputs,
        "outputs": outputs,
        "state": (),
        "constants": (),
    }
    return GraphSpec(**{**fields, **changes}), {path.name: path.read_bytes()}


def raw(*values: str) -> post.Raw:
    return post.Raw(task="raw", values=values)


def bits(values: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    assert values.keys() == found.keys()
    for name, array in values.items():
        assert (array.dtype, array.shape) == (found[name].dtype, found[name].shape), name
        assert np.array_equal(array, found[name]), name


@pytest.mark.parametrize("rounding", ["nearest_even", "nearest_away", "trunc"])
def test_flow_quantises_at_ports(rounding: str, java: Java, tmp_path: Path) -> None:
    """Real values go in and come out of a quantised graph; every value of the flow is the same to the bit."""
    spec, files = graph(tmp_path, quantized_tflite, "q", rounding=rounding)
    shape = spec.inputs[0].shape
    folder = bundle(tmp_path / "b", files, graphs=(spec,), postprocess=raw(spec.outputs[0].value), inputs={
        "x": tensor_input(spec.inputs[0].value, shape)
    })  # fmt: skip
    for seed in range(20):
        array = np.random.default_rng(seed).uniform(-3, 3, shape).astype(np.float32)
        wanted, got, values, found = answers(java, folder, {"x": array})
        bits(values, found)
        same(wanted, got, 0.0)


def test_flow_rows_and_chains(java: Java, tmp_path: Path) -> None:
    """A graph of one row is run once per row, one with a free axis once; graphs feed one another."""
    fixed, first = graph(tmp_path, lambda p: affine_tflite(p, dynamic=False), "fixed")
    free, second = graph(tmp_path, affine_tflite, "free")
    free = free.replace(inputs=(free.inputs[0].replace(value="y"),), outputs=(free.outputs[0].replace(value="z"),))
    for width in (1, 5):
        folder = bundle(
            tmp_path / f"b{width}",
            {**first, **second},
            graphs=(free, fixed),
            postprocess=raw("z"),
            inputs={"x": tensor_input("x", (-1, 4))},
        )
        array = np.random.default_rng(1).standard_normal((width, 4)).astype(np.float32)
        wanted, got, values, found = answers(java, folder, {"x": array})
        bits(values, found)
        same(wanted, got, 0.0)


def test_flow_state_and_constants(java: Java, tmp_path: Path) -> None:
    """State starts at zeros and goes from row to row; a constant input is fed in every run."""
    carried, files = graph(tmp_path, counter_tflite, "counter")
    ports = {p.name: p for p in carried.inputs}
    stateful = carried.replace(
        inputs=(ports["x"],), state=(State(input="state", output="state_out", init="zeros"),), outputs=carried.outputs
    )
    constant = carried.replace(
        inputs=(ports["x"],), constants=(Constant(name="state", datatype="FP32", shape=(1, 3), data=(1.0, 2.0, 3.0)),)
    )
    array = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    for index, spec in enumerate((stateful, constant)):
        folder = bundle(
            tmp_path / f"b{index}",
            files,
            graphs=(spec,),
            postprocess=raw("y", "state_out"),
            inputs={"x": tensor_input("x", (-1, 3))},
        )
        wanted, got, values, found = answers(java, folder, {"x": array})
        bits(values, found)
        same(wanted, got, 0.0)


def unpacked(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def test_tridigit_answers(java: Java, tridigit_tflite: Path, tmp_path: Path) -> None:
    """A picture and a sound against ten words, and each side alone: the answers are edgekit.predict's."""
    folder = unpacked(tridigit_tflite, tmp_path / "b")
    with load(folder) as predictor:
        spec: Any = predictor.manifest.inputs["audio"]
        samples, rate_hz = sound.decode(spec, str(SEVEN_WAV), predictor.manifest.limits)
    with Image.open(SEVEN_PNG) as file:
        pixels = np.asarray(file.convert("RGB"))
    given: list[tuple[dict[str, Any], Any]] = [
        ({"image": pixels}, list(WORDS)),
        ({"audio": samples}, list(WORDS)),
        ({"image": pixels}, None),
        ({"audio": samples}, None),
        ({}, "seven"),
        ({}, list(WORDS)),
        ({"image": pixels, "audio": samples}, None),
        ({"image": pixels}, ["a", "a"]),
    ]
    kinds = []
    for arrays, text in given:
        wanted, got, _, _ = answers(java, folder, arrays, text=text, rate_hz=rate_hz)
        if wanted is not None:
            same(wanted, got, 1e-4)
        kinds.append(None if wanted is None else wanted.get("label", "embedding"))
    assert kinds == ["seven", "seven", "embedding", "embedding", "embedding", None, None, None]


def test_a_manifest_that_is_not_understood_is_refused(java: Java, tmp_path: Path) -> None:
    """Unknown, missing and doubled keys and another format are errors that name the key, as in Python."""
    text = dump_manifest(
        build_manifest({}, graphs=(), golden=(), inputs={}, postprocess=raw("x"), requires={})
    ).decode()
    assert java.ask("manifest", text=text)[0]["name"] == "everything"
    for old, new, key in (
        ('"format":1', '"format":2', "format"),
        ('"name":', '"extra":1,"name":', "extra"),
        ('"license":"Apache-2.0",', "", "license"),
        ('"task":"raw"', '"task":"other"', "postprocess.task"),
        ('"version":', '"version":"1","version":', "version"),
        ('"audio_seconds":600.0', '"audio_seconds":600', "limits.audio_seconds"),
    ):
        assert old in text
        with pytest.raises(JavaError, match=f"BundleError.*{key}"):
            java.ask("manifest", text=text.replace(old, new, 1))
