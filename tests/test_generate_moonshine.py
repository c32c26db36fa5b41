"""Issue 3: Moonshine tiny, packaged from PyPI by its recipe, makes at most 3 word errors in 71 on five LibriVox clips,
and says how fast it was. Its files are fetched once; without an index or a copy the tests are skipped."""

from __future__ import annotations

import re
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from packing import ROOT, pack

from edgekit import results
from edgekit.errors import InputError
from edgekit.golden import check
from edgekit.predictor import Predictor, load

RATE_HZ = 16000


@pytest.fixture(scope="module")
def moonshine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    path = tmp_path_factory.mktemp("moonshine") / "moonshine.edgekit"
    try:
        pack(ROOT / "models" / "moonshine-tiny-en" / "recipe.toml", path)
    except InputError as error:
        pytest.skip(error.message)
    with load(path) as predictor:
        yield predictor


def words(text: str) -> list[str]:
    """Lower case, hyphens as spaces, no other punctuation, and "mr" written out as the transcription has it."""
    plain = re.sub(r"[^a-z' ]", "", text.lower().replace("-", " ")).split()
    return ["mister" if word == "mr" else word for word in plain]


def word_errors(want: list[str], got: list[str]) -> int:
    """Substitutions, insertions and deletions."""
    row = list(range(len(got) + 1))
    for i, expected in enumerate(want, 1):
        diagonal, row[0] = row[0], i
        for j, found in enumerate(got, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != found))
    return row[-1]


def clips(shared: Path) -> list[tuple[Path, list[str]]]:
    folder = shared / "data" / "librivox"
    found = []
    for line in (folder / "transcription").read_text("utf-8").splitlines():
        match = re.fullmatch(r"<s> (.*) </s> \((.*)\)", line.strip())
        assert match
        found.append((folder / f"{match[2]}.wav", match[1].split()))
    return found


def samples(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def test_word_errors_and_speed(moonshine: Predictor, shared: Path) -> None:
    errors = count = 0
    for path, want in clips(shared):
        result = moonshine.predict(audio=str(path))
        assert isinstance(result, results.Transcript)
        errors += word_errors(want, words(result.text))
        count += len(want)
        assert (result.tokens[0], result.tokens[-1]) == (1, 2)
        timings = result.timings
        seconds = len(samples(path)) / RATE_HZ
        assert timings["generate.tokens"] == len(result.tokens) - 1
        per_s = timings["generate.tokens"] / timings["generate"] * 1e3
        assert timings["generate.tokens_per_s"] == pytest.approx(per_s, rel=1e-3)
        assert timings["generate.real_time_factor"] == pytest.approx(timings["total"] / 1e3 / seconds, rel=0.02)
        assert 0 < timings["generate.first_token_ms"] < timings["total"]
        stages = sum(ms for name, ms in timings.items() if "." not in name and name != "total")
        assert stages == pytest.approx(timings["total"])
        assert "".join(moonshine.generate(audio=str(path))) == result.text
    assert count == 71
    assert errors <= 3


def test_the_bundle_reproduces_its_golden_sample(moonshine: Predictor) -> None:
    report = check(moonshine)
    assert report.passed, str(report)
    assert {d.what for d in report.deviations} >= {"result", "logits", "encoder_hidden_states", "input_values"}


def test_a_sound_longer_than_a_window_is_stitched(moonshine: Predictor, shared: Path) -> None:
    """The five clips in a row, 25 s, between pauses: more than 29 s in two windows that overlap."""
    pause = np.zeros(RATE_HZ * 3 // 2, np.int16)
    parts = [part for path, _ in clips(shared) for part in (samples(path), pause)]
    sound = np.concatenate(parts)
    assert len(sound) > 464_000
    want = [word for _, said in clips(shared) for word in said]
    result = moonshine.predict(audio=(sound, RATE_HZ))
    assert word_errors(want, words(result.to_dict()["text"])) <= 8
    pieces = list(moonshine.generate(audio=(sound, RATE_HZ)))
    assert len(pieces) == 2
    assert "".join(pieces) == result.to_dict()["text"]


def test_silence_is_the_empty_transcript(moonshine: Predictor) -> None:
    result = moonshine.predict(audio=(np.zeros(RATE_HZ, np.float32), RATE_HZ))
    assert (result.to_dict()["text"], result.timings["generate.tokens"]) == ("", 0.0)
    assert list(moonshine.generate(audio=(np.zeros(40 * RATE_HZ, np.float32), RATE_HZ))) == []


@pytest.mark.parametrize("count", [1, 800, 1599])
def test_a_sound_too_short_for_a_frame_is_refused(moonshine: Predictor, count: int) -> None:
    with pytest.raises(InputError, match=r"too short: expected at least 0\.1 s"):
        moonshine.predict(audio=(np.ones(count, np.float32), RATE_HZ))


@pytest.mark.parametrize("option", ["language", "timestamps", "prompt", "beam"])
def test_an_option_that_it_does_not_have_is_refused_with_those_it_has(moonshine: Predictor, option: str) -> None:
    for call in (moonshine.predict, moonshine.generate):
        with pytest.raises(InputError, match=option) as error:
            call(audio=(np.ones(RATE_HZ, np.float32), RATE_HZ), **{option: "en"})
        assert "max_new_tokens" in str(error.value.hint)
