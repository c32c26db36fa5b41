"""From the values of the flow to what a result says: a function per task, chosen here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgekit import results
from edgekit.errors import BundleError
from edgekit.postprocess import scores
from edgekit.specs import post

Fields = tuple[type[results.Result], dict[str, Any]]
"""The kind of a result and its fields but `timings`."""

Finish = Callable[[Mapping[str, Any], Mapping[str, Any]], Fields]
"""From values by name and each input's context by keyword (see `inputs.Prepared`) to the fields."""


def read_labels(read: Callable[[str], bytes], name: str) -> list[str]:
    """The lines of a label file of the bundle."""
    try:
        return read(name).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BundleError(f"{name}: not UTF-8 ({error})") from None


def finisher(spec: post.Classification | post.Raw, read: Callable[[str], bytes]) -> tuple[tuple[str, ...], Finish]:
    """The values a task needs, and the function that makes the result of them; `read` gives a bundle's file."""
    if isinstance(spec, post.Classification):
        return (spec.value,), _classification(spec, read_labels(read, spec.labels))
    return spec.values, _raw(spec)


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
