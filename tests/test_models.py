"""The recipes that come with edgekit, on their real models, against published figures and other implementations."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from packing import ROOT, pack

from edgekit.predictor import Predictor, load

MODELS = ROOT / "models"


@cache
def _index_answers() -> bool:
    """Whether pip can fetch here at all; asked once."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", "/tmp/edgekit-probe", "six"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def packed(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> object:
    """Package a recipe over shared files and open it; what must be fetched is, or the test says why it skips."""
    folder = tmp_path_factory.mktemp("models")
    opened: dict[str, Predictor] = {}

    def get(name: str, variant: str | None = None) -> Predictor:
        key = f"{name}-{variant}"
        if key not in opened:
            recipe = MODELS / name / "recipe.toml"
            if "pypi:" in recipe.read_text("utf-8") and not _index_answers():
                pytest.skip("no package index answers here: the model cannot be fetched")
            pack(recipe, folder / f"{key}.edgekit", variant, (shared / "models", shared / "models" / name))
            opened[key] = load(folder / f"{key}.edgekit")
        return opened[key]

    yield get
    for predictor in opened.values():
        predictor.close()


PHOTOS_MOBILENET_V2 = {
    "cat.bmp": "Egyptian cat",
    "parrot.jpg": "macaw",
    "hot_dog.jpg": "hotdog, hot dog, red hot",
    "grace_hopper.bmp": "military uniform",
}


def test_kws_hears_what_mlperf_says_it_hears(packed, shared: Path) -> None:
    """449 of 500 clips as with the published front end, whose bytes are reproduced on at least 99.9 %."""
    predictor = packed("kws-mlperf", "int8")
    right = same = total = clips = 0
    for clip in sorted((shared / "models/mlperf-kws/td_samples").glob("*.bin")):
        result, values = predictor.trace(audio=(np.fromfile(clip, "<i2"), 16000))
        published = np.fromfile(shared / "models/mlperf-kws/mfcc" / clip.name, np.int8)
        right += result.label == clip.stem.split("_")[2]
        same += int((values["mfcc"].ravel() == published).sum())
        total += published.size
        clips += 1
    assert clips == 500
    assert right >= 448, right
    assert same / total >= 0.999, same / total


def test_mobilenet_v1_knows_a_macaw(packed, shared: Path) -> None:
    """A small model: right on the parrot, wrong on the hot dog, as the original is."""
    predictor = packed("mobilenet-v1-128")
    assert predictor.predict(image=str(shared / "data/photos/parrot.jpg")).label == "macaw"
    assert "hotdog" not in predictor.predict(image=str(shared / "data/photos/hot_dog.jpg")).label


def test_mobilenet_v2_names_the_photos(packed, shared: Path) -> None:
    """The image tower of conse gives the published labels."""
    predictor = packed("conse")
    labels = (shared / "models/conse/imagenet_labels.txt").read_text("utf-8").splitlines()
    for photo, label in PHOTOS_MOBILENET_V2.items():
        _, values = predictor.trace(image=str(shared / "data/photos" / photo))
        assert labels[int(values["probabilities"].argmax())] == label


def test_conse_joins_two_runtimes(packed, shared: Path) -> None:
    """Image by TFLite and ONNX, text by ONNX, in one space: right on at least 5 of 7 photos."""
    candidates = [
        "cat",
        "dog",
        "parrot",
        "bird",
        "hot dog",
        "pizza",
        "sunflower",
        "rose",
        "soldier",
        "person",
        "car",
        "bicycle",
    ]
    truth = {
        "cat.bmp": {"cat"},
        "bird.bmp": {"bird"},
        "face.jpg": {"person"},
        "grace_hopper.bmp": {"soldier", "person"},
        "hot_dog.jpg": {"hot dog"},
        "parrot.jpg": {"parrot", "bird"},
        "sunflower.bmp": {"sunflower"},
    }
    predictor = packed("conse")
    right = sum(
        predictor.predict(image=str(shared / "data/photos" / name), text=candidates).label in labels
        for name, labels in truth.items()
    )
    assert right >= 5
    assert {g.runtime for g in predictor.manifest.graphs} == {"litert", "onnxruntime"}


def test_minilm_gives_the_published_similarity(packed) -> None:
    """0.753 for the two sentences of sentence-transformers' documentation."""
    predictor = packed("minilm-int8")
    a = predictor.predict(text="A man is eating food.").embedding
    b = predictor.predict(text="A man is eating a piece of bread.").embedding
    assert a.shape == (384,)
    assert float(a @ b) == pytest.approx(0.753, abs=0.002)


def test_basic_pitch_is_the_same_model_twice(packed, shared: Path) -> None:
    """ONNX and TFLite agree to 1e-5 through the same predict."""
    sound = str(shared / "zoo/inputs/jfk_16k.wav")
    a = packed("basic-pitch", "onnx").predict(audio=sound).tensors
    b = packed("basic-pitch", "tflite").predict(audio=sound).tensors
    assert a.keys() == b.keys() == {"note", "onset", "contour"}
    for name, tensor in a.items():
        assert float(np.abs(tensor - b[name]).max()) <= 1e-5


FACES = {
    "face.jpg": [
        (0.974053, [[281.5, 100.9], [325.3, 100.1], [301.9, 126.0], [304.2, 144.7], [261.9, 107.9], [355.7, 105.3]]),
        (0.929523, [[160.8, 134.2], [201.3, 129.5], [186.2, 155.6], [188.6, 174.8], [136.3, 145.2], [223.7, 133.6]]),
    ],
    "grace_hopper.bmp": [
        (0.935857, [[222.1, 194.4], [307.9, 184.7], [268.3, 224.5], [272.6, 273.8], [179.1, 234.6], [358.8, 216.3]]),
    ],
    "parrot.jpg": [],
    "sunflower.bmp": [],
}
"""What MediaPipe 1.2.3's FaceDetector finds with the same weights: score and keypoints in pixels."""


def test_blazeface_finds_the_faces_that_mediapipe_finds(packed, shared: Path) -> None:
    predictor = packed("blazeface")
    for name, faces in FACES.items():
        found = predictor.predict(image=shared / "data/photos" / name)
        assert found.labels == ["face"] * len(faces)
        assert found.scores == pytest.approx([score for score, _ in faces], abs=0.02)
        for mine, (_, points) in zip(found.keypoints, faces):
            assert np.abs(mine - np.array(points)).max() < 4.0  # a pixel of the 128 x 128 tensor


def test_silero_carries_its_state(packed, shared: Path) -> None:
    """Windows in one predict equal the package's own wrapper loop over onnxruntime, and equal a stream's."""
    import onnxruntime
    import soundfile

    predictor = packed("silero-vad")
    samples, rate = soundfile.read(shared / "zoo/inputs/jfk_16k.wav", dtype="float32")
    got = predictor.predict(audio=(samples, rate)).tensors["speech"].ravel()
    path = next((Path(predictor._engine._bundle.path)).glob("*.onnx"))
    session = onnxruntime.InferenceSession(str(path))
    state, context, expected = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for start in range(0, len(samples), 512):
        chunk = np.zeros(512, np.float32)
        chunk[: len(samples[start : start + 512])] = samples[start : start + 512]
        window = np.concatenate([context, chunk])[None]
        feed = {"input": window, "state": state, "sr": np.array(16000, np.int64)}
        output, state = session.run(None, feed)
        context = window[0, -64:]
        expected.append(output[0, 0])
    np.testing.assert_allclose(got, expected, atol=1e-6)
    with predictor.stream() as stream:
        pieces = [r for i in range(0, len(samples), 700) for r in stream.push(samples[i : i + 700])] + stream.flush()
    np.testing.assert_array_equal([r.tensors["speech"].item() for r in pieces], got)


def test_yamnet_packages_by_its_own_metadata(shared: Path, tmp_path: Path) -> None:
    """Standard metadata is enough: labels, rate and window come from the file; speech.wav is speech."""
    from packing import host_target

    from edgekit.packaging.build import build
    from edgekit.packaging.tflite_metadata import read_tflite

    source = shared / "models/yamnet/yamnet_audio_classifier_with_metadata.tflite"
    build(read_tflite(source, {}), host_target(), tmp_path / "y.edgekit")
    with load(tmp_path / "y.edgekit") as predictor:
        spec = predictor.manifest.inputs["audio"]
        assert (spec.rate_hz, spec.windows.samples) == (16000, 15600)
        assert predictor.predict(audio=str(shared / "models/yamnet/speech.wav")).label == "Speech"


def test_tridigits_colour_tower_gives_its_embedding(shared: Path, tmp_path: Path) -> None:
    """Of 200 digits drawn in grey, tridigit-picture gives the numbers that tridigit's image tower gives."""
    from packing import TRIDIGIT

    images = np.load(shared / "data/tridigit/mnist_t10k_first8000.npz")["images"][7000:7200]
    pack(TRIDIGIT / "recipe.toml", tmp_path / "grey.edgekit", "tflite-fp32")
    pack(TRIDIGIT.parent / "tridigit-picture" / "recipe.toml", tmp_path / "colour.edgekit", "tflite-fp32")
    with load(tmp_path / "grey.edgekit") as grey, load(tmp_path / "colour.edgekit") as colour:
        for image in images:
            _, values = grey.trace(image=image)
            expected = values["image_embeds"][0]
            got = colour.predict(image=np.repeat(image[..., None], 3, axis=2)).embedding
            assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_tridigit_reaches_its_figures(shared: Path, tmp_path: Path) -> None:
    """Image to text >= 0.99 on MNIST 7000-7999, audio to text >= 0.99 on takes 0-2, int8 within 0.01: by edgekit."""
    from packing import TRIDIGIT, WORDS

    data = np.load(shared / "data/tridigit/mnist_t10k_first8000.npz")
    images, labels = data["images"], data["labels"]
    takes = sorted((shared / "data/tridigit/recordings").glob("*_[0-2].wav"))
    assert len(takes) == 150
    figures = {}
    for variant in ("fp32", "int8", "tflite-fp32", "tflite-int8"):
        pack(TRIDIGIT / "recipe.toml", tmp_path / f"{variant}.edgekit", variant)
        with load(tmp_path / f"{variant}.edgekit") as predictor:
            seen = [
                predictor.predict(image=images[i], text=list(WORDS)).label == WORDS[int(labels[i])]
                for i in range(7000, 8000)
            ]
            heard = [
                predictor.predict(audio=str(take), text=list(WORDS)).label == WORDS[int(take.name[0])] for take in takes
            ]
        figures[variant] = (sum(seen) / len(seen), sum(heard) / len(heard))
    for image, audio in figures.values():
        assert image >= 0.99
        assert audio >= 0.99
    for whole, small in (("fp32", "int8"), ("tflite-fp32", "tflite-int8")):
        assert abs(figures[whole][0] - figures[small][0]) <= 0.01
        assert abs(figures[whole][1] - figures[small][1]) <= 0.01
