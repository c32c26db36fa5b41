"""What `load`, `load_app` and `predict_batch` take: the wrong kind is named at once, by an error of edgekit's own."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packing import SEVEN_PNG

import edgekit
from edgekit.errors import (
    BackendError,
    ClosedError,
    DeployError,
    EdgekitError,
    GateFailed,
    InputError,
    ManifestError,
    TargetError,
)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threads": -1}, "threads: expected a whole number 0 to 1024, got -1"),
        ({"threads": 10**9}, "threads: expected a whole number 0 to 1024"),
        ({"threads": 1.5}, "threads: expected a whole number 0 to 1024, got 1.5"),
        ({"threads": "2"}, "got '2'"),
        ({"threads": True}, "got True"),
        ({"workers": 0}, "workers: expected a whole number 1 to 64, got 0"),
        ({"workers": "x"}, "workers: expected"),
        ({"text_memory": -1}, "text_memory: expected a whole number from 0, got -1"),
        ({"text_memory": None}, "text_memory: expected"),
        ({"verify": "no"}, "verify: expected 'stamp' or 'full', got 'no'"),
        ({"providers": "CPUExecutionProvider"}, "providers: expected a list of names"),
        ({"providers": [1]}, "providers: expected a list of names"),
    ],
    ids=str,
)
def test_wrong_options_of_load_are_named(options: dict[str, Any], words: str, tridigit: Path) -> None:
    """Before anything is opened: the option, what it may be, what it was; exit 4."""
    with pytest.raises(InputError) as refused:
        edgekit.load(tridigit, **options)
    assert words in str(refused.value)


def test_right_options_of_load(tridigit: Path) -> None:
    """numpy's whole numbers count as such; 0 threads is the runtime's choice; no memory for texts works."""
    options: dict[str, Any] = {"threads": np.int64(1), "text_memory": 0, "verify": "full", "workers": 2}
    with edgekit.load(str(tridigit), **options) as model:
        assert model.predict(image=SEVEN_PNG, text=["two", "seven"]).label == "seven"
        assert repr(model) == "<Predictor tridigit 1.0>"
    assert repr(model) == "<Predictor tridigit 1.0, closed>"
    with edgekit.load(tridigit, threads=0) as model:
        assert model.predict(text="seven").embedding.shape == (64,)


def test_something_else_than_a_path() -> None:
    """Not a TypeError from somewhere inside."""
    with pytest.raises(InputError, match="expected the path of a bundle, got NoneType"):
        edgekit.load(None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'None' is not an app name"):
        edgekit.load_app(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (None, "expected a list of items, got NoneType"),
        ({"image": SEVEN_PNG}, "expected a list of items, got dict"),
        ("seven", "expected a list of items, got str"),
        ([SEVEN_PNG], "item 0: expected the keywords of one predict"),
        ([{"text": "7"}, np.zeros(3)], "item 1: expected the keywords of one predict, got ndarray"),
        ([{"text": "7"}, {"img": 1}], "item 1: 'tridigit' takes audio=, image=, text=; got img"),
        ([{}], "item 0: 'tridigit' takes audio=, image=, text=; got nothing"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_items_of_a_batch_are_named(items: Any, words: str, tridigit: Path) -> None:
    """An InputError with an example of what is meant."""
    with edgekit.load(tridigit) as model, pytest.raises(InputError) as refused:
        model.predict_batch(items)
    assert words in str(refused.value)


def test_an_empty_batch_and_a_generator_of_items(tridigit: Path, tridigit_tflite: Path) -> None:
    """No items, no results; any iterable of keywords will do, on both runtimes."""
    for bundle in (tridigit, tridigit_tflite):
        with edgekit.load(bundle) as model:
            assert model.predict_batch([]) == []
            assert len(model.predict_batch({"text": word} for word in ("one", "two"))) == 2


def test_every_way_into_a_closed_predictor_is_refused(tridigit: Path) -> None:
    """L6: predict, batch, stream, generate, trace and `with` after close."""
    model = edgekit.load(tridigit)
    model.close()
    calls = [
        lambda: model.predict(text="7"),
        lambda: model.predict(img="7"),
        lambda: model.predict_batch([{"text": "7"}]),
        lambda: model.stream(),
        lambda: model.generate(text="7"),
        lambda: model.trace(text="7"),
        lambda: model.__enter__(),
    ]
    for call in calls:
        with pytest.raises(ClosedError, match="is closed"):
            call()


@pytest.mark.parametrize(
    "error",
    [
        InputError("a", hint="b"),
        ManifestError("files.x", "unknown", hint="c"),
        ManifestError("", "not JSON"),
        *(kind("a", hint="b") for kind in (BackendError, TargetError, DeployError, GateFailed)),
    ],
    ids=repr,
)
def test_errors_cross_a_process_pool(error: EdgekitError) -> None:
    """A worker process hands its error to its parent whole: kind, text, hint, exit code."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.hint) == (type(error), str(error), error.hint)
    assert again.__dict__ == error.__dict__
