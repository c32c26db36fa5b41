"""How the values of the flow become a typed result: one record per task."""

from __future__ import annotations

from typing import Literal, Union

from edgekit.records import Record


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


class Raw(Record):
    """The named values as they are."""

    task: Literal["raw"]
    values: tuple[str, ...]


Postprocess = Union[Classification, Embeddings, Similarity, Raw]
