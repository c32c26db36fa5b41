"""A predictor answers from several threads, refuses what it does not take, and is not poisoned by bad input."""

from __future__ import annotations

import gc
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from packing import SEVEN_PNG, SEVEN_WAV, WORDS
from PIL import Image

import edgekit
from edgekit.errors import ClosedError, EdgekitError, InputError
from edgekit.predictor import Predictor, load
from edgekit.results import Embedding, Similarity


@pytest.fixture(scope="module")
def predictor(tridigit: Path) -> Predictor:
    with load(tridigit) as opened:
        yield opened


def test_two_towers_or_one(predictor: Predictor) -> None:
    """One side alone runs one tower alone; both give the candidates by score."""
    both = predictor.predict(image=SEVEN_PNG, text=list(WORDS))
    assert isinstance(both, Similarity)
    assert (both.label, next(iter(both.scores))) == ("seven", "seven")
    assert sum(both.scores.values()) == pytest.approx(1.0)
    assert list(both.scores.values()) == sorted(both.scores.values(), reverse=True)
    assert both.audio_embedding is None
    assert both.text_embedding.shape == (10, 64)
    alone = predictor.predict(image=SEVEN_PNG)
    assert isinstance(alone, Embedding)
    assert set(alone.timings) == {"decode", "preprocess", "graph:image", "postprocess", "total"}
    np.testing.assert_array_equal(alone.embedding, both.image_embedding)


def test_every_kind_of_value_gives_the_same(predictor: Predictor) -> None:
    """Path, bytes, PIL image, array and Frame; path, bytes and (samples, rate)."""
    pixels = np.asarray(Image.open(SEVEN_PNG))
    colour = np.repeat(pixels[:, :, None], 3, axis=2)
    pictures = [
        SEVEN_PNG,
        str(SEVEN_PNG),
        SEVEN_PNG.read_bytes(),
        Image.open(SEVEN_PNG),
        pixels,
        colour,
        edgekit.Frame(array=colour, order="bgr"),
    ]
    first = predictor.predict(image=pictures[0]).embedding
    for picture in pictures[1:]:
        np.testing.assert_allclose(predictor.predict(image=picture).embedding, first, atol=1e-6)
    samples = np.frombuffer(SEVEN_WAV.read_bytes()[44:], "<i2")
    first = predictor.predict(audio=SEVEN_WAV).embedding
    for sound in (SEVEN_WAV.read_bytes(), (samples, 8000), (samples.astype(np.float32) / 32768, 8000)):
        np.testing.assert_allclose(predictor.predict(audio=sound).embedding, first, atol=1e-6)


def test_texts_seen_before_are_not_encoded_again(tridigit: Path) -> None:
    """A bounded memory of read-only arrays: the second call has no text stage, and cannot be spoilt."""
    with load(tridigit, text_memory=2) as predictor:
        first = predictor.predict(image=SEVEN_PNG, text=["seven", "two"])
        again = predictor.predict(image=SEVEN_PNG, text=["seven", "two"])
        assert "graph:text" in first.timings
        assert "graph:text" not in again.timings
        assert again.scores == first.scores
        with pytest.raises(ValueError, match="read-only"):
            predictor.predict(text="seven").embedding[0] = 1.0
        predictor.predict(image=SEVEN_PNG, text=["one", "three"])
        assert "graph:text" in predictor.predict(image=SEVEN_PNG, text=["seven"]).timings


def test_batch_is_the_sum_of_its_items(predictor: Predictor) -> None:
    """predict_batch gives what predict gives, and names the item that cannot be."""
    items = [{"image": SEVEN_PNG}, {"audio": SEVEN_WAV}, {"text": "7"}]
    for result, item in zip(predictor.predict_batch(items), items):
        assert result == predictor.predict(**item)
    with pytest.raises(InputError, match="item 1"):
        predictor.predict_batch([{"text": "7"}, {"image": b"no picture"}])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"img": "x.png"}, "takes audio=, image=, text="),
        ({}, "got nothing"),
        ({"text": ["seven", "two"]}, "candidate"),
        ({"image": SEVEN_PNG, "audio": SEVEN_WAV}, "image or audio against text"),
        ({"image": SEVEN_PNG, "text": ["a", "a"]}, "twice"),
        ({"image": SEVEN_PNG, "text": []}, "candidates"),
        ({"image": SEVEN_PNG, "text": ["a", 3]}, "candidate strings"),
        ({"text": b"seven"}, "decode bytes"),
        ({"text": "\ud800"}, "surrogate"),
        ({"text": "x" * (10 << 20)}, "at most 1048576 bytes"),
        ({"image": [SEVEN_PNG, SEVEN_PNG]}, "image"),
        ({"audio": np.zeros(8000, np.float32)}, "rate"),
        ({"audio": (np.zeros(0, np.float32), 8000)}, "empty"),
        ({"audio": (np.full(8000, np.nan, np.float32), 8000)}, "NaN"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_it_does_not_take_is_named(predictor: Predictor, given: dict, words: str) -> None:
    """Wrong keyword, wrong kind, wrong amount: InputError (exit 4) that says what was expected."""
    with pytest.raises(InputError) as refused:
        predictor.predict(**given)
    assert words.lower() in str(refused.value).lower()
    assert refused.value.exit_code == 4


def test_use_after_close(tridigit: Path) -> None:
    """L6: close twice is fine, predict after it is ClosedError, a stream's too."""
    predictor = load(tridigit)
    predictor.close()
    predictor.close()
    with pytest.raises(ClosedError, match="load it again"):
        predictor.predict(text="7")


@pytest.mark.parametrize("bundle", ["tridigit", "tridigit_tflite"])
def test_sixteen_threads_agree(bundle: str, request: pytest.FixtureRequest) -> None:
    """L4: 16 threads x 200 calls on one predictor, both runtimes: 0 errors, 0 differences."""
    with load(request.getfixturevalue(bundle), text_memory=4) as predictor:
        calls = [
            {"image": SEVEN_PNG, "text": ["seven", "two", "one"]},
            {"audio": SEVEN_WAV, "text": ["seven", "nine"]},
            {"text": "three"},
            {"image": SEVEN_PNG},
        ]
        expected = [predictor.predict(**call) for call in calls]
        barrier = threading.Barrier(16)

        def work(seed: int) -> int:
            order = random.Random(seed)
            barrier.wait()
            picks = [order.randrange(len(calls)) for _ in range(200)]
            return sum(predictor.predict(**calls[i]) != expected[i] for i in picks)

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(work, range(16))) == 0


def resident_bytes() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def test_memory_stays_flat_and_good_calls_exact(tridigit: Path) -> None:
    """L1, L2: 20,000 predicts with changing inputs and sizes, every eighth hostile: flat memory, good calls equal."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system has no /proc to read memory from")
    random_source = np.random.RandomState(3)
    reference = {"text": "seven"}
    with load(tridigit, text_memory=64) as predictor:
        expected = predictor.predict(image=SEVEN_PNG).embedding.copy()

        def call(index: int) -> None:
            kind = index % 8
            if kind == 0:
                size = tuple(random_source.randint(8, 96, 2))
                predictor.predict(image=random_source.randint(0, 256, (*size, 3)).astype(np.uint8))
            elif kind in (1, 2, 3):
                predictor.predict(text="".join(chr(97 + c) for c in random_source.randint(0, 26, 6)))
            elif kind == 4:
                length = random_source.randint(256, 9000)
                predictor.predict(audio=(random_source.standard_normal(length).astype(np.float32) * 0.1, 8000))
            elif kind == 5:
                with pytest.raises(EdgekitError):
                    predictor.predict(image=random_source.bytes(random_source.randint(0, 200)))
            elif kind == 6:
                predictor.predict(**reference)
            else:
                np.testing.assert_array_equal(predictor.predict(image=SEVEN_PNG).embedding, expected)

        for index in range(4000):
            call(index)
        gc.collect()
        before = resident_bytes()
        for index in range(20_000):
            call(index)
        gc.collect()
        assert resident_bytes() - before <= 2 << 20


def test_three_hundred_loads_stay_flat(tridigit: Path) -> None:
    """L1: opening and closing does not leak memory or descriptors."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("this system has no /proc to count descriptors in")
    for _ in range(20):
        load(tridigit).close()
    gc.collect()
    before, descriptors = resident_bytes(), len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(300):
        load(tridigit).close()
    gc.collect()
    assert resident_bytes() - before <= 4 << 20
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
