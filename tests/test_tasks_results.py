"""Promise: boxes, masks, depth, entities and transcripts are what transformers' post-processing gives (issue 3: tasks).

Truth: golden/make_hub_golden.py ran it on the same numbers; CTC cases are literal.
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import results
from edgekit.errors import BundleError, GraphRefused, ManifestError
from edgekit.postprocess import finisher
from edgekit.postprocess.dense import segment
from edgekit.postprocess.scores import ranked
from edgekit.preprocess.sound import Sound
from edgekit.preprocess.text import Tokens
from edgekit.specs import post
from edgekit.specs.image import Geometry

GOLDEN = Path(__file__).parent / "golden"
HUB = json.loads((GOLDEN / "hub.json").read_text())
TASKS = HUB["tasks"]


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    with np.load(GOLDEN / "hub.npz") as found:
        return dict(found)


def geometry(height: int, width: int, **changes: Any) -> Geometry:
    fields: dict[str, Any] = {
        "scale_y": 1.0, "scale_x": 1.0, "offset_y": 0.0, "offset_x": 0.0, "content_top": 0, "content_left": 0,
        "content_height": height, "content_width": width, "turned": False,
    }  # fmt: skip
    return Geometry(height=height, width=width, **{**fields, **changes})


def detections(**changes: Any) -> post.Detections:
    fields: dict[str, Any] = {
        "boxes": "boxes", "logits": "logits", "image": "image", "scoring": "softmax_no_object", "format": "cxcywh",
        "unit": "picture", "labels": "labels.txt", "threshold": 0.2, "top_k": 0,
        "anchors": None, "suppression": None,
    }  # fmt: skip
    return post.Detections(task="detections", **{**fields, **changes})


def found(spec: post.Detections, values: dict[str, Any], where: Geometry, classes: int) -> results.Detections:
    names = "".join(f"class {i}\n" for i in range(classes)).encode()
    _, finish = finisher(spec, lambda _: names)
    kind, fields = finish(values, {"image": where})
    made = kind(timings={}, **fields)
    assert isinstance(made, results.Detections)
    return made


@pytest.mark.parametrize("case", TASKS["detection"], ids=lambda c: c["model_type"])
def test_detections(arrays: dict[str, Any], case: dict[str, Any]) -> None:
    no_object = case["model_type"] in ("detr", "yolos")
    top = {"rt_detr": 0, "conditional_detr": 100, "deformable_detr": 100}
    spec = detections() if no_object else detections(scoring="sigmoid_top", top_k=top[case["model_type"]])
    values = {"logits": arrays["detection_logits"], "boxes": arrays["detection_boxes"]}
    made = found(spec, values, geometry(123, 321), 5)
    order = np.argsort(-np.array(case["scores"]), kind="stable")
    assert len(made.scores) == len(order) > 3
    assert made.scores == pytest.approx(np.array(case["scores"])[order].tolist(), abs=1e-6)
    assert made.labels == [f"class {case['labels'][i]}" for i in order]
    assert np.abs(made.boxes - np.array(case["boxes"])[order]).max() < 1e-3
    assert made.boxes.dtype == np.float32


def test_no_detection_is_an_empty_result(arrays: dict[str, Any]) -> None:
    values = {"logits": arrays["detection_logits"], "boxes": arrays["detection_boxes"]}
    made = found(detections(threshold=1.0), values, geometry(10, 10), 5)
    assert (made.labels, made.scores, made.boxes.shape) == ([], [], (0, 4))
    assert str(made) == "nothing"


def test_boxes_of_a_turned_tensor() -> None:
    """In tensor pixels: the tensor shows the picture turned a quarter clockwise at half its size."""
    values = {"logits": np.array([[[9.0, 0.0]]], np.float32), "boxes": np.array([[[2.0, 1.0, 4.0, 3.0]]], np.float32)}
    where = geometry(20, 40, scale_x=2.0, scale_y=2.0, turned=True)
    made = found(detections(format="xyxy", unit="tensor"), values, where, 1)
    # (x, y) of the turned picture is (y, height - x) of the original: x 4..8, y 2..6.
    assert made.boxes.tolist() == [[2.0, 12.0, 6.0, 16.0]]


ANCHORS = post.Anchors(height=4, width=6, strides=(2, 4), per_cell=(1, 2))
"""Cells' middles by hand: 2 rows of 3 cells of 2 pixels, then 1 row of 2 cells, 3 x 4 pixels each, two boxes a cell."""
MIDDLES = [[1, 1], [3, 1], [5, 1], [1, 3], [3, 3], [5, 3], [1.5, 2], [1.5, 2], [4.5, 2], [4.5, 2]]


def test_boxes_count_from_anchors() -> None:
    """Offset (0.25, -0.5), size 2 x 1, a keypoint at (1, 0), from each middle; two pixels to the tensor's one."""
    row = np.array([0.25, -0.5, 2.0, 1.0, 1.0, 0.0], np.float32)
    values = {"logits": np.linspace(5, 1, 10, dtype=np.float32)[None, :, None], "boxes": np.tile(row, (1, 10, 1))}
    spec = detections(scoring="sigmoid_top", unit="tensor", anchors=ANCHORS)
    made = found(spec, values, geometry(8, 12, scale_x=2.0, scale_y=2.0), 1)
    assert made.boxes.tolist() == [[2 * x - 1.5, 2 * y - 2, 2 * x + 2.5, 2 * y] for x, y in MIDDLES]
    assert made.keypoints is not None
    assert made.keypoints.tolist() == [[[2 * x + 2, 2 * y]] for x, y in MIDDLES]
    with pytest.raises(GraphRefused, match="10 boxes, the manifest's anchors are 6"):
        found(spec.replace(anchors=ANCHORS.replace(strides=(2,), per_cell=(1,))), values, geometry(8, 12), 1)
    with pytest.raises(ManifestError, match="anchors"):
        spec.replace(unit="picture")


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_overlapping_boxes_are_one() -> None:
    """By hand: 10 x 10 boxes; the second overlaps the first by 80 / 120, the third by 50 / 150 and the second by
    70 / 130; the last is another label's at the first's place."""
    boxes = np.array([[[0, 0, 10, 10], [2, 0, 12, 10], [5, 0, 15, 10], [0, 0, 10, 10]]], np.float32)
    scores = np.full((1, 4, 2), -50.0, np.float32)
    scores[0, :3, 0] = [logit(0.8), logit(0.6), logit(0.4)]
    scores[0, 3, 1] = logit(0.7)
    values, where = {"logits": scores, "boxes": boxes}, geometry(20, 20)
    spec = detections(scoring="sigmoid_top", format="xyxy", unit="tensor")

    best = found(spec.replace(suppression=post.Suppression(method="best", overlap=0.5)), values, where, 2)
    assert best.labels == ["class 0", "class 1", "class 0"]
    assert best.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 10, 10], [5, 0, 15, 10]]
    assert best.keypoints is None

    mean = found(spec.replace(suppression=post.Suppression(method="weighted", overlap=0.5)), values, where, 2)
    assert mean.scores == pytest.approx([0.8, 0.7, 0.4])
    left = 2 * 0.6 / 1.4  # of 0 by 0.8 and 2 by 0.6
    assert mean.boxes.tolist() == [pytest.approx(b) for b in ([left, 0, left + 10, 10], [0, 0, 10, 10], [5, 0, 15, 10])]

    all_three = found(spec.replace(suppression=post.Suppression(method="best", overlap=0.3)), values, where, 2)
    assert all_three.labels == ["class 0", "class 1"]
    nothing = found(
        spec.replace(threshold=0.99, suppression=post.Suppression(method="best", overlap=0.3)), values, where, 2
    )
    assert nothing.boxes.shape == (0, 4)


def test_segmentation(arrays: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = post.Segmentation(task="segmentation", value="logits", image="image", labels="labels.txt")
    want = arrays["segmentation_mask"]
    made = segment(spec, arrays["segmentation_logits"], geometry(50, 61), 7)
    assert made.dtype == np.uint8
    assert np.array_equal(made, want)
    monkeypatch.setattr("edgekit.postprocess.dense.BLOCK_BYTES", 5000)  # a few rows at a time
    assert np.array_equal(segment(spec, arrays["segmentation_logits"], geometry(50, 61), 7), want)
    classes = np.array([[[0, 1], [2, 3]]])
    assert segment(spec, classes, geometry(4, 4), 300).tolist() == np.kron([[0, 1], [2, 3]], np.ones((2, 2))).tolist()
    assert segment(spec, classes, geometry(4, 4), 300).dtype == np.uint16


def test_depth(arrays: dict[str, Any]) -> None:
    spec = post.Depth(task="depth", value="depth", image="image", resize="bicubic")
    _, finish = finisher(spec, lambda _: b"")
    kind, fields = finish({"depth": arrays["depth"]}, {"image": geometry(33, 52)})
    assert kind is results.Depth
    assert fields["predicted_depth"].dtype == np.float32
    assert np.abs(fields["predicted_depth"] - arrays["depth_resized"]).max() < 1e-4


@pytest.mark.parametrize("aggregation", ["simple", "first", "average", "max"])
def test_entities(aggregation: str) -> None:
    from tokenizers import Tokenizer

    document = json.dumps(HUB["tokenizer"])
    tokenizer = Tokenizer.from_str(document)
    spec = post.Entities(
        task="entities", value="logits", text="text", aggregation=aggregation,  # type: ignore[arg-type]
        outside="O", labels="labels.txt", tokenizer="tokenizer.json",
    )  # fmt: skip
    files = {"labels.txt": "".join(f"{x}\n" for x in HUB["labels"]).encode(), "tokenizer.json": document.encode()}
    _, finish = finisher(spec, files.__getitem__)
    count = 0
    for case in TASKS["entities"]:
        encoding = tokenizer.encode(case["text"])
        assert encoding.ids == case["ids"]
        tokens = Tokens(encoding.ids, encoding.type_ids, partial(tokenizer.encode, case["text"]))
        logits = np.pad(np.array([case["logits"]], np.float32), ((0, 0), (0, 3), (0, 0)))  # padded on the right
        kind, fields = finish({"logits": logits}, {"text": (case["text"], tokens)})
        made = kind(timings={}, **fields).to_dict()["entities"]
        for entity, want in zip(made, case[aggregation]):
            assert entity.pop("score") == pytest.approx(want.pop("score"), abs=1e-6)
            assert entity == want
        assert len(made) == len(case[aggregation])
        count += len(made)
    assert count > 8


def ctc(**changes: Any) -> post.Ctc:
    fields: dict[str, Any] = {
        "value": "logits", "audio": "audio", "vocabulary": "vocab.json", "blank": 0, "delimiter": "|",
        "lowercase": False, "cleanup": False, "rate_hz": 100, "frame_length": 20, "frame_hop": 10, "window": 0,
    }  # fmt: skip
    return post.Ctc(task="ctc", **{**fields, **changes})


def heard(spec: post.Ctc, ids: list[list[int]], samples: int, rate_hz: int = 100) -> dict[str, Any]:
    vocabulary = {"<pad>": 0, "|": 1, "A": 2, "B": 3, "<unk>": 4, ".": 5}
    _, finish = finisher(spec, lambda _: json.dumps(vocabulary).encode())
    logits = np.eye(6, dtype=np.float32)[np.array(ids)]
    kind, fields = finish({"logits": logits}, {"audio": Sound(np.zeros((samples, 1), np.int16), rate_hz)})
    assert kind is results.Transcript
    document: dict[str, Any] = kind(timings={}, **fields).to_dict()
    return document


def test_ctc() -> None:
    made = heard(ctc(), [[0, 2, 2, 0, 2, 1, 1, 3, 4, 0]], 110)
    assert made["text"] == "AA B<unk>"
    assert made["tokens"] == [2, 2, 1, 3, 4]
    assert made["timestamps"] == [
        {"start": 0.1, "end": 0.5, "text": "AA"},
        {"start": 0.7000000000000001, "end": 0.9, "text": "B<unk>"},
    ]
    assert heard(ctc(lowercase=True, cleanup=True), [[2, 1, 5]], 40)["text"] == "a."


def test_ctc_in_windows() -> None:
    """Frames of a row that lie beyond the sound say nothing; a letter may be repeated across rows."""
    spec = ctc(window=50)
    made = heard(spec, [[2, 3, 2, 3], [2, 3, 2, 3]], 80)  # the second row holds 30 samples: 2 frames
    assert made["tokens"] == [2, 3, 2, 3, 2, 3]
    assert made["timestamps"][0]["end"] == pytest.approx(0.7)
    assert heard(spec, [[2, 3, 2, 3]], 10)["text"] == ""
    assert heard(spec, [[2, 3, 2, 3]], 20, rate_hz=200)["text"] == ""  # 10 samples at the model's rate


def test_silence_is_an_empty_transcript() -> None:
    assert heard(ctc(), [[0, 0, 0]], 40) == {"text": "", "tokens": [], "timestamps": [], "timings": {}}


def test_what_no_answer_can_be_made_of() -> None:
    nan = np.full((1, 3, 6), np.nan, np.float32)
    vocabulary = b'{"<pad>":0}'
    _, finish = finisher(ctc(), lambda _: vocabulary)
    context = {"audio": Sound(np.zeros((40, 1), np.int16), 100), "image": geometry(4, 4)}
    with pytest.raises(GraphRefused, match="NaN"):
        finish({"logits": nan}, context)
    with pytest.raises(GraphRefused, match="id 5"):
        finish({"logits": np.eye(6, dtype=np.float32)[None, 5:]}, context)
    with pytest.raises(BundleError, match=r"vocab\.json"):
        finisher(ctc(), lambda _: b'["a"]')
    with pytest.raises(GraphRefused, match="NaN"):
        found(detections(), {"logits": nan, "boxes": np.zeros((1, 3, 4))}, geometry(4, 4), 5)
    with pytest.raises(GraphRefused, match="3 labels"):
        found(detections(), {"logits": np.eye(6, dtype=np.float32)[None] * 9, "boxes": np.zeros((1, 6, 4))},
              geometry(4, 4), 3)  # fmt: skip
    spec = post.Segmentation(task="segmentation", value="logits", image="image", labels="labels.txt")
    with pytest.raises(GraphRefused, match="expected"):
        segment(spec, np.zeros((1, 4, 2, 2), np.float32), geometry(4, 4), 3)


def test_of_twin_labels_the_best_stands() -> None:
    """ImageNet has two classes named crane."""
    assert ranked(["crane", "owl", "crane"], np.array([0.5, 0.3, 0.2]), 0) == {"crane": 0.5, "owl": 0.3}
