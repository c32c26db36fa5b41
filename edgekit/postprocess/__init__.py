"""From the values of the flow to what a result says: a function per task, chosen here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Union

from edgekit import results
from edgekit.errors import BundleError
from edgekit.postprocess import scores
from edgekit.specs import post

Fields = tuple[type[results.Result], dict[str, Any]]
"""The kind of a result and its fields but `timings`."""

Direct = Union[post.Classification, post.Detections, post.Segmentation, post.Depth, post.Entities, post.Ctc, post.Raw]
"""Tasks whose result follows from one run of the flow."""

Finish = Callable[[Mapping[str, Any], Mapping[str, Any]], Fields]
"""From values by name and each input's context by keyword (see `inputs.Prepared`) to the fields."""


def read_labels(read: Callable[[str], bytes], name: str) -> list[str]:
    """The lines of a label file of the bundle."""
    try:
        return read(name).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BundleError(f"{name}: not UTF-8 ({error})") from None


def finisher(
    spec: Direct,
    read: Callable[[str], bytes],
) -> tuple[tuple[str, ...], Finish]:
    """The values a task needs, and the function that makes the result of them; `read` gives a bundle's file.

    What only one task needs is imported when that task is.
    """
    if isinstance(spec, post.Classification):
        return (spec.value,), _classification(spec, read_labels(read, spec.labels))
    if isinstance(spec, post.Detections):
        return (spec.logits, spec.boxes), _detections(spec, read_labels(read, spec.labels))
    if isinstance(spec, post.Segmentation):
        return (spec.value,), _segmentation(spec, read_labels(read, spec.labels))
    if isinstance(spec, post.Depth):
        return (spec.value,), _depth(spec)
    if isinstance(spec, post.Entities):
        return (spec.value,), _entities(spec, read_labels(read, spec.labels), read(spec.tokenizer))
    if isinstance(spec, post.Ctc):
        return (spec.value,), _ctc(spec, read(spec.vocabulary))
    return spec.values, _raw(spec)


def _detections(spec: post.Detections, labels: list[str]) -> Finish:
    from edgekit.postprocess.detections import detect

    def finish(values: Mapping[str, Any], contexts: Mapping[str, Any]) -> Fields:
        found = detect(spec, values[spec.logits], values[spec.boxes], contexts[spec.image], labels)
        return results.Detections, found

    return finish


def _segmentation(spec: post.Segmentation, labels: list[str]) -> Finish:
    from edgekit.postprocess.dense import segment

    def finish(values: Mapping[str, Any], contexts: Mapping[str, Any]) -> Fields:
        mask = segment(spec, values[spec.value], contexts[spec.image], len(labels))
        return results.Segmentation, {"mask": mask, "labels": labels}

    return finish


def _depth(spec: post.Depth) -> Finish:
    from edgekit.postprocess.dense import depth

    def finish(values: Mapping[str, Any], contexts: Mapping[str, Any]) -> Fields:
        return results.Depth, {"predicted_depth": depth(spec, values[spec.value], contexts[spec.image])}

    return finish


def _entities(spec: post.Entities, labels: list[str], tokenizer: bytes) -> Finish:
    from edgekit.postprocess.entities import find_entities, load_words

    words = load_words(tokenizer, spec.tokenizer)

    def finish(values: Mapping[str, Any], contexts: Mapping[str, Any]) -> Fields:
        text, tokens = contexts[spec.text]
        found = find_entities(spec, values[spec.value], text, tokens.encode(), labels, words)
        return results.Entities, {"entities": found}

    return finish


def _ctc(spec: post.Ctc, data: bytes) -> Finish:
    from edgekit.postprocess.ctc import read_vocabulary, transcribe

    vocabulary = read_vocabulary(data, spec.vocabulary)

    def finish(values: Mapping[str, Any], contexts: Mapping[str, Any]) -> Fields:
        sound = contexts[spec.audio]
        samples = -(-len(sound.samples) * spec.rate_hz // sound.rate_hz)
        return results.Transcript, transcribe(spec, values[spec.value], vocabulary, samples)

    return finish


def _classification(spec: post.Classification, labels: list[str]) -> Finish:
    def finish(values: Mapping[str, Any], contexts: Mapping[str, Any]) -> Fields:
        ranking = scores.classify(spec, values[spec.value], labels)
        label, score = next(iter(ranking.items()))
        return results.Classification, {"label": label, "score": score, "scores": ranking}

    return finish


def _raw(spec: post.Raw) -> Finish:
    names = spec.values

    def finish(values: Mapping[str, Any], contexts: Mapping[str, Any]) -> Fields:
        return results.Raw, {"tensors": {name: values[name] for name in names}}

    return finish
