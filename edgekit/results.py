"""The typed results of predict. Field names are the same in `to_dict()`, in the command line's JSON and in Java."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.arrays import Array
from edgekit.records import Json, Record


class Result(Record):
    """Base of all results; `timings` is milliseconds per stage and not part of what is compared."""

    timings: Mapping[str, float]

    def to_dict(self) -> dict[str, Json]:
        """Plain lists, numbers and strings, `timings` included."""
        return {name: _plain(self.__dict__[name]) for name in (*self.fields_[1:], "timings")}

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, Result):
            return False
        mine, theirs = self.to_dict(), other.to_dict()
        return all(mine[name] == theirs[name] for name in self.fields_[1:])

    def __hash__(self) -> int:
        return id(self)


def assemble(kind: type[Result], fields: Mapping[str, Any], timings: Mapping[str, float]) -> Result:
    """`kind(timings=timings, **fields)` in a third of the time, for fields that a task's own function made."""
    made = kind.__new__(kind)
    own = made.__dict__
    own["timings"] = timings
    own.update(fields)
    return made


def _plain(value: Any) -> Json:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return value.tolist() if hasattr(value, "tolist") else value


class Classification(Result):
    """`scores` maps label to score, best first; `label` and `score` are its first entry."""

    label: str
    score: float
    scores: dict[str, float]

    def __str__(self) -> str:
        return _ranking(self.scores)


class Similarity(Result):
    """Candidate texts by score, best first, and the unit vectors they came from (null: that side was not given)."""

    label: str
    score: float
    scores: dict[str, float]
    image_embedding: Array | None
    audio_embedding: Array | None
    text_embedding: Array | None

    def __str__(self) -> str:
        return _ranking(self.scores)


class Embedding(Result):
    """One vector, float32 (width,)."""

    embedding: Array

    def __str__(self) -> str:
        shown = ", ".join(f"{x:.4f}" for x in self.embedding[:4].tolist())
        return f"embedding of {len(self.embedding)} numbers: {shown}, ..."


class Detections(Result):
    """Things found, best first: `boxes` float32 (n, 4): left, top, right, bottom in the original picture's pixels.

    keypoints: float32 (n, k, 2) as (x, y) in the same pixels; null where the model has none.
    """

    boxes: Array
    labels: list[str]
    scores: list[float]
    keypoints: Array | None

    def __str__(self) -> str:
        rows = zip(self.scores, self.labels, self.boxes.tolist())
        return (
            "\n".join(f"{score:7.4f}  {label}  {[round(x, 1) for x in box]}" for score, label, box in rows) or "nothing"
        )


class Segmentation(Result):
    """`mask` uint8 or uint16 (H, W) of the original picture: the position in `labels` of each pixel's class."""

    mask: Array
    labels: list[str]

    def __str__(self) -> str:
        counts = [(int((self.mask == i).sum()), label) for i, label in enumerate(self.labels)]
        shown = sorted((c for c in counts if c[0]), reverse=True)
        return "\n".join(f"{count / self.mask.size:7.2%}  {label}" for count, label in shown[:5])


class Depth(Result):
    """`predicted_depth` float32 (H, W) of the original picture, in the model's own unit."""

    predicted_depth: Array

    def __str__(self) -> str:
        depth = self.predicted_depth
        return f"depth {depth.shape[0]} x {depth.shape[1]}: {float(depth.min()):.4g} to {float(depth.max()):.4g}"


class Entities(Result):
    """`entities`: each a dictionary of `entity_group, score, word, start, end` (character range of the text)."""

    entities: list[dict[str, Any]]

    def __str__(self) -> str:
        rows = (f"{e['score']:7.4f}  {e['entity_group']}  {e['word']}  {e['start']}-{e['end']}" for e in self.entities)
        return "\n".join(rows) or "no entities"


class Transcript(Result):
    """What was said. tokens: ids; timestamps: dictionaries of `start, end` (seconds) and `text`, one per word (CTC) or
    per segment (generated), empty where the model has none."""

    text: str
    tokens: list[int]
    timestamps: list[dict[str, Any]]

    def __str__(self) -> str:
        return self.text


class Text(Result):
    """Generated text and its token ids, special ones included."""

    text: str
    tokens: list[int]

    def __str__(self) -> str:
        return self.text


class Raw(Result):
    """The values of the flow by name."""

    tensors: dict[str, Array]

    def __str__(self) -> str:
        return "\n".join(f"{name}: {t.dtype} {tuple(t.shape)}" for name, t in self.tensors.items())


def _ranking(scores: Mapping[str, float]) -> str:
    return "\n".join(f"{score:7.4f}  {label}" for label, score in list(scores.items())[:5])
