"""Resampling: >= 60 dB to 7 kHz and aliases <= -70 dB for 44.1 -> 16 kHz (PERFORMANCE 2.3), and any usual ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest
from audio_specs import WAVEFORM

from edgekit.errors import InputError
from edgekit.preprocess.resampling import LARGEST_PRODUCT, plan, resample

QUALITY = WAVEFORM.resample


def sine(hz: float, rate_hz: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(rate_hz * seconds)) / rate_hz + 0.3)


def error_db(hz: float, from_hz: int, to_hz: int) -> float:
    """Root mean square against the ideal sine, relative to it, away from both ends."""
    made = resample(sine(hz, from_hz).astype(np.float32), from_hz, to_hz, QUALITY)
    ideal = sine(hz, to_hz)[: len(made)]
    inner = slice(len(made) // 5, -len(made) // 5)
    return 10 * math.log10(np.mean((made - ideal)[inner] ** 2) / np.mean(ideal[inner] ** 2))


def level_db(hz: float, from_hz: int, to_hz: int) -> float:
    """What is left of a sine above the new Nyquist frequency."""
    made = resample(sine(hz, from_hz).astype(np.float32), from_hz, to_hz, QUALITY)
    inner = made[len(made) // 5 : -len(made) // 5]
    return 10 * math.log10(np.mean(inner**2) / 0.5 + 1e-20)


@pytest.mark.parametrize("hz", [20, 440, 3000, 6000, 7000])
def test_44100_to_16000_keeps_what_is_below_7_khz(hz: float) -> None:
    assert error_db(hz, 44100, 16000) <= -90  # promised: -60


@pytest.mark.parametrize("hz", [8500, 9000, 10000, 15000, 21000])
def test_44100_to_16000_has_no_aliases(hz: float) -> None:
    assert level_db(hz, 44100, 16000) <= -80  # promised: -70


@pytest.mark.parametrize(
    ("from_hz", "to_hz"),
    [
        (8000, 16000), (48000, 16000), (22050, 16000), (11025, 16000), (32000, 16000), (12000, 16000), (96000, 16000),
        (192000, 16000), (44100, 48000), (48000, 44100), (16000, 8000), (44100, 22050), (16000, 48000), (16001, 16000),
    ],
)  # fmt: skip
def test_usual_ratios_keep_sines_below_seven_eighths_of_the_band(from_hz: int, to_hz: int) -> None:
    nyquist = min(from_hz, to_hz) / 2
    for part in (0.05, 0.5, 0.875):
        assert error_db(part * nyquist, from_hz, to_hz) <= -85
    if from_hz > to_hz * 1.2:
        assert level_db(1.1 * nyquist, from_hz, to_hz) <= -80


RATES = [(44100, 16000), (8000, 16000), (48000, 16000), (11025, 16000), (16000, 44100), (37800, 16000), (17000, 16111)]
"""The last two have stretches that lie unevenly."""


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
@pytest.mark.parametrize("count", [1, 2, 159, 441, 1000, 30011])
def test_every_output_is_the_windowed_sinc_sum(from_hz: int, to_hz: int, count: int) -> None:
    """y[n] = sum over m of x[m] h(n from/to - m), in float64, for outputs all over the sound."""
    samples = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    made = resample(samples, from_hz, to_hz, QUALITY)
    assert len(made) == math.ceil(count * to_hz / from_hz)
    cutoff = QUALITY.rolloff * min(1.0, to_hz / from_hz)
    for n in {0, len(made) // 3, len(made) // 2, len(made) - 1}:
        u = cutoff * (n * from_hz / to_hz - np.arange(count))
        window = np.i0(QUALITY.beta * np.sqrt(np.clip(1 - (u / QUALITY.zeros) ** 2, 0, 1))) / np.i0(QUALITY.beta)
        weights = cutoff * np.sinc(u) * np.where(np.abs(u) <= QUALITY.zeros, window, 0)
        assert made[n] == pytest.approx(float(weights @ samples), abs=2e-6)


def test_any_layout_of_the_samples_and_none_at_all() -> None:
    samples = np.random.default_rng(4).standard_normal(88200)
    whole = resample(samples.astype(np.float32), 44100, 16000, QUALITY)
    both = np.stack([samples, samples], axis=1)
    assert np.array_equal(resample(both.astype(np.float32)[:, 0], 44100, 16000, QUALITY), whole)
    assert np.array_equal(resample(samples, 44100, 16000, QUALITY), whole)
    assert resample(np.zeros(0, np.float32), 44100, 16000, QUALITY).shape == (0,)


def test_products_stay_below_what_wakes_the_threads_of_openblas() -> None:
    for from_hz in (8000, 11025, 22050, 44100, 48000, 96000):
        assert all(batch.taps[0].size <= LARGEST_PRODUCT for batch in plan(from_hz, 16000, QUALITY).batches)


def test_ratio_of_large_coprime_rates_is_refused() -> None:
    with pytest.raises(InputError, match="cannot resample 191999 Hz to 16000 Hz"):
        resample(np.zeros(10, np.float32), 191999, 16000, QUALITY)


def test_a_rate_of_a_few_hertz_is_refused_before_its_plan_is_made() -> None:
    """A header of 44 bytes that says 1 Hz would cost seconds of arithmetic; 100 Hz, slower than any sound, works."""
    with pytest.raises(InputError, match="cannot resample 1 Hz to 16000 Hz"):
        resample(np.zeros(10, np.float32), 1, 16000, QUALITY)
    assert len(resample(np.ones(10, np.float32), 100, 16000, QUALITY)) == 1600
