"""From a decoded sound to the tensors that the flow starts with: f(spec, sound) -> {value name: array}."""

from __future__ import annotations

import numpy as np

from edgekit.arrays import Array, Float32
from edgekit.errors import InputError
from edgekit.preprocess import spectrum
from edgekit.preprocess.resampling import resample
from edgekit.preprocess.sound import Sound
from edgekit.specs.audio import AudioSpec, Length, Windows
from edgekit.specs.quantize import quantize


def transform(spec: AudioSpec, sound: Sound) -> dict[str, Array]:
    """The tensor `spec.value` of a sound, and the int64 mask `spec.mask` if there is one.

    With windows, one row per window along axis 0. Raises InputError when the sound is too short or too long for the
    spec, or the tensor does not have spec.shape.
    """
    samples = waveform(spec, sound)
    if spec.windows is None:
        return _window(spec, samples)
    rows = [_window(spec, row) for row in cut(spec.windows, samples)]
    stacked = spec.shape[0] != 1
    return {name: (np.stack if stacked else np.concatenate)([row[name] for row in rows]) for name in rows[0]}


def cut(windows: Windows, samples: Float32) -> list[Float32]:
    """The rows of a sound, each windows.samples long but a last one that is kept; InputError when there is none."""
    led = np.concatenate([np.zeros(windows.lead, np.float32), samples]) if windows.lead else samples
    beyond = len(led) - windows.samples
    count = 1 + (beyond // windows.hop if windows.tail == "drop" else -(-max(beyond, 0) // windows.hop))
    if count < 1:
        least = windows.samples - windows.lead
        raise InputError(f"the sound is shorter than one window: expected at least {least} samples, got {len(samples)}")
    missing = (count - 1) * windows.hop + windows.samples - len(led)
    if missing > 0 and windows.tail == "fill":
        led = np.concatenate([led, np.zeros(missing, np.float32)])
    return [led[i * windows.hop : i * windows.hop + windows.samples] for i in range(count)]


def _window(spec: AudioSpec, samples: Float32) -> dict[str, Array]:
    """The tensors of one window."""
    samples = _normalized(spec, _trimmed(spec.length, samples))
    if spec.features is None:
        values, real = _padded(spec.length, samples)
        return _named(spec, values, len(values), real)
    # Trailing zeros are counted, not made: their frames are all alike.
    total = len(samples)
    if spec.length is not None:
        if spec.length.pad != "zero":
            samples, real = _padded(spec.length, samples)
        total = max(total, spec.length.samples)
    bands_first = spec.layout == "bands_frames"
    values = spectrum.features(spec.features, spec.rate_hz, samples, total, bands_first=bands_first)
    values = spectrum.fit_frames(spec.features, values, bands_first=bands_first)
    count = values.shape[1 if bands_first else 0]
    return _named(spec, values, count, -(-len(samples) // spec.features.hop_length))


def waveform(spec: AudioSpec, sound: Sound) -> Float32:
    """One channel at spec.rate_hz in the spec's amplitude, (n,) float32."""
    return resample(one_channel(spec, sound), sound.rate_hz, spec.rate_hz, spec.resample)


def one_channel(spec: AudioSpec, sound: Sound) -> Float32:
    """The downmix in the spec's amplitude at the sound's own rate, (n,) float32."""
    samples = sound.samples
    channels = 1 if spec.downmix == "first" else samples.shape[1]
    mixed = samples[:, 0].astype(np.float32)
    for channel in range(1, channels):
        mixed += samples[:, channel]
    unit = 1.0 / 32768.0 if samples.dtype == np.int16 else 1.0
    factor = unit / channels * (32768.0 if spec.amplitude == "int16" else 1.0)
    if factor != 1.0:
        mixed *= np.float32(factor)
    return mixed


def _trimmed(length: Length | None, samples: Float32) -> Float32:
    if length is None or length.trim == "keep" or len(samples) <= length.samples:
        return samples
    if length.trim == "none":
        raise InputError(
            f"the sound is too long: expected at most {length.samples} samples, got {len(samples)}",
            hint="cut it, or package the model with length.trim",
        )
    start = (len(samples) - length.samples) // 2 if length.trim == "center" else 0
    return samples[start : start + length.samples]


def _normalized(spec: AudioSpec, samples: Float32) -> Float32:
    if spec.normalize == "zero_mean_unit_variance":
        centered: Float32 = samples - samples.mean()
        centered /= np.sqrt(samples.var() + np.float32(spec.epsilon))
        return centered
    if spec.normalize == "peak":
        peak = samples.max()
        return np.divide(samples, peak) if peak > spec.epsilon else samples
    return samples


def _padded(length: Length | None, samples: Float32) -> tuple[Float32, int]:
    """The samples at their full length, and how many of them count as real."""
    real = len(samples)
    if length is None or real >= length.samples:
        return samples, real
    if length.pad == "none":
        raise InputError(
            f"the sound is too short: expected at least {length.samples} samples, got {real}",
            hint="record longer, or package the model with length.pad",
        )
    if length.pad == "wrap":
        return np.resize(samples, length.samples), length.samples
    if length.pad == "repeat":
        samples = np.tile(samples, length.samples // real)
        real = len(samples)
    padded = np.zeros(length.samples, np.float32)
    padded[:real] = samples
    return padded, real


def _named(spec: AudioSpec, values: Float32, count: int, real: int) -> dict[str, Array]:
    """The tensor, and the mask that says that the first `real` of `count` samples or frames are real."""
    tensors = {spec.value: shaped(spec, values)}
    if spec.mask is not None:
        tensors[spec.mask] = (np.arange(count) < real).astype(np.int64)[None]
    return tensors


def shaped(spec: AudioSpec, values: Float32) -> Array:
    """Finished values as the tensor: quantised, in spec.dtype and spec.shape. Raises InputError."""
    fixed = 1
    for size in spec.shape:
        fixed *= abs(size)
    fits = values.size % fixed == 0 and values.size > 0 if -1 in spec.shape else values.size == fixed
    if not fits:
        got = " x ".join(map(str, values.shape))
        raise InputError(
            f"'{spec.value}': expected a tensor of shape {list(spec.shape)}, the sound gives {got} values",
            hint="the sound's length does not fit, or the bundle needs length.samples or features.frames",
        )
    return np.ascontiguousarray(_typed(spec, values)).reshape(spec.shape)


def _typed(spec: AudioSpec, values: Float32) -> Array:
    """Real numbers in the tensor's datatype; whole ones saturate."""
    if spec.quantization is not None:
        # A C cast sees the float64 quotient: float32 would round 82.9999999 up before it is truncated.
        exact = values.astype(np.float64) if spec.quantization.rounding == "trunc" else values
        return quantize(exact, spec.quantization, spec.dtype)
    if spec.dtype in ("float32", "float16"):
        return values.astype(spec.dtype, copy=False)
    bounds = np.iinfo(spec.dtype)
    return np.clip(np.rint(values), bounds.min, bounds.max).astype(spec.dtype)
