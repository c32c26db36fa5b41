"""How the values of the flow become a typed result: one record per task."""

from __future__ import annotations

from typing import Literal, Union

from edgekit.errors import ManifestError
from edgekit.records import Record

ANCHORS_LIMIT = 1 << 20
"""Boxes of one graph that counts from anchors."""


class Classification(Record):
    """Scores of `value` (1, classes) by label, best first; `top_k` 0 keeps all.

    aggregate: how several rows (windows of a sound) become one: `none` needs exactly one row.
    labels: a file of the bundle, one label a line.
    """

    task: Literal["classification"]
    value: str
    activation: Literal["none", "softmax", "sigmoid"]
    aggregate: Literal["none", "mean", "max"]
    labels: str
    top_k: int


class Pooling(Record):
    """From token states (1, tokens, width) to one vector; `mask` names the value of real tokens."""

    mode: Literal["mean", "cls", "last", "max"]
    mask: str | None


class EmbeddingSource(Record):
    """Where the embedding of one input comes from."""

    value: str
    pooling: Pooling | None


class Embeddings(Record):
    """One vector per input given; `normalize` makes its Euclidean length 1."""

    task: Literal["embedding"]
    sources: dict[str, EmbeddingSource]
    normalize: bool


class Similarity(Record):
    """score = activation(scale * cos(a, b) + bias) of the image or audio against each text.

    sources: keyword -> its embedding, in one space. One input alone gives its embedding.
    template: the candidate's text, `{}` stands for the label.
    """

    task: Literal["similarity"]
    sources: dict[str, EmbeddingSource]
    scale: float
    bias: float
    activation: Literal["none", "softmax", "sigmoid"]
    template: str


class Anchors(Record):
    """Boxes count from the middle of the cells of grids over a tensor of (height, width) pixels (MediaPipe's anchors).

    Level after level, row after row: a cell of `strides[i]` pixels has `per_cell[i]` boxes in a row.
    """

    height: int
    width: int
    strides: tuple[int, ...]
    per_cell: tuple[int, ...]

    def check(self) -> None:
        if not self.strides or len(self.strides) != len(self.per_cell):
            raise ManifestError("per_cell", f"expected a number for each of {len(self.strides)} strides")
        for name in ("height", "width"):
            if not 1 <= self.__dict__[name] <= 65536:
                raise ManifestError(name, f"expected 1 to 65536, got {self.__dict__[name]}")
        for name, most in (("strides", 65536), ("per_cell", 64)):
            for index, number in enumerate(self.__dict__[name]):
                if not 1 <= number <= most:
                    raise ManifestError(f"{name}[{index}]", f"expected 1 to {most}, got {number}")
        cells = sum(-(-self.height // n) * -(-self.width // n) * per for n, per in zip(self.strides, self.per_cell))
        if cells > ANCHORS_LIMIT:
            raise ManifestError("strides", f"{cells} boxes, at most {ANCHORS_LIMIT}")


class Suppression(Record):
    """Of boxes of one label that overlap by more than `overlap` (intersection over union) one is left.

    method: `best` keeps the best as it is; `weighted` puts the mean of them all, by score, in its place (MediaPipe).
    """

    method: Literal["best", "weighted"]
    overlap: float

    def check(self) -> None:
        if not 0.0 <= self.overlap <= 1.0:
            raise ManifestError("overlap", f"expected 0 to 1, got {self.overlap}")


class Detections(Record):
    """Boxes of `boxes` (1, queries, 4 + 2 k) scored by `logits` (1, queries, classes), best first, above `threshold`.

    After its four numbers a box has k points (x, y), the keypoints.
    image: the input whose original pixels the boxes are given in.
    scoring: `softmax_no_object` is the best class of each query but the last, which means nothing is there (DETR,
        YOLOS); `sigmoid_top` the `top_k` best of all queries and classes, 0: as many as there are queries (RT-DETR).
    format: `cxcywh` centre and size, `xyxy` corners. unit: fractions of the whole picture, or pixels of the tensor.
    anchors: null where boxes count from the tensor's corner. suppression: null where none overlap by training.
    """

    task: Literal["detections"]
    boxes: str
    logits: str
    image: str
    scoring: Literal["softmax_no_object", "sigmoid_top"]
    format: Literal["cxcywh", "xyxy"]
    unit: Literal["picture", "tensor"]
    labels: str
    threshold: float
    top_k: int
    anchors: Anchors | None
    suppression: Suppression | None

    def check(self) -> None:
        if self.anchors is not None and (self.unit != "tensor" or self.format != "cxcywh"):
            raise ManifestError("anchors", f"need format cxcywh in tensor pixels, got {self.format} in {self.unit}")


class Segmentation(Record):
    """The class of each pixel: `value` (1, classes, h, w) stretched bilinearly over the original of `image`, its
    largest; without the classes' axis the values are classes already."""

    task: Literal["segmentation"]
    value: str
    image: str
    labels: str


class Depth(Record):
    """`value` (1, h, w) or (1, 1, h, w) stretched over the original of `image`."""

    task: Literal["depth"]
    value: str
    image: str
    resize: Literal["bicubic", "bilinear"]


class Entities(Record):
    """Labels of tokens, `value` (1, tokens, classes), grouped into entities of the input `text`.

    aggregation: transformers' strategies: `simple` per token; `first`, `average`, `max` per word.
    outside: the label that is no entity. tokenizer: the file that the text was cut by.
    """

    task: Literal["entities"]
    value: str
    text: str
    aggregation: Literal["simple", "first", "average", "max"]
    outside: str
    labels: str
    tokenizer: str


class Ctc(Record):
    """Connectionist temporal classification, greedy: the best id of each frame of `value` (rows, frames, ids),
    repetitions joined, `blank` left out.

    audio: the input that was heard. vocabulary: a JSON file of token -> id. delimiter: the token between words, "" for
    none. cleanup: no space before punctuation. frame_length, frame_hop: samples (at rate_hz) that a frame sees, and
    from one to the next. window: samples per row, 0 when the whole sound is one row; a row's frames beyond the sound
    are left out.
    """

    task: Literal["ctc"]
    value: str
    audio: str
    vocabulary: str
    blank: int
    delimiter: str
    lowercase: bool
    cleanup: bool
    rate_hz: int
    frame_length: int
    frame_hop: int
    window: int


class Raw(Record):
    """The named values as they are."""

    task: Literal["raw"]
    values: tuple[str, ...]


class Generated(Record):
    """The text that the manifest's `generation` writes token by token (specs/generation.py)."""

    task: Literal["generated"]


Postprocess = Union[
    Classification, Embeddings, Similarity, Detections, Segmentation, Depth, Entities, Ctc, Raw, Generated
]
