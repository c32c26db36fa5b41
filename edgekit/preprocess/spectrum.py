"""Short-time features of a sound: one engine for Whisper's log-mel, Kaldi's filter bank, mel and MFCC."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from edgekit.arrays import Float32, Float64
from edgekit.errors import InputError
from edgekit.preprocess import mel
from edgekit.specs.audio import Spectrum

BLOCK_FRAMES = 200
"""Frames per step: the spectra of a block stay in the processor's cache."""

LARGEST_PRODUCT = 1 << 18
"""Multiply-adds per matrix product: above it OpenBLAS wakes its threads, which costs more than it brings."""


class Extent(NamedTuple):
    """How many frames a sound has, and how many of them touch anything but zeros."""

    frames: int
    live: int


def extent(spec: Spectrum, real: int, total: int) -> Extent:
    """Frames of a sound of `total` samples of which the first `real` may differ from zero.

    Those beyond spec.frames are left out here already, unless the clamp to the loudest must see them.
    """
    margin = _margin(spec)
    frames = max(0, 1 + (total + 2 * margin - spec.frame_length) // spec.hop_length)
    if spec.drop_last and frames:
        frames -= 1
    if spec.frames and spec.dynamic_range == 0.0:
        frames = min(frames, spec.frames)
    mirrored = spec.center == "reflect" and total - real <= margin
    live = frames if mirrored else min(frames, (real + margin - 1) // spec.hop_length + 1)
    return Extent(frames, live)


def features(spec: Spectrum, rate_hz: int, samples: Float32, total: int, *, bands_first: bool) -> Float32:
    """Features of `samples` followed by zeros up to `total` samples, (frames, bands) or (bands, frames) float32.

    Frames that lie in the zeros alone are not computed one by one. `spec.frames` is applied by `fit_frames`, so
    that a stream can cut its own windows. Raises InputError when the sound is shorter than one frame.
    """
    size = extent(spec, len(samples), total)
    if size.frames == 0:
        least = spec.frame_length + (spec.hop_length if spec.drop_last else 0)
        raise InputError(
            f"the sound is shorter than one window: expected at least {least} samples at {rate_hz} Hz "
            f"({1000 * least / rate_hz:.3g} ms), got {total}"
        )
    width = spec.bands or spec.fft_length // 2 + 1
    energies = np.empty((width, size.live) if bands_first else (size.live, width), np.float32)
    _energies(spec, rate_hz, _extended(spec, samples, total, size), energies.T if bands_first else energies)
    silence = _log(spec, np.zeros((1, 1), np.float32))
    values = _log(spec, energies)
    if spec.dynamic_range > 0.0:
        loudest = values.max() if size.live == size.frames else max(values.max(), silence[0, 0])
        lowest = np.float32(loudest - np.float32(spec.dynamic_range))
        np.maximum(values, lowest, out=values)
        silence = np.maximum(silence, lowest)
    values = _extend(values.T if bands_first else values, size.frames, silence[0, 0], bands_first)
    if spec.cepstra:
        cepstra = _cepstra(values.T if bands_first else values, mel.cosines(width, spec.cepstra, spec.dct_norm))
        values = cepstra.T if bands_first else cepstra
    return values


def fit_frames(spec: Spectrum, values: Float32, *, bands_first: bool) -> Float32:
    """`values` cut or extended to `spec.frames` frames, then (x - offset) / divisor; may work in place."""
    if spec.frames:
        kept = values[:, : spec.frames] if bands_first else values[: spec.frames]
        values = _extend(kept.T if bands_first else kept, spec.frames, np.float32(spec.frame_pad), bands_first)
    if spec.offset != 0.0:
        np.subtract(values, np.float32(spec.offset), out=values)
    if spec.divisor != 1.0:
        np.multiply(values, np.float32(1.0 / spec.divisor), out=values)
    return values


def _margin(spec: Spectrum) -> int:
    return 0 if spec.center == "none" else spec.frame_length // 2


def _extended(spec: Spectrum, samples: Float32, total: int, size: Extent) -> Float64:
    """The stretch of samples that the live frames cover, margins included."""
    margin = _margin(spec)
    covered = (size.live - 1) * spec.hop_length + spec.frame_length
    end = margin + total
    # The mirror image at the end is only made where a live frame sees it: a second in thirty needs no thirty seconds.
    length = max(covered, end + margin) if covered > end else max(covered, 2 * margin + 1)
    stretch = np.zeros(length)
    kept = samples[: len(stretch) - margin]
    stretch[margin : margin + len(kept)] = kept
    if spec.center == "reflect":
        if total <= margin:  # the mirror image is mirrored again
            return np.pad(stretch[margin : margin + total], margin, mode="reflect")
        stretch[:margin] = stretch[2 * margin : margin : -1]
        if covered > end:
            stretch[end : end + margin] = stretch[end - 2 : end - 2 - margin : -1]
    return stretch[:covered]


def _energies(spec: Spectrum, rate_hz: int, signal: Float64, out: Float32) -> None:
    """Band energies of every frame of `signal` into `out` (frames, bands).

    Frames and their spectra are float64: numpy transforms it as fast as float32, whose rounding of the strong bands
    drowns the weak ones (2e-3 in the logarithm of speech).
    """
    length, count = spec.frame_length, len(out)
    window = mel.window(spec.window, length)
    frames = _frames(spec, _preemphasized(spec, signal), count)
    offsets = _offsets(spec, signal, count)
    firsts = _frames(spec, signal, count)[:, 0] * (1.0 - spec.preemphasis)
    buffer = np.empty((min(count, BLOCK_FRAMES), length))
    powers = np.empty((len(buffer), spec.fft_length // 2 + 1), np.float32)
    groups = mel.bands(spec, rate_hz, BLOCK_FRAMES, LARGEST_PRODUCT)
    for start in range(0, count, BLOCK_FRAMES):
        block = slice(start, min(start + BLOCK_FRAMES, count))
        rows = buffer[: block.stop - start]
        if spec.remove_dc:
            np.subtract(frames[block], offsets[block, None], out=rows)
            rows[:, 0] = firsts[block] - offsets[block]
            rows *= window
        else:
            np.multiply(frames[block], window, out=rows)
            if spec.preemphasis != 0.0:
                rows[:, 0] = firsts[block] * window[0]
        spectra = np.fft.rfft(rows, spec.fft_length, axis=1)
        parts = spectra.view(np.float64)
        np.square(parts, out=parts)
        power = np.add(parts[:, ::2], parts[:, 1::2], out=powers[: len(rows)])
        if spec.power == 1.0:
            np.sqrt(power, out=power)
        elif spec.power != 2.0:
            np.power(power, np.float32(spec.power / 2.0), out=power)
        if not groups:
            out[block] = power
        for first, end, bands, weights in groups:
            np.matmul(power[:, first:end], weights, out=out[block, bands])


def _frames(spec: Spectrum, signal: Float64, count: int) -> Float64:
    step = signal.strides[0]
    return as_strided(signal, (count, spec.frame_length), (spec.hop_length * step, step), writeable=False)


def _preemphasized(spec: Spectrum, signal: Float64) -> Float64:
    """x[i] - preemphasis * x[i-1] along the whole signal; a frame's first sample is put right in the frame."""
    if spec.preemphasis == 0.0:
        return signal
    emphasized = np.empty_like(signal)
    emphasized[0] = signal[0]
    np.multiply(signal[:-1], -spec.preemphasis, out=emphasized[1:])
    emphasized[1:] += signal[1:]
    return emphasized


def _offsets(spec: Spectrum, signal: Float64, count: int) -> Float64:
    """What removing the mean takes from every sample of each frame after pre-emphasis (both are linear), (frames,)."""
    if not spec.remove_dc:
        return np.zeros(0)
    means: Float64 = _frames(spec, signal, count).sum(axis=1) / spec.frame_length
    return (1.0 - spec.preemphasis) * means


def _log(spec: Spectrum, energies: Float32) -> Float32:
    floor = np.float32(spec.floor)
    if spec.floor_mode == "add":
        energies += floor
    else:
        np.maximum(energies, floor, out=energies)
    if spec.log == "none":
        return energies
    np.log(energies, out=energies)
    if spec.log == "log10":
        energies *= np.float32(1.0 / np.log(10.0))
    elif spec.log == "db":
        energies *= np.float32((20.0 if spec.power == 1.0 else 10.0) / np.log(10.0))
    return energies


def _cepstra(values: Float32, table: Float32) -> Float32:
    """(frames, bands) @ (bands, cepstra), in float32 and in one order of summation on every processor.

    On digital silence all coefficients but the first are 0 in exact arithmetic, and a quantisation that truncates
    shows the sign of what rounding leaves. This order, eighths of the bands each from its last band to its first, was
    picked among many because its signs on silence are those of the published bytes of MLPerf Tiny's keyword front end
    (TensorFlow's, whose FFT errs by 1e-5 there); it says nothing about other tables.
    """
    bands, cepstra = table.shape
    size = -(-bands // 8)
    made = np.empty((len(values), cepstra), np.float32)
    for start in range(0, len(values), BLOCK_FRAMES):
        block = values[start : start + BLOCK_FRAMES]
        products = np.zeros((len(block), 8 * size, cepstra), np.float32)
        np.multiply(block[:, :, None], table, out=products[:, :bands])
        parts = products.reshape(len(block), 8, size, cepstra)
        sums = parts[:, :, -1]
        for band in range(size - 2, -1, -1):
            sums = sums + parts[:, :, band]
        for half in (4, 2, 1):
            sums = sums[:, :half] + sums[:, half : 2 * half]
        made[start : start + BLOCK_FRAMES] = sums[:, 0]
    return made


def _extend(values: Float32, frames: int, fill: np.float32, bands_first: bool) -> Float32:
    """(n, bands) in either memory order -> `frames` frames, filled at the end, in the order asked for."""
    if len(values) == frames:
        return values.T if bands_first else values
    width = values.shape[1]
    whole = np.empty((width, frames) if bands_first else (frames, width), np.float32)
    view = whole.T if bands_first else whole
    view[: len(values)] = values
    view[len(values) :] = fill
    return whole
