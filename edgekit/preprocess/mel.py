"""The tables of the features engine: windows, mel filters, cosines. Computed once per parameter set, in float64."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgekit.arrays import Array, Float32
from edgekit.specs.audio import Spectrum

Table = Array
"""float64; numpy 1 and 2 disagree on what their functions say they return."""


@lru_cache(maxsize=16)
def window(kind: str, length: int) -> Table:
    """The analysis window, (length,); names ending in `_symmetric` and `povey` reach their end value at both ends."""
    steps = length - 1 if kind.endswith("_symmetric") or kind == "povey" else length
    cosine = np.cos(2.0 * np.pi * np.arange(length) / steps)
    if kind == "rectangular":
        values = np.ones(length)
    elif kind.startswith("hamming"):
        values = 0.54 - 0.46 * cosine
    else:
        values = 0.5 - 0.5 * cosine
    if kind == "povey":  # Kaldi: the Hann window to the power 0.85
        values = values**0.85
    values.flags.writeable = False
    return values


def mel_of_hz(hz: Table, scale: str) -> Table:
    """Frequencies on the mel scale: HTK's 2595 log10(1 + f/700), Kaldi's 1127 ln(1 + f/700), or Slaney's, which is
    linear (3 mel per 200 Hz) below 1000 Hz and logarithmic (27 mel per factor 6.4) above."""
    if scale == "slaney":
        above = 15.0 + np.log(np.maximum(hz, 1000.0) / 1000.0) * (27.0 / np.log(6.4))
        return np.where(hz < 1000.0, hz * 3.0 / 200.0, above)
    factor = 1127.0 if scale == "kaldi" else 2595.0 / np.log(10.0)
    return factor * np.log1p(hz / 700.0)


def hz_of_mel(mel: Table, scale: str) -> Table:
    """The inverse of `mel_of_hz`."""
    if scale == "slaney":
        above = 1000.0 * np.exp((np.maximum(mel, 15.0) - 15.0) * (np.log(6.4) / 27.0))
        return np.where(mel < 15.0, mel * 200.0 / 3.0, above)
    factor = 1127.0 if scale == "kaldi" else 2595.0 / np.log(10.0)
    return 700.0 * np.expm1(mel / factor)


@lru_cache(maxsize=16)
def filters(spec: Spectrum, rate_hz: int) -> Float32:
    """The triangular mel filters, (fft_length // 2 + 1, bands)."""
    bins_hz = np.arange(spec.fft_length // 2 + 1) * (rate_hz / spec.fft_length)
    low, high = mel_of_hz(np.array([spec.low_hz, spec.high_hz]), spec.mel_scale)
    corners_mel = np.linspace(low, high, spec.bands + 2)
    corners_hz = hz_of_mel(corners_mel, spec.mel_scale)
    if spec.triangles == "mel":
        bins, corners = mel_of_hz(bins_hz, spec.mel_scale), corners_mel
    else:
        bins, corners = bins_hz, corners_hz
    widths = np.diff(corners)
    rising = (bins[:, None] - corners[:-2]) / widths[:-1]
    falling = (corners[2:] - bins[:, None]) / widths[1:]
    weights = np.maximum(0.0, np.minimum(rising, falling))
    if spec.mel_norm == "slaney":
        weights *= 2.0 / (corners_hz[2:] - corners_hz[:-2])
    return _constant(weights)


@lru_cache(maxsize=16)
def bands(spec: Spectrum, rate_hz: int, rows: int, largest_product: int) -> tuple[tuple[int, int, slice, Float32], ...]:
    """The filters cut into groups of neighbouring bands: (first bin, end bin, bands, weights (bins, bands)).

    A filter is zero outside a few bins, so a group multiplies only the bins it needs; `rows` frames times a group
    are at most `largest_product` multiply-adds.
    """
    weights = filters(spec, rate_hz)
    groups = []
    start = 0
    while start < spec.bands:
        end = start + 1
        while end < spec.bands and _cost(weights, start, end + 1) * rows <= largest_product and end - start < 16:
            end += 1
        first, last = _support(weights, start, end)
        groups.append((first, last, slice(start, end), _constant(weights[first:last, start:end])))
        start = end
    return tuple(groups)


def _support(weights: Float32, start: int, end: int) -> tuple[int, int]:
    used = np.flatnonzero(weights[:, start:end].any(axis=1))
    return (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)


def _cost(weights: Float32, start: int, end: int) -> int:
    first, last = _support(weights, start, end)
    return (last - first) * (end - start)


@lru_cache(maxsize=16)
def cosines(size: int, count: int, norm: str) -> Float32:
    """The DCT-II as a matrix (size, count): X[k] = factor * sum x[n] cos(pi k (2n + 1) / (2 size))."""
    n = np.arange(size)[:, None]
    matrix = 2.0 * np.cos(np.pi * np.arange(count) * (2 * n + 1) / (2 * size))
    if norm == "tensorflow":  # tf.signal.mfccs_from_log_mel_spectrograms
        matrix /= np.sqrt(2.0 * size)
    elif norm == "ortho":
        matrix /= np.sqrt(2.0 * size)
        matrix[:, 0] /= np.sqrt(2.0)
    return _constant(matrix)


def _constant(values: Array) -> Float32:
    table = np.ascontiguousarray(values, dtype=np.float32)
    table.flags.writeable = False
    return table
