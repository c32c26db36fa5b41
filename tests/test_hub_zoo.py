"""Promise: every folder of shared/zoo, ONNX and TFLite, every variant, is packaged by one command with no recipe and
answers as transformers 4.57 did (expected.npz)."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from click.testing import CliRunner

from edgekit import results
from edgekit.cli import main
from edgekit.predictor import Predictor, load

PIXELS = 1e-6 if int(PIL.__version__.split(".")[0]) >= 13 else 2.001 / 255 / 0.22
"""Pillow 13 resamples columns before rows where a tall picture shrinks; older ones differ there by a level."""

PICTURES = ["cat.png", "rocket.jpg", "astronaut.png", "camera_grey.png", "logo_rgba.png", "cat_exif_rotated.jpg"]
ONNX = ("fp32", "fp16", "q4", "quantized")
TFLITE = ("tflite", "tflite_dynamic_int8")
CASES = {
    "ast": ("fp32",),
    "clip": ONNX + TFLITE,
    "convnext": ("fp32", *TFLITE),
    "distilbert-sentiment": ("fp32",),
    "minilm-embedding": ONNX + TFLITE,
    "vit": ONNX + TFLITE,
    "wav2vec2": ("fp32", *TFLITE),
    "yolos": ("fp32",),
}
PAIRS = [(case, variant) for case, variants in CASES.items() for variant in variants]
CLASS = {"fp32": 1e-4, "tflite": 1e-3, "fp16": 5e-2}
"""Of the outputs' scale: the issue's bound for float32 ONNX, DESIGN's for the other classes.

int8 and int4 of these random weights are up to 1.15 off the float32 model whoever runs them; there the truth is the
same file run by its runtime alone on transformers' own tensors (`direct`), and the deviation from float32 is reported.
"""

Open = Callable[[str, str], Predictor]


@pytest.fixture(scope="module")
def opened(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Packages a zoo folder by the command line, once, and loads the bundle."""
    folder = tmp_path_factory.mktemp("zoo")
    kept: dict[tuple[str, str], Predictor] = {}

    def open_case(case: str, variant: str) -> Predictor:
        if (case, variant) not in kept:
            output = folder / f"{case}-{variant}.edgekit"
            command = ["package", str(shared / "zoo" / case / "model"), "--variant", variant, "-o", str(output)]
            result = CliRunner().invoke(main, [*command, "--target", "linux-x86_64"])
            assert result.exit_code == 0, result.output
            assert ("of its scale from float32 on a drawn sample" in result.output) == (variant != "fp32")
            kept[case, variant] = load(output, text_memory=0)
        return kept[case, variant]

    yield open_case
    for predictor in kept.values():
        predictor.close()


@pytest.fixture(scope="module")
def expected(shared: Path) -> Callable[[str], Any]:
    def read(case: str) -> dict[str, Any]:
        with np.load(shared / "zoo" / case / "expected.npz") as arrays:
            return dict(arrays)

    return read


def off(got: Any, want: Any) -> float:
    """The largest difference over the largest magnitude of what is expected."""
    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(b).max())


def direct(path: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    """The outputs of a graph file, run by onnxruntime or ai_edge_litert without any of edgekit."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds)))
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), feeds.values()):
        interpreter.set_tensor(detail["index"], value.astype(detail["dtype"]))
    interpreter.invoke()
    return {"only": interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()}


def file_of(shared: Path, case: str, variant: str, stem: str = "") -> Path:
    folder = shared / "zoo" / case
    if variant.startswith("tflite"):
        return folder / "tflite" / f"{stem or case.split('-')[0]}{variant.removeprefix('tflite')}.tflite"
    inner = folder / "model" / "onnx"
    return (inner if inner.is_dir() else inner.parent) / f"model{'' if variant == 'fp32' else '_' + variant}.onnx"


def padded(rows: Any, width: int) -> Any:
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])))


def check_deviation(case: str, variant: str, deviations: list[float]) -> None:
    print(f"{case} {variant}: {max(deviations):.2g} of scale from float32")  # pytest -rP shows it
    assert max(deviations) <= CLASS.get(variant, 1.2)


def softmax(logits: Any) -> Any:
    exponent = np.exp(logits.astype(np.float64) - logits.max())
    return exponent / exponent.sum()


@pytest.mark.parametrize(("case", "variant"), [p for p in PAIRS if p[0] in ("vit", "convnext")])
def test_image_classification(opened: Open, expected: Any, shared: Path, case: str, variant: str) -> None:
    if case == "vit" and PIXELS > 1e-6:
        pytest.skip("a tall picture is among them, and Pillow before 13 resamples it in another order by a level")
    predictor, truth = opened(case, variant), expected(case)
    labels = list(json.loads((shared / "zoo" / case / "model" / "config.json").read_text())["id2label"].values())
    deviations = []
    for name in PICTURES:
        result, values = predictor.trace(image=shared / "zoo" / "inputs" / name)
        pixels = truth[f"{name}/pixel_values"]
        pixels = np.moveaxis(pixels, 1, -1) if variant.startswith("tflite") else pixels
        assert np.abs(values["pixel_values"] - pixels).max() <= PIXELS
        alone = next(iter(direct(file_of(shared, case, variant), {"pixel_values": pixels}).values()))
        assert off(values["logits"], alone) <= 1e-4
        deviations.append(off(values["logits"], truth[f"{name}/logits"]))
        assert isinstance(result, results.Classification)
        assert result.label == labels[int(alone.argmax())]
        assert [result.scores[label] for label in labels] == pytest.approx(softmax(alone[0]).tolist(), abs=1e-4)
        if variant in CLASS:
            assert result.label == labels[int(truth[f"{name}/logits"].argmax())]
    check_deviation(case, variant, deviations)


@pytest.mark.parametrize("variant", CASES["clip"])
def test_clip(opened: Open, expected: Any, shared: Path, variant: str) -> None:
    """Each side alone, as its half of the merged graph; the scores as all of it gives them."""
    predictor, truth = opened("clip", variant), expected("clip")
    texts = json.loads((shared / "zoo" / "inputs" / "texts.json").read_text())
    tflite = variant.startswith("tflite")
    if tflite:
        pictures, sentences = (file_of(shared, "clip", variant, f"clip_{side}") for side in ("vision", "text"))
        rows = [np.moveaxis(truth["pixel_values"][i : i + 1], 1, -1) for i in range(6)]
        images = np.concatenate([direct(pictures, {"x": row})["only"] for row in rows])
        words = np.concatenate([direct(sentences, {"x": truth["input_ids"][i : i + 1]})["only"] for i in range(5)])
        images, words = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, words))
    else:
        # One by one, as predict runs them: int8 activations are scaled by what is in the batch.
        runs = []
        for i in range(6):
            k = min(i, 4)
            count = int(truth["attention_mask"][k].sum())
            feeds = {name: truth[name][k : k + 1, :count] for name in ("input_ids", "attention_mask")}
            feeds["pixel_values"] = truth["pixel_values"][i : i + 1]
            runs.append(direct(file_of(shared, "clip", variant), feeds))
        images = np.concatenate([run["image_embeds"] for run in runs])
        words = np.concatenate([run["text_embeds"] for run in runs[:5]])
    deviations = []
    for row, text in enumerate(texts):
        result, values = predictor.trace(text=text)
        count = int(truth["attention_mask"][row].sum())
        assert values["input_ids"][0, :count].tolist() == truth["input_ids"][row, :count].tolist()
        assert isinstance(result, results.Embedding)
        assert off(result.embedding, words[row]) <= 1e-4
        deviations.append(off(result.embedding, truth["text_embeds"][row]))
    for row, name in enumerate(PICTURES):
        picture = shared / "zoo" / "inputs" / name
        alone, values = predictor.trace(image=picture)
        pixels = np.moveaxis(values["pixel_values"], -1, 1) if tflite else values["pixel_values"]
        assert np.abs(pixels[0] - truth["pixel_values"][row]).max() <= PIXELS
        assert isinstance(alone, results.Embedding)
        assert off(alone.embedding, images[row]) <= 1e-4
        deviations.append(off(alone.embedding, truth["image_embeds"][row]))
        result = predictor.predict(image=picture, text=texts)
        assert isinstance(result, results.Similarity)
        if variant in ("fp32", "tflite"):
            want = softmax(truth["logits_per_image"][row])
            assert [result.scores[text] for text in texts] == pytest.approx(want.tolist(), abs=2e-4)
            assert result.label == texts[int(want.argmax())]
    spec = predictor.manifest.postprocess
    assert abs(spec.scale - float(np.exp(np.float32(2.6592)))) < 1e-4  # type: ignore[union-attr]  # the model's weight
    check_deviation("clip", variant, deviations)


@pytest.mark.parametrize("variant", CASES["minilm-embedding"])
def test_minilm(opened: Open, expected: Any, shared: Path, variant: str) -> None:
    predictor, truth = opened("minilm-embedding", variant), expected("minilm-embedding")
    deviations = []
    for row, text in enumerate(json.loads((shared / "zoo" / "inputs" / "texts.json").read_text())):
        result, values = predictor.trace(text=text)
        count = int(truth["attention_mask"][row].sum())
        assert values["attention_mask"].sum() == count
        assert values["input_ids"][0, :count].tolist() == truth["input_ids"][row, :count].tolist()
        feeds = {name: truth[name][row : row + 1, :count] for name in ("input_ids", "attention_mask")}
        if variant.startswith("tflite"):
            feeds = {name: padded(ids, 64) for name, ids in feeds.items()}
        else:
            feeds["token_type_ids"] = np.zeros_like(feeds["input_ids"])
        alone = next(iter(direct(file_of(shared, "minilm-embedding", variant), feeds).values()))
        assert off(values["last_hidden_state"], alone) <= 1e-4
        mean = alone[0, :count].mean(axis=0)
        assert isinstance(result, results.Embedding)
        assert off(result.embedding, mean / np.linalg.norm(mean)) <= 1e-4
        deviations.append(off(values["last_hidden_state"][0, :count], truth["last_hidden_state"][row, :count]))
        deviations.append(off(result.embedding, truth["mean_pooled_normalised"][row]))
    check_deviation("minilm-embedding", variant, deviations)


def test_distilbert(opened: Open, expected: Any, shared: Path) -> None:
    predictor, truth = opened("distilbert-sentiment", "fp32"), expected("distilbert-sentiment")
    for row, text in enumerate(json.loads((shared / "zoo" / "inputs" / "texts.json").read_text())):
        result, values = predictor.trace(text=text)
        count = int(truth["attention_mask"][row].sum())
        assert values["input_ids"].tolist() == [truth["input_ids"][row, :count].tolist()]
        assert off(values["logits"], truth["logits"][row : row + 1]) <= 1e-4
        assert isinstance(result, results.Classification)
        assert result.label == ("NEGATIVE", "POSITIVE")[int(truth["logits"][row].argmax())]


def test_ast(opened: Open, expected: Any, shared: Path) -> None:
    predictor, truth = opened("ast", "fp32"), expected("ast")
    result, values = predictor.trace(audio=shared / "zoo" / "inputs" / "jfk_16k.wav")
    assert np.abs(values["input_values"] - truth["input_values"]).max() <= 1e-4
    assert off(values["logits"], truth["logits"]) <= 1e-4
    assert isinstance(result, results.Classification)
    assert result.label == ["cat", "dog", "rocket", "astronaut", "coffee"][int(truth["logits"].argmax())]


def test_wav2vec2(opened: Open, expected: Any, shared: Path) -> None:
    predictor, truth = opened("wav2vec2", "fp32"), expected("wav2vec2")
    result, values = predictor.trace(audio=shared / "zoo" / "inputs" / "jfk_16k.wav")
    assert np.abs(values["input_values"] - truth["jfk_16k.wav/input_values"]).max() <= 1e-6
    assert off(values["logits"], truth["jfk_16k.wav/logits"]) <= 1e-4
    assert isinstance(result, results.Transcript)
    assert result.text == str(truth["jfk_16k.wav/text"])
    assert 0 not in result.tokens  # the blank
    words = [piece["text"] for piece in result.timestamps]
    assert words == result.text.split()
    times = [(piece["start"], piece["end"]) for piece in result.timestamps]
    assert all(a < b for a, b in times)
    assert times == sorted(times)
    assert times[-1][1] <= 11.0


@pytest.mark.parametrize("variant", TFLITE)
def test_wav2vec2_of_fixed_length(opened: Open, expected: Any, shared: Path, variant: str) -> None:
    """A static graph of 64000 samples hears the beginning as the free one does, and all of a longer sound in pieces."""
    with wave.open(str(shared / "zoo" / "inputs" / "jfk_16k.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    free, fixed = opened("wav2vec2", "fp32"), opened("wav2vec2", variant)
    heard, values = free.trace(audio=(samples[:64000], 16000))
    again, same = fixed.trace(audio=(samples[:64000], 16000))
    assert np.abs(values["input_values"] - same["input_values"]).max() <= 1e-6
    path = file_of(shared, "wav2vec2", variant)
    assert off(same["logits"], direct(path, {"x": values["input_values"]})["only"]) <= 1e-4
    check_deviation("wav2vec2", variant, [off(same["logits"], values["logits"])])
    if variant == "tflite":
        assert again.to_dict()["text"] == heard.to_dict()["text"]
    whole, pieces = fixed.trace(audio=(samples, 16000))
    assert pieces["logits"].shape[0] == 3
    assert isinstance(whole, results.Transcript)
    assert whole.timestamps[-1]["end"] <= 11.0


def test_yolos(opened: Open, expected: Any, shared: Path) -> None:
    predictor, truth = opened("yolos", "fp32"), expected("yolos")
    labels = ["cat", "dog", "rocket", "astronaut", "coffee"]
    for name in PICTURES[:3]:
        result, values = predictor.trace(image=shared / "zoo" / "inputs" / name)
        assert np.abs(values["pixel_values"] - truth[f"{name}/pixel_values"]).max() <= PIXELS
        assert off(values["logits"], truth[f"{name}/logits"]) <= 1e-4
        assert off(values["pred_boxes"], truth[f"{name}/pred_boxes"]) <= 1e-4
        assert isinstance(result, results.Detections)
        order = np.argsort(-truth[f"{name}/scores"], kind="stable")
        assert len(result.scores) == len(order) == 20
        assert off(result.scores, truth[f"{name}/scores"][order]) <= 1e-4
        assert off(result.boxes, truth[f"{name}/boxes_xyxy"][order]) <= 1e-4
        assert result.labels == [labels[i] for i in truth[f"{name}/labels"][order]]


@pytest.mark.parametrize(("case", "variant"), PAIRS)
def test_golden_sample_travels(opened: Open, case: str, variant: str) -> None:
    """Made by the folder's own graphs, so its truth is `self`; it passes where it was made."""
    from edgekit import golden

    predictor = opened(case, variant)
    assert [sample.truth for sample in predictor.manifest.golden] == ["self"]
    assert golden.check(predictor).passed


@pytest.mark.parametrize("case", CASES)
def test_without_a_variant_the_target_decides_and_says_why(shared: Path, tmp_path: Path, case: str) -> None:
    first = {"linux-x86_64": "variant fp32", "raspberry-pi-5": "variant"}
    for target, words in first.items():
        output = tmp_path / f"{target}.edgekit"
        result = CliRunner().invoke(
            main, ["package", str(shared / "zoo" / case / "model"), "--target", target, "-o", str(output)]
        )
        assert result.exit_code == 0, result.output
        assert f"{words}" in result.output
        assert f"{target} prefers" in result.output
        with load(output) as predictor:
            litert = "tflite" in CASES[case]
            if target == "raspberry-pi-5" and litert:
                assert {g.runtime for g in predictor.manifest.graphs} == {"litert"}
