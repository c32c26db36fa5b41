"""Promise: any hub folder, not only the zoo's: other families, layouts, towers, outside weights; what is missing or
contradictory is named (issue 3: import, bad input)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from graphs import affine_tflite
from hub_models import (
    LABELS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VIT,
    WAV2VEC2,
    detection_graph,
    drawn,
    image_graph,
    map_graph,
    save,
    states_graph,
    text_graph,
    two_sides_graph,
    waves_graph,
    write_folder,
)

from edgekit import results
from edgekit.cli import main
from edgekit.errors import EdgekitError, InputError
from edgekit.packaging.sampling import drawn_picture, drawn_sound
from edgekit.predictor import Predictor, load
from edgekit.specs.post import Detections, Embeddings, Similarity

TEXT = {"tokenizer_json": TOKENIZER, "tokenizer_config_json": TOKENIZER_CONFIG}
BERT = {"model_type": "bert", "vocab_size": 32, "max_position_embeddings": 12}


def run(folder: Path, *options: str) -> Any:
    output = folder.parent / f"{folder.name}.edgekit"
    command = ["package", str(folder), "--target", "linux-x86_64", "-o", str(output), *options]
    return CliRunner().invoke(main, command)


def packed(folder: Path, *options: str) -> Predictor:
    result = run(folder, *options)
    assert result.exit_code == 0, result.output
    return load(folder.parent / f"{folder.name}.edgekit", text_memory=0)


def refused(folder: Path, *options: str, code: int = 4) -> str:
    result = run(folder, *options)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert not (folder.parent / f"{folder.name}.edgekit").exists()
    return str(result.output)


def vit(path: Path, **changes: Any) -> Path:
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "id2label": LABELS, **changes}
    folder = write_folder(path, config, preprocessor_config_json=VIT)
    save(folder / "model.onnx", image_graph())
    return folder


# ---- families


def test_image_classification_in_the_root(tmp_path: Path) -> None:
    with packed(vit(tmp_path / "My_ViT.v2")) as predictor:
        assert predictor.manifest.name == "my-vit.v2" or predictor.manifest.name == "my_vit.v2"
        assert predictor.manifest.license == "not stated in the folder"
        result, values = predictor.trace(image=drawn_picture())
        want = values["pixel_values"].mean(axis=(2, 3)) @ drawn(3, 3)
        assert np.allclose(values["logits"], want, atol=1e-5)
        assert isinstance(result, results.Classification)
        assert result.label == list(LABELS.values())[int(want.argmax())]


@pytest.mark.parametrize(
    ("problem", "total"), [("single_label_classification", 1.0), ("multi_label_classification", None), (None, 1.0)]
)
def test_text_classification_with_one_and_many_labels(tmp_path: Path, problem: str | None, total: Any) -> None:
    config = {**BERT, "architectures": ["BertForSequenceClassification"], "id2label": LABELS, "problem_type": problem}
    folder = write_folder(tmp_path / "bert", config, **TEXT)
    save(folder / "onnx" / "model.onnx", text_graph())
    with packed(folder) as predictor:
        result, values = predictor.trace(text="wolfgang lives in berlin")
        assert {p.name for p in predictor.manifest.graphs[0].inputs} == {
            "input_ids", "token_type_ids", "attention_mask",
        }  # fmt: skip
        logits = values["logits"][0].astype(np.float64)
        want = np.exp(logits) / np.exp(logits).sum() if total else 1 / (1 + np.exp(-logits))
        assert isinstance(result, results.Classification)
        assert [result.scores[label] for label in LABELS.values()] == pytest.approx(want.tolist(), abs=1e-6)
        spec = predictor.manifest.inputs["text"]
        assert spec.max_length == 12  # type: ignore[union-attr]  # the positions allow less than the tokenizer
        assert predictor.trace(text="berlin " * 50)[1]["input_ids"].shape == (1, 12)
        empty, values = predictor.trace(text="")  # [CLS] [SEP]
        assert values["input_ids"].tolist() == [[2, 3]]
        assert isinstance(empty, results.Classification)


def test_only_inputs_that_the_graph_has(tmp_path: Path) -> None:
    config = {**BERT, "architectures": ["DistilBertForSequenceClassification"], "id2label": LABELS}
    folder = write_folder(tmp_path / "distil", config, **TEXT)
    save(folder / "model.onnx", text_graph(types=False, mask=False))
    with packed(folder) as predictor:
        _, values = predictor.trace(text="berlin")
        assert sorted(values) == ["input_ids", "logits"]


def test_token_classification(tmp_path: Path) -> None:
    names = {"0": "O", "1": "B-LOC", "2": "I-LOC"}
    config = {**BERT, "architectures": ["BertForTokenClassification"], "id2label": names}
    folder = write_folder(tmp_path / "ner", config, **TEXT)
    save(folder / "model.onnx", text_graph(tokens=True))
    text = "Wolfgang lives in Berlin, New Yorkers"
    for aggregation in ("simple", "first"):
        with packed(folder, "--set", f"aggregation={aggregation}") as predictor:
            result = predictor.predict(text=text)
            assert isinstance(result, results.Entities)
            assert result.entities
            for entity in result.entities:
                assert entity.keys() == {"entity_group", "score", "word", "start", "end"}
                assert entity["entity_group"] == "LOC"
                said = text[entity["start"] : entity["end"]].lower().replace(" ", "")
                assert said == entity["word"].replace(" ", "").replace("##", "")
            assert predictor.predict(text="").to_dict()["entities"] == []


@pytest.mark.parametrize("model_type", ["detr", "rt_detr"])
def test_object_detection(tmp_path: Path, model_type: str) -> None:
    """DETR's mask of a fixed size is of ones; its boxes are in the original picture's pixels."""
    config = {"architectures": ["AForObjectDetection"], "model_type": model_type, "id2label": LABELS}
    name = "DetrImageProcessor" if model_type == "detr" else "RTDetrImageProcessor"
    processor = {"image_processor_type": name, "size": {"shortest_edge": 16, "longest_edge": 40}}
    folder = write_folder(tmp_path / model_type, config, preprocessor_config_json=processor)
    classes = 4 if model_type == "detr" else 3
    save(folder / "model.onnx", detection_graph(classes))
    with packed(folder, "--set", "threshold=0.1") as predictor:
        spec = predictor.manifest.postprocess
        assert isinstance(spec, Detections)
        assert (spec.threshold, spec.scoring == "softmax_no_object") == (0.1, model_type == "detr")
        result, values = predictor.trace(image=drawn_picture(96, 64))
        assert isinstance(result, results.Detections)
        assert len(result.scores) == len(result.labels) == len(result.boxes) > 0
        x, y, w, h = np.moveaxis(values["pred_boxes"][0].astype(np.float64), -1, 0)
        corners = np.stack([(x - w / 2) * 96, (y - h / 2) * 64, (x + w / 2) * 96, (y + h / 2) * 64], axis=1)
        assert all(np.abs(corners - box).max(axis=1).min() < 1e-3 for box in result.boxes)
        assert result.scores == sorted(result.scores, reverse=True)


def test_detection_with_a_mask_of_any_size(tmp_path: Path) -> None:
    config = {"architectures": ["DetrForObjectDetection"], "model_type": "detr", "id2label": LABELS}
    pads = {"size": {"shortest_edge": 16, "longest_edge": 40}, "pad_size": {"height": 48, "width": 48}}
    processor = {"image_processor_type": "DetrImageProcessor", **pads}
    folder = write_folder(tmp_path / "detr", config, preprocessor_config_json=processor)
    save(folder / "model.onnx", detection_graph(4, ("batch", "height", "width")))
    with packed(folder) as predictor:
        _, values = predictor.trace(image=drawn_picture(96, 64))
        assert values["pixel_mask"].shape == (1, 48, 48)
        assert values["pixel_mask"].sum() == 16 * 24


def test_segmentation_and_depth(tmp_path: Path) -> None:
    segformer = {"image_processor_type": "SegformerImageProcessor", "size": {"height": 32, "width": 32}}
    config = {"architectures": ["SegformerForSemanticSegmentation"], "model_type": "segformer", "id2label": LABELS}
    folder = write_folder(tmp_path / "segformer", config, preprocessor_config_json=segformer)
    save(folder / "model.onnx", map_graph(3, "logits"))
    with packed(folder) as predictor:
        result = predictor.predict(image=drawn_picture(90, 70))
        assert isinstance(result, results.Segmentation)
        assert (result.mask.shape, result.labels) == ((70, 90), list(LABELS.values()))
        assert predictor.manifest.golden[0].result["labels"] == result.labels
    dpt = {"image_processor_type": "DPTImageProcessor", "size": 28, "keep_aspect_ratio": True, "ensure_multiple_of": 14}
    config = {"architectures": ["DepthAnythingForDepthEstimation"], "model_type": "depth_anything"}
    folder = write_folder(tmp_path / "depth", config, preprocessor_config_json=dpt)
    save(folder / "model.onnx", map_graph(1, "predicted_depth"))
    with packed(folder) as predictor:
        result = predictor.predict(image=drawn_picture(90, 70))
        assert isinstance(result, results.Depth)
        assert result.predicted_depth.shape == (70, 90)


@pytest.mark.parametrize("mask", [False, True])
def test_ctc(tmp_path: Path, mask: bool) -> None:
    config = {
        "architectures": ["HubertForCTC"], "model_type": "hubert", "conv_kernel": [20], "conv_stride": [10],
        "vocab_size": 6, "pad_token_id": 0,
    }  # fmt: skip
    vocabulary = {"<pad>": 0, "|": 1, "A": 2, "B": 3, "C": 4, "D": 5}
    folder = write_folder(
        tmp_path / "hubert", config, preprocessor_config_json=WAV2VEC2, vocab_json=vocabulary,
        tokenizer_config_json={"pad_token": "<pad>", "word_delimiter_token": "|"},
    )  # fmt: skip
    save(folder / "model.onnx", waves_graph(mask=mask))
    with packed(folder) as predictor:
        result, values = predictor.trace(audio=drawn_sound(16000, 0.5))
        ids = values["logits"][0].argmax(axis=1).tolist()
        runs = [i for n, i in enumerate(ids) if n == 0 or ids[n - 1] != i]
        assert isinstance(result, results.Transcript)
        assert result.tokens == [i for i in runs if i]
        assert result.text == "".join(" |ABCD"[i] if i > 1 else " " for i in result.tokens).replace("|", " ").strip()
        silence = predictor.predict(audio=(np.zeros(16000, np.int16), 16000))
        assert isinstance(silence, results.Transcript)
        for few in (0, 19):
            with pytest.raises(InputError):
                predictor.predict(audio=(np.zeros(few, np.int16), 16000))


# ---- towers


@pytest.mark.parametrize(
    ("model_type", "scale", "bias"), [("clip", 14.2857, 0.0), ("siglip", 117.33, -12.9), ("siglip2", 4.5, -3.0)]
)
def test_merged_graph_is_split_and_its_scale_measured(
    tmp_path: Path, model_type: str, scale: float, bias: float
) -> None:
    config = {
        "architectures": ["AModel"], "model_type": model_type, "text_config": {"vocab_size": 32}, "vision_config": {},
    }  # fmt: skip
    folder = write_folder(tmp_path / "clip", config, preprocessor_config_json=VIT, **TEXT)
    save(folder / "onnx" / "model.onnx", two_sides_graph(scale, bias))
    with packed(folder) as predictor:
        spec = predictor.manifest.postprocess
        assert isinstance(spec, Similarity)
        assert (spec.scale, spec.bias) == (pytest.approx(scale, rel=1e-4), pytest.approx(bias, abs=1e-3))
        assert [g.name for g in predictor.manifest.graphs] == ["image", "text"]
        texts = ["wolfgang", "berlin", "new york"]
        result = predictor.predict(image=drawn_picture(), text=texts)
        assert isinstance(result, results.Similarity)
        assert result.image_embedding is not None
        assert result.text_embedding is not None
        logits = scale * result.text_embedding @ result.image_embedding + bias
        want = np.exp(logits) / np.exp(logits).sum() if model_type == "clip" else 1 / (1 + np.exp(-logits))
        assert [result.scores[t] for t in texts] == pytest.approx(want.tolist(), abs=2e-3)
        assert isinstance(predictor.predict(text="berlin"), results.Embedding)
        with pytest.raises(InputError):
            predictor.predict(image=drawn_picture(), text=[])
        unused = 50 * 50 * 4  # both halves leave it out
        assert sum(predictor.manifest.files[g.file].size for g in predictor.manifest.graphs) < unused
        padded = predictor.trace(text="berlin")[1]["input_ids"].shape[1]
        assert padded == (4 if model_type == "clip" else 16)


def test_audio_and_text(tmp_path: Path) -> None:
    config = {
        "architectures": ["ClapModel"],
        "model_type": "clap",
        "text_config": {"vocab_size": 32},
        "audio_config": {},
    }
    clap = {
        "feature_extractor_type": "ClapFeatureExtractor", "truncation": "rand_trunc", "sampling_rate": 16000,
        "max_length_s": 1, "frequency_max": 8000,
    }  # fmt: skip
    folder = write_folder(tmp_path / "clap", config, preprocessor_config_json=clap, **TEXT)
    save(folder / "onnx" / "model.onnx", two_sides_graph(20.0, 0.0, "audio"))
    with packed(folder) as predictor:
        assert predictor.manifest.task == "zero-shot-audio-classification"
        result = predictor.predict(audio=drawn_sound(16000, 0.3), text=["wolfgang", "berlin"])
        assert isinstance(result, results.Similarity)
        assert result.audio_embedding is not None
        assert result.image_embedding is None


def test_towers_in_files_of_their_own(tmp_path: Path) -> None:
    """text_model and vision_model are taken as they are; the scale is asked for where no merged graph tells it."""
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "text_config": {"vocab_size": 32},
        "vision_config": {},
    }
    folder = write_folder(tmp_path / "clip", config, preprocessor_config_json=VIT, **TEXT)
    save(folder / "onnx" / "vision_model.onnx", image_graph(4, output="image_embeds"))
    save(folder / "onnx" / "text_model.onnx", text_graph(4, types=False).replace(b"logits", b"pooled"))
    assert "--set logit_scale=NUMBER" in refused(folder)
    with packed(folder, "--set", "logit_scale=10") as predictor:
        result = predictor.predict(image=drawn_picture(), text=["wolfgang", "berlin"])
        assert isinstance(result, results.Similarity)
        assert np.linalg.norm(result.image_embedding) == pytest.approx(1.0)  # type: ignore[arg-type]
    save(folder / "onnx" / "model.onnx", two_sides_graph(9.0, 0.0))
    with packed(folder) as predictor:
        assert predictor.manifest.postprocess.scale == pytest.approx(9.0)  # type: ignore[union-attr]
        assert "vision_model.onnx" in predictor.manifest.files
    with packed(folder, "--task", "feature-extraction") as predictor:
        assert isinstance(predictor.manifest.postprocess, Embeddings)
        assert sorted(predictor.manifest.inputs) == ["image", "text"]


# ---- embeddings


def test_sentence_transformers(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mini", {**BERT, "architectures": ["BertModel"]}, **TEXT)
    save(folder / "onnx" / "model.onnx", states_graph())
    states = drawn(32, 4)
    ids = [2, 8, 9, 3]
    kinds = {"mean": states[ids].mean(axis=0), "cls": states[2], "last": states[3], "max": states[ids].max(axis=0)}
    for mode, want in kinds.items():
        with packed(folder, "--set", f"pooling={mode}", "--set", "normalize=false") as predictor:
            result = predictor.predict(text="berlin")
            assert isinstance(result, results.Embedding)
            assert np.allclose(result.embedding, want, atol=1e-6)
    with packed(folder) as predictor:
        result = predictor.predict(text="berlin")
        assert isinstance(result, results.Embedding)
        assert np.allclose(result.embedding, kinds["mean"] / np.linalg.norm(kinds["mean"]), atol=1e-6)
    modules = [{"idx": i, "type": f"sentence_transformers.models.{t}", "path": p} for i, (t, p) in enumerate(
        (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")))]  # fmt: skip
    files = {"modules_json": modules, "1_Pooling__config_json": {"pooling_mode_cls_token": True}}
    write_folder(folder, {"architectures": ["BertForMaskedLM"], **BERT}, **files)
    with packed(folder) as predictor:
        result = predictor.predict(text="berlin")
        assert isinstance(result, results.Embedding)
        assert np.allclose(result.embedding, states[2] / np.linalg.norm(states[2]), atol=1e-6)
    write_folder(folder, BERT, modules_json=modules[:2])
    with packed(folder) as predictor:
        result = predictor.predict(text="berlin")
        assert isinstance(result, results.Embedding)
        assert np.allclose(result.embedding, states[2], atol=1e-6)
    write_folder(folder, BERT, modules_json=[*modules, {"type": "sentence_transformers.models.Dense", "path": "2"}])
    (folder.parent / "mini.edgekit").unlink()
    assert "Dense" in refused(folder)


# ---- files


def test_outside_weights_become_one_file(tmp_path: Path) -> None:
    import onnx

    folder = vit(tmp_path / "vit", id2label=None, num_labels=300)
    model = onnx.load_from_string(image_graph(300))
    (folder / "model.onnx").unlink()
    (folder / "onnx").mkdir()
    onnx.save_model(
        model, str(folder / "onnx" / "model.onnx"), save_as_external_data=True, location="Model.onnx_data",
        size_threshold=0,
    )  # fmt: skip
    with packed(folder) as predictor:
        graph = predictor.manifest.graphs[0]
        assert graph.data == "model.data"
        assert predictor.manifest.files["model.data"].size == 3600
        assert predictor.predict(image=drawn_picture())
    (folder.parent / "vit.edgekit").unlink()
    (folder / "onnx" / "Model.onnx_data").write_bytes(b"short")
    refused(folder)
    (folder / "onnx" / "Model.onnx_data").unlink()
    assert "Model.onnx_data, which is not beside it" in refused(folder)


def test_outside_weights_of_a_merged_graph(tmp_path: Path) -> None:
    import onnx

    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "text_config": {"vocab_size": 32},
        "vision_config": {},
    }
    folder = write_folder(tmp_path / "clip", config, preprocessor_config_json=VIT, **TEXT)
    model = onnx.load_from_string(two_sides_graph(7.0, 0.0, width=100))
    onnx.save_model(
        model, str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx_data", size_threshold=0
    )
    with packed(folder) as predictor:
        assert [g.data for g in predictor.manifest.graphs] == ["vision_model.data", "text_model.data"]
        assert predictor.manifest.postprocess.scale == pytest.approx(7.0)  # type: ignore[union-attr]
        assert predictor.manifest.files["vision_model.data"].size == 3 * 100 * 4  # its own weights only
        assert predictor.manifest.files["text_model.data"].size == 32 * 100 * 4


def test_a_snapshot_of_links_becomes_real_files(tmp_path: Path) -> None:
    """The hub's cache: snapshots/<revision> holds links into blobs/."""
    real = vit(tmp_path / "blobs")
    snapshot = tmp_path / "models--someone--My-ViT" / "snapshots" / ("0" * 40)
    for file in real.iterdir():
        snapshot.mkdir(parents=True, exist_ok=True)
        (snapshot / file.name).symlink_to(os.path.relpath(file, snapshot))
    with packed(snapshot) as predictor:
        assert predictor.manifest.name == "my-vit"
        assert predictor.predict(image=drawn_picture())


def test_twin_beside_the_configs_is_chosen_where_the_target_prefers_it(tmp_path: Path) -> None:
    folder = vit(tmp_path / "vit")
    affine_tflite(folder / "vit_text.tflite")  # takes (rows, 4): wired only when it is chosen
    with packed(folder) as predictor:
        assert predictor.manifest.graphs[0].runtime == "onnxruntime"
    (folder.parent / "vit.edgekit").unlink()
    assert "takes" in refused(folder, "--variant", "tflite")


# ---- what is missing or wrong


def test_folders_that_lack_something(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "config.json" in refused(empty)
    inner = vit(tmp_path / "outer" / "model")
    assert str(inner) in refused(inner.parent)
    bare = write_folder(tmp_path / "bare", {"architectures": ["ViTModel"]})
    assert ".onnx" in refused(bare)
    folder = vit(tmp_path / "a")
    (folder / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json is missing" in refused(folder)
    folder = vit(tmp_path / "b")
    (folder / "config.json").write_text('{"architectures": ["ViTForImageClassification"], "a": 1, "a": 2}')
    assert "stands twice" in refused(folder)
    (folder / "config.json").write_text("[1, 2")
    assert "not JSON" in refused(folder)
    (folder / "config.json").write_text('["ViT"]')
    assert "expected a JSON object" in refused(folder)


def test_variants_that_are_not_there_are_listed(tmp_path: Path) -> None:
    folder = vit(tmp_path / "vit")
    save(folder / "onnx" / "model_q4.onnx", image_graph())
    save(folder / "onnx" / "model_uint8.onnx", image_graph())
    output = refused(folder, "--variant", "fp16")
    assert "no variant 'fp16'" in output
    assert "one of: fp32, q4, uint8" in output
    with packed(folder, "--variant", "int8") as predictor:  # a class: the first that the target prefers
        assert predictor.manifest.graphs[0].file == "model_uint8.onnx"


def test_two_candidate_graphs(tmp_path: Path) -> None:
    folder = vit(tmp_path / "vit")
    save(folder / "onnx" / "model.onnx", image_graph())
    output = refused(folder)
    assert "model.onnx and onnx/model.onnx" in output
    with packed(folder, "--set", "graph=onnx/model.onnx") as predictor:
        assert predictor.predict(image=drawn_picture())
    other = vit(tmp_path / "other")
    (other / "model.onnx").rename(other / "first.onnx")
    with packed(other) as predictor:
        assert predictor.manifest.graphs[0].file == "first.onnx"
    (other.parent / "other.edgekit").unlink()
    save(other / "second.onnx", image_graph())
    assert "first.onnx, second.onnx" in refused(other)


def test_config_that_contradicts_the_graph(tmp_path: Path) -> None:
    folder = vit(tmp_path / "labels", id2label={"0": "a", "1": "b"})
    assert "2 labels, the graph gives 3 classes" in refused(folder)
    folder = vit(tmp_path / "gap", id2label={"0": "a", "2": "b", "3": "c"})
    assert "id2label" in refused(folder)
    folder = vit(tmp_path / "lines", id2label={"0": "a", "1": "b\nc", "2": "d"})
    with packed(folder) as predictor:
        assert "b c" in predictor.read("labels.txt").decode()
    folder = vit(tmp_path / "size")
    save(folder / "model.onnx", image_graph(shape=["batch", 3, 16, 16]))
    assert "8 x 8, the graph takes 16 x 16" in refused(folder)
    folder = vit(tmp_path / "grey")
    save(folder / "model.onnx", image_graph(shape=["batch", 1, 8, 8], channels=1))
    assert "1 channels" in refused(folder)
    folder = vit(tmp_path / "other")
    assert "is given text" in refused(folder, "--task", "text-classification")
    assert "no task 'guessing'" in refused(folder, "--task", "guessing")
    folder = vit(tmp_path / "unknown", architectures=["ViTForMagic"])
    assert "ViTForMagic" in refused(folder)
    with packed(folder, "--task", "image-classification") as predictor:
        assert predictor.manifest.task == "image-classification"
    assert "nothing asked for it" in refused(vit(tmp_path / "idle"), "--set", "weight=3")


def test_tokenizers_that_are_missing_or_wrong(tmp_path: Path) -> None:
    config = {**BERT, "architectures": ["BertForSequenceClassification"], "id2label": LABELS}
    folder = write_folder(tmp_path / "bert", config, tokenizer_config_json=TOKENIZER_CONFIG)
    save(folder / "model.onnx", text_graph())
    (folder / "vocab.txt").write_text("[PAD]\n")
    output = refused(folder)
    assert "tokenizer.json is missing; there is vocab.txt" in output
    assert "save_pretrained" in output
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer.json" in refused(folder)
    (folder / "tokenizer.json").write_text(json.dumps({**TOKENIZER, "model": {"type": "Nothing"}}))
    refused(folder, code=3)
    unlimited = {k: v for k, v in config.items() if k != "max_position_embeddings"}
    write_folder(folder, unlimited, tokenizer_json=TOKENIZER,
                 tokenizer_config_json={"model_max_length": 1000000000000000019884624838656})  # fmt: skip
    assert "--set max_length=NUMBER" in refused(folder)
    with packed(folder, "--set", "max_length=9") as predictor:
        assert predictor.manifest.inputs["text"].max_length == 9  # type: ignore[union-attr]


def test_a_processor_that_nobody_knows(tmp_path: Path) -> None:
    folder = vit(tmp_path / "vit")
    write_folder(folder, json.loads((folder / "config.json").read_text()),
                 preprocessor_config_json={**VIT, "image_processor_type": "OursImageProcessor"})  # fmt: skip
    output = refused(folder)
    assert "--set image_processor=" in output
    assert "OursImageProcessor" in output
    with packed(folder, "--set", "image_processor=ViT") as predictor:
        assert predictor.predict(image=drawn_picture())


def test_inputs_that_no_config_describes(tmp_path: Path) -> None:
    folder = vit(tmp_path / "vit")
    data = image_graph().replace(b"pixel_values", b"pixel_number")
    save(folder / "model.onnx", data)
    assert "pixel_number" in refused(folder)


def test_every_damaged_graph_is_refused(tmp_path: Path) -> None:
    """Cut and overwritten graphs: an error of edgekit, nothing else."""
    from edgekit.packaging.huggingface import read_huggingface
    from edgekit.targets import find_target

    folder = vit(tmp_path / "vit")
    data = (folder / "model.onnx").read_bytes()
    random = np.random.RandomState(1)
    refusals = 0
    for _ in range(60):
        hurt = bytearray(data[: random.randint(0, len(data))] if random.rand() < 0.5 else data)
        for _ in range(3):
            if hurt:
                hurt[random.randint(0, len(hurt))] = random.randint(0, 256)
        (folder / "model.onnx").write_bytes(hurt)
        try:
            read_huggingface(folder, find_target("linux-x86_64"), variant=None, task=None, answers={})
        except EdgekitError:
            refusals += 1
    assert refusals > 20


def test_hub_ids_need_the_extra_and_a_good_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    result = CliRunner().invoke(main, ["package", "hf:owner/name", "--target", "linux-x86_64"])
    assert result.exit_code != 0
    assert 'pip install "edgekit-sdk[hub]"' in result.output
    result = CliRunner().invoke(main, ["package", "hf:owner", "--target", "linux-x86_64"])
    assert (result.exit_code, "hf:owner/name" in result.output) == (4, True)


def test_files_wanted_of_a_repository() -> None:
    """One variant with its weights, not all; a merged graph beside towers, for its logit scale."""
    from edgekit.packaging.hub_download import wanted_files
    from edgekit.targets import find_target

    target = find_target("linux-x86_64")
    names = ["config.json", "onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_fp16.onnx", "onnx/model_q4.onnx",
             "onnx/model_q4.onnx_data", "onnx/model_q4.onnx_data_1", "pytorch_model.bin", "sub/model.onnx"]  # fmt: skip
    assert wanted_files(names, None, target, "o/n") == ["onnx/model.onnx", "onnx/model.onnx_data"]
    assert wanted_files(names, "q4", target, "o/n") == [
        "onnx/model_q4.onnx", "onnx/model_q4.onnx_data", "onnx/model_q4.onnx_data_1",
    ]  # fmt: skip
    towers = ["onnx/text_model_int8.onnx", "onnx/vision_model_int8.onnx", "onnx/model.onnx", "onnx/model_int8.onnx"]
    assert sorted(wanted_files(towers, "int8", target, "o/n")) == sorted(towers)
    with pytest.raises(InputError, match="no variant 'bnb4'"):
        wanted_files(names, "bnb4", target, "o/n")
    with pytest.raises(InputError, match=r"no \.onnx"):
        wanted_files(["model.safetensors"], None, target, "o/n")


def test_a_hub_id_downloads_one_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for huggingface_hub that serves a folder: the package's only calls to it."""
    import shutil
    import sys
    from fnmatch import fnmatch
    from types import ModuleType, SimpleNamespace

    remote = vit(tmp_path / "remote")
    (remote / "onnx").mkdir()
    (remote / "model.onnx").rename(remote / "onnx" / "model.onnx")
    save(remote / "onnx" / "model_q4.onnx", image_graph())
    save(remote / "pytorch_model.bin", b"0" * 100)
    (remote / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    names = sorted(p.relative_to(remote).as_posix() for p in remote.rglob("*") if p.is_file())
    fetched: list[str] = []

    def snapshot(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert (repository, revision) == ("someone/Small-ViT", "v2")
        local = tmp_path / "models--someone--Small-ViT" / "snapshots" / "abc"
        for name in names:
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (local / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(remote / name, local / name)
                fetched.append(name)
        return str(local)

    class RepositoryNotFoundError(Exception):
        pass

    def listed(repository: str, revision: str | None) -> list[str]:
        if repository == "someone/nothing":
            raise RepositoryNotFoundError("404")
        if repository == "someone/offline":
            raise OSError("no route to host")
        return names

    stand_in = ModuleType("huggingface_hub")
    stand_in.HfApi = lambda: SimpleNamespace(list_repo_files=listed)  # type: ignore[attr-defined]
    stand_in.snapshot_download = snapshot  # type: ignore[attr-defined]
    errors = SimpleNamespace(RepositoryNotFoundError=RepositoryNotFoundError)
    stand_in.errors = errors  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in)

    def package(source: str) -> Any:
        output = str(tmp_path / "out.edgekit")
        return CliRunner().invoke(main, ["package", source, "--target", "linux-x86_64", "-o", output])

    result = package("hf:someone/Small-ViT@v2")
    assert result.exit_code == 0, result.output
    assert fetched == ["README.md", "config.json", "onnx/model.onnx", "preprocessor_config.json"]
    with load(tmp_path / "out.edgekit") as predictor:
        manifest = predictor.manifest
    assert manifest.name.startswith("small-vit")
    assert (manifest.license, manifest.source) == ("apache-2.0", "hf:someone/Small-ViT@v2")
    assert (package("hf:someone/nothing").exit_code, package("hf:someone/offline").exit_code) == (4, 7)
