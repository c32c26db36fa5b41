"""How a sound becomes a tensor: decode, downmix, resample, length, features or waveform, normalise."""

from __future__ import annotations

from typing import Literal

from edgekit.records import Record
from edgekit.specs.tensor import Quantization


class Resample(Record):
    """Polyphase Kaiser-windowed sinc: `zeros` zero crossings a side, `rolloff` x Nyquist, `beta` of the window."""

    zeros: int
    rolloff: float
    beta: float


class Length(Record):
    """Bring the sound to `samples` samples (at `rate_hz`).

    pad: `zero` on the right, `repeat` whole copies then zeros, `wrap` copies cut at the end, `none`.
    trim: `right` cuts the end, `center` keeps the middle, `none`.
    """

    samples: int
    pad: Literal["zero", "repeat", "wrap", "none"]
    trim: Literal["right", "center", "none"]


class Spectrum(Record):
    """Log-mel, filter bank or cepstral features; every parameter of every stage, in the order applied.

    type says which family's stage order holds: `whisper`, `kaldi`, `mel`, `mfcc`.
    Lengths in samples, frequencies in Hz.
    """

    type: Literal["whisper", "kaldi", "mel", "mfcc"]
    frame_length: int
    hop_length: int
    fft_length: int
    center: Literal["none", "reflect", "zero"]
    remove_dc: bool
    preemphasis: float
    window: Literal["hann", "hann_symmetric", "hamming", "hamming_symmetric", "povey", "rectangular"]
    power: float
    drop_last: bool
    bands: int
    low_hz: float
    high_hz: float
    mel_scale: Literal["htk", "slaney", "kaldi"]
    mel_norm: Literal["none", "slaney"]
    triangles: Literal["hz", "mel"]
    log: Literal["none", "ln", "log10", "db"]
    floor_mode: Literal["add", "clamp"]
    floor: float
    dynamic_range: float
    cepstra: int
    dct_norm: Literal["none", "ortho", "tensorflow"]
    frames: int
    frame_pad: float
    offset: float
    divisor: float


class AudioSpec(Record):
    """An audio input; `value` names the tensor it makes, `mask` the int64 mask of real samples or frames, if any.

    amplitude: `unit` is float in [-1, 1), `int16` the same times 32768.
    normalize: `zero_mean_unit_variance` is (x - mean) / sqrt(var + epsilon) over the real samples; `peak` is
        x / max(x).
    shape: of the tensor, -1 where it follows the sound's length.
    layout: order of the last two axes of features; `samples` for a waveform.
    streamable: may be fed in chunks through a stream.
    """

    kind: Literal["audio"]
    value: str
    mask: str | None
    rate_hz: int
    downmix: Literal["mean", "first"]
    resample: Resample
    amplitude: Literal["unit", "int16"]
    length: Length | None
    normalize: Literal["none", "zero_mean_unit_variance", "peak"]
    epsilon: float
    features: Spectrum | None
    layout: Literal["samples", "frames_bands", "bands_frames"]
    shape: tuple[int, ...]
    dtype: Literal["float32", "float16", "int16", "uint8", "int8"]
    quantization: Quantization | None
    streamable: bool
