"""Issue 7: what is packaged for Android answers in MediaPipe Tasks, whose loader reads the metadata alone.

MediaPipe is heavy and brings its own numpy: it runs in an environment of its own, named by EDGEKIT_MEDIAPIPE_PYTHON
(mediapipe_env.sh makes it).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packing import ROOT, TRIDIGIT, quiet
from PIL import Image

from edgekit.formats.tflite import read_metadata
from edgekit.manifest import GraphSpec
from edgekit.packaging import android
from edgekit.packaging.build import build
from edgekit.packaging.draft import Draft
from edgekit.packaging.metadata_writer import Calibration, ModelNotes, dump_metadata
from edgekit.packaging.ports import read_all_ports
from edgekit.packaging.recipe import known_recipes, read_recipe
from edgekit.packaging.tflite_metadata import read_tflite
from edgekit.predictor import Predictor, load
from edgekit.preprocess import audio, sound
from edgekit.specs.post import Embeddings, EmbeddingSource
from edgekit.targets import find_target

RUNNER = ROOT / "tests" / "mediapipe_runner.py"


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter that has MediaPipe."""
    found = os.environ.get("EDGEKIT_MEDIAPIPE_PYTHON")
    if not found:
        pytest.skip("EDGEKIT_MEDIAPIPE_PYTHON is not set: tests/mediapipe_env.sh makes the environment it names")
    return found


def ask(python: str, do: str, **request: Any) -> Any:
    done = subprocess.run(
        [python, str(RUNNER)], input=json.dumps({"do": do, **request}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def packaged(draft: Draft, folder: Path) -> tuple[Predictor, dict[str, Path]]:
    """The bundle for Android, opened here, and its graphs as files."""
    target = find_target("android-arm64")
    build(draft, target, folder / "b.edgekit")
    predictor = load(folder / "b.edgekit")
    graphs = {}
    for spec in predictor.manifest.graphs:
        graphs[spec.name] = folder / spec.file
        graphs[spec.name].write_bytes(predictor.read(spec.file))
    return predictor, graphs


def saved(arrays: list[np.ndarray], folder: Path) -> list[str]:
    files = []
    for index, array in enumerate(arrays):
        files.append(str(folder / f"{index}.npy"))
        np.save(files[-1], array)
    return files


def photos(shared: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted((shared / "data/photos").iterdir()):
        if path.suffix in (".bmp", ".jpg"):
            with Image.open(path) as file:
                found[path.name] = np.asarray(file.convert("RGB"))
    assert len(found) == 7
    return found


@pytest.fixture(scope="module")
def mobilenet(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Predictor, Path]]:
    """Coral's MobileNet v1 by its recipe."""
    folders = [shared / "models/coral", shared / "models/conse"]
    draft = read_recipe(known_recipes()["mobilenet-v1-128"], None, find_target("android-arm64"), folders, quiet)
    predictor, graphs = packaged(draft, tmp_path_factory.mktemp("mobilenet"))
    with predictor:
        yield predictor, graphs["mobilenet"]


def sized(predictor: Predictor, pixels: np.ndarray) -> np.ndarray:
    """A photo at the model's own size, as the bundle's resize step makes it: its uint8 tensor."""
    _, values = predictor.trace(image=pixels)
    return values[predictor.manifest.inputs["image"].value][0]


def test_mobilenet_in_image_classifier(
    python: str, shared: Path, mobilenet: tuple[Predictor, Path], tmp_path: Path
) -> None:
    """On every photo, at the model's size, the same scores as edgekit.predict, so the same top label but for a tie."""
    predictor, graph = mobilenet
    pictures = [sized(predictor, pixels) for pixels in photos(shared).values()]
    answers = ask(python, "classify_images", model=str(graph), arrays=saved(pictures, tmp_path))["answer"]
    for pixels, picture, theirs in zip(photos(shared).values(), pictures, answers):
        whole, small = predictor.predict(image=pixels), predictor.predict(image=picture)
        assert whole.scores == small.scores
        assert max(theirs.values()) == pytest.approx(whole.score, abs=1e-6)
        for label, score in whole.scores.items():
            assert theirs[label] == pytest.approx(score, abs=1e-6)


def test_mobilenet_in_image_classifier_on_whole_photos(
    python: str, shared: Path, mobilenet: tuple[Predictor, Path], tmp_path: Path
) -> None:
    """7 of 7 photos at their own size have the top label of edgekit.predict: the recipe's resize is MediaPipe's.

    Scores are within 0.03: MediaPipe's OpenCV takes places to a 32nd of a pixel.
    """
    predictor, graph = mobilenet
    pictures = list(photos(shared).values())
    answers = ask(python, "classify_images", model=str(graph), arrays=saved(pictures, tmp_path))["answer"]
    for pixels, theirs in zip(pictures, answers, strict=True):
        ours = predictor.predict(image=pixels)
        assert next(iter(theirs)) == ours.label
        for label, score in ours.scores.items():
            assert theirs[label] == pytest.approx(score, abs=0.03)


@pytest.fixture(scope="module")
def blazeface(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Predictor, Path]]:
    """MediaPipe's face detector by its recipe."""
    draft = read_recipe(known_recipes()["blazeface"], None, find_target("android-arm64"), [], quiet)
    predictor, graphs = packaged(draft, tmp_path_factory.mktemp("blazeface"))
    with predictor:
        yield predictor, graphs["blazeface"]


def test_blazeface_in_face_detector(
    python: str, shared: Path, blazeface: tuple[Predictor, Path], tmp_path: Path
) -> None:
    """At the model's size: the same faces, scores to 1e-5, keypoints to 0.01 pixels, boxes but for MediaPipe's rounding
    (it cuts corner and size to whole pixels)."""
    predictor, graph = blazeface
    bands = [Image.fromarray(pixels).resize((128, 128)) for pixels in photos(shared).values()]
    pictures = [np.asarray(band) for band in bands]
    answers = ask(python, "detect_faces", model=str(graph), arrays=saved(pictures, tmp_path))["answer"]
    assert sum(map(len, answers)) >= 3
    for picture, theirs in zip(pictures, answers, strict=True):
        ours = predictor.predict(image=picture)
        assert [face["score"] for face in theirs] == pytest.approx(ours.scores, abs=1e-5)
        for face, box, points in zip(theirs, ours.boxes, ours.keypoints):
            assert np.abs(np.array(face["keypoints"]) - points).max() < 0.01
            assert np.abs(np.array(face["box"]) - box).max() < 2.0


def test_blazeface_in_face_detector_on_whole_photos(
    python: str, shared: Path, blazeface: tuple[Predictor, Path], tmp_path: Path
) -> None:
    """The same faces on every photo, within 1 % of its long side: MediaPipe places a picture in its square by
    fractions of a pixel, edgekit by whole ones."""
    predictor, graph = blazeface
    pictures = list(photos(shared).values())
    answers = ask(python, "detect_faces", model=str(graph), arrays=saved(pictures, tmp_path))["answer"]
    for pixels, theirs in zip(pictures, answers, strict=True):
        ours = predictor.predict(image=pixels)
        assert [face["score"] for face in theirs] == pytest.approx(ours.scores, abs=0.03)
        for face, box, points in zip(theirs, ours.boxes, ours.keypoints):
            assert np.abs(np.array(face["keypoints"]) - points).max() < 0.01 * max(pixels.shape)
            assert np.abs(np.array(face["box"]) - box).max() < 0.01 * max(pixels.shape)


def test_yamnet_in_audio_classifier(python: str, shared: Path, tmp_path: Path) -> None:
    """On every sound, at the model's rate, the same top label: MediaPipe's windows, averaged, against edgekit.predict.

    The files are those of speech and every tenth spoken digit; the digits' 8 kHz are resampled by edgekit, since the
    metadata has no words for how.
    """
    path = shared / "models/yamnet/yamnet_audio_classifier_with_metadata.tflite"
    predictor, graphs = packaged(read_tflite(path, {}), tmp_path)
    files = [shared / "data/librispeech/1272-141231-0002.wav", *sorted((shared / "data/librivox").glob("*.wav"))]
    files += sorted((shared / "data/tridigit/recordings").glob("*.wav"))[::10]
    assert len(files) > 200
    with predictor:
        spec: Any = predictor.manifest.inputs["audio"]
        waves = [audio.waveform(spec, sound.decode(spec, str(f), predictor.manifest.limits)) for f in files]
        arrays = [(file, spec.rate_hz) for file in saved(waves, tmp_path)]
        answers = ask(python, "classify_sounds", model=str(graphs["model"]), arrays=arrays)["answer"]
        for file, theirs in zip(files, answers):
            ours = predictor.predict(audio=str(file))
            mean = {name: sum(window[name] for window in theirs) / len(theirs) for name in theirs[0]}
            assert mean[ours.label] == max(mean.values()), file.name
            assert mean[ours.label] == pytest.approx(ours.score, abs=1e-3), file.name


def test_embedder_takes_no_grey_picture(python: str, tmp_path: Path) -> None:
    """tridigit's image tower has one channel; MediaPipe refuses it in its own words, having read our colour space."""
    draft = read_recipe(TRIDIGIT / "recipe.toml", "tflite-fp32", find_target("android-arm64"), [], quiet)
    predictor, graphs = packaged(draft, tmp_path)
    predictor.close()
    refused = ask(python, "embed_images", model=str(graphs["image"]), arrays=[])
    assert refused == {"error": "Only RGB color space is supported for now."}


def test_tridigits_image_tower_in_image_embedder(python: str, shared: Path, tmp_path: Path) -> None:
    """Its colour form: edgekit's embedding of digits and of colours; whole photos, resized by each, by their cosine."""
    draft = read_recipe(known_recipes()["tridigit-picture"], None, find_target("android-arm64"), [], quiet)
    predictor, graphs = packaged(draft, tmp_path)
    digits = np.load(shared / "data/tridigit/mnist_t10k_first8000.npz")["images"][7000:7100]
    colours = list(np.random.default_rng(3).integers(0, 256, (20, 28, 28, 3), np.uint8))
    whole = list(photos(shared).values())
    pictures = [*np.repeat(digits[..., None], 3, axis=3), *colours, *whole]
    with predictor:
        answers = ask(python, "embed_images", model=str(graphs["image"]), arrays=saved(pictures, tmp_path))["answer"]
        for picture, theirs in zip(pictures, answers, strict=True):
            ours = predictor.predict(image=picture).embedding
            if picture.shape == (28, 28, 3):
                assert np.abs(np.asarray(theirs) - ours).max() <= 1e-5 * float(np.abs(ours).max())
            cosine = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))
            assert cosine >= 0.999


def test_colour_tower_in_image_embedder(python: str, shared: Path, tmp_path: Path) -> None:
    """A tower with three channels, packaged the same way, gives edgekit's embedding of every photo."""
    source = shared / "models/coral/mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
    base = read_recipe(
        known_recipes()["mobilenet-v1-128"],
        None,
        find_target("android-arm64"),
        [shared / "models/coral", shared / "models/conse"],
        quiet,
    )
    inputs, outputs = read_all_ports(source, "litert", "nearest_even")
    image: Any = base.inputs["image"]
    steps = tuple(step.replace(height=224, width=224) for step in image.steps)
    graph = GraphSpec(
        name="tower",
        file="tower.tflite",
        data=None,
        runtime="litert",
        role="image",
        precision="int8",
        inputs=(inputs[0].replace(value="pixels"),),
        outputs=(outputs[0].replace(value="states"),),
        state=(),
        constants=(),
    )
    sources = {"image": EmbeddingSource(value="states", pooling=None)}
    draft = base._replace(
        inputs={"image": image.replace(steps=steps)},
        graphs=(graph,),
        files={**{n: c for n, c in base.files.items() if n.startswith("golden")}, "tower.tflite": source},
        postprocess=Embeddings(task="embedding", sources=sources, normalize=False),
        task="image-feature-extraction",
    )
    predictor, graphs = packaged(draft, tmp_path)
    with predictor:
        pictures = [sized(predictor, pixels) for pixels in photos(shared).values()]
        answers = ask(python, "embed_images", model=str(graphs["tower"]), arrays=saved(pictures, tmp_path))["answer"]
        for picture, theirs in zip(pictures, answers):
            ours = predictor.predict(image=picture).embedding
            assert np.abs(np.asarray(theirs) - ours).max() <= 1e-6 * max(1.0, float(np.abs(ours).max()))


def test_metadata_by_flatcs_reader(python: str, mobilenet: tuple[Predictor, Path], tmp_path: Path) -> None:
    """Every field that was written is there in the reader that flatc made of MediaPipe's schema, and nothing else."""
    data = read_metadata(mobilenet[1], "TFLITE_METADATA")
    assert data is not None
    (tmp_path / "m").write_bytes(data)
    found = ask(python, "metadata", metadata=str(tmp_path / "m"))["answer"]
    assert found["identified"]
    table = found["table"]
    assert (table["name"], table["version"], table["license"]) == ("mobilenet-v1-128", "1.0", "Apache-2.0")
    assert table["minParserVersion"] == "1.0.0"
    subgraph = table["subgraphMetadata"][0]
    image, scores = subgraph["inputTensorMetadata"][0], subgraph["outputTensorMetadata"][0]
    assert image["content"]["contentProperties"]["colorSpace"] == 1
    size = image["content"]["contentProperties"]["defaultSize"]
    assert (size["width"], size["height"]) == (128, 128)
    assert image["processUnits"][0]["options"]["mean"] == image["processUnits"][0]["options"]["std"] == [128.0] * 3
    assert (image["stats"]["max"], image["stats"]["min"]) == ([255.0], [0.0])
    assert (scores["associatedFiles"][0]["name"], scores["associatedFiles"][0]["type"]) == ("labels.txt", 2)


def test_every_kind_of_note_by_flatcs_reader(python: str, tmp_path: Path) -> None:
    """Audio format, vocabulary and score calibration, which the models above do not have."""
    notes = ModelNotes(
        name="n",
        description="",
        version="",
        author="",
        license="",
        inputs=(android._tensor("audio", content="audio", rate_hz=16000), android._tensor("ids")),
        outputs=(android._tensor("y", labels="labels.txt", calibration=Calibration(2, -0.5, "calibration.txt")),),
        vocabulary="vocab.txt",
    )
    (tmp_path / "m").write_bytes(dump_metadata(notes))
    table = ask(python, "metadata", metadata=str(tmp_path / "m"))["answer"]["table"]
    assert table["minParserVersion"] == "1.3.0"
    assert "description" not in table
    subgraph = table["subgraphMetadata"][0]
    heard = subgraph["inputTensorMetadata"][0]["content"]["contentProperties"]
    assert (heard[""], heard["sampleRate"], heard["channels"]) == ("AudioPropertiesT", 16000, 1)
    bert = subgraph["inputProcessUnits"][0]["options"]
    assert (bert[""], bert["vocabFile"][0]["name"]) == ("BertTokenizerOptionsT", "vocab.txt")
    unit = subgraph["outputTensorMetadata"][0]["processUnits"][0]["options"]
    assert (unit[""], unit["scoreTransformation"], unit["defaultScore"]) == ("ScoreCalibrationOptionsT", 2, -0.5)
