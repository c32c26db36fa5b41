"""How a sound becomes a tensor: downmix, resample, length, normalise, features or waveform, lay out, quantise."""

from __future__ import annotations

from typing import Literal

from edgekit.errors import ManifestError
from edgekit.records import Record
from edgekit.specs.tensor import Quantization


class Resample(Record):
    """Polyphase windowed sinc: the filter's cutoff is `rolloff` times the lower Nyquist frequency, it reaches over
    `zeros` zero crossings on each side under a Kaiser window of `beta`.

    32, 0.965, 8.0 keeps 44.1 -> 16 kHz within -95 dB up to 7 kHz and aliases below -80 dB from 8.4 kHz on.
    """

    zeros: int
    rolloff: float
    beta: float

    def check(self) -> None:
        _check_range(self, "zeros", 1, 256)
        _check_range(self, "rolloff", 0.01, 1.0)
        _check_range(self, "beta", 0.0, 30.0)


class Length(Record):
    """Bring the sound to `samples` samples (at `rate_hz`).

    pad: `zero` on the right, `repeat` whole copies then zeros, `wrap` copies cut at the end, `none` refuses.
    trim: `right` cuts the end, `center` keeps the middle, `none` refuses, `keep` leaves a longer sound as it is.
    """

    samples: int
    pad: Literal["zero", "repeat", "wrap", "none"]
    trim: Literal["right", "center", "none", "keep"]

    def check(self) -> None:
        _check_range(self, "samples", 1, 1 << 28)


class Windows(Record):
    """Cut the sound into rows of `samples`, each beginning `hop` after the last; one graph run per row.

    lead: zeros before the sound, so that the first row ends `samples - lead` into it (a model that looks back).
    tail: `fill` completes the last row with zeros, `drop` leaves an incomplete one out, `keep` leaves it short for
    `length` to complete after it was normalised.
    """

    samples: int
    hop: int
    lead: int
    tail: Literal["fill", "drop", "keep"]

    def check(self) -> None:
        _check_range(self, "samples", 1, 1 << 28)
        _check_range(self, "hop", 1, self.samples)
        _check_range(self, "lead", 0, self.samples - 1)


class Spectrum(Record):
    """Log-mel, filter bank or cepstral features: every parameter of every stage, in the order applied.

    type: the family. `mfcc` has cepstra, the others have none.
    frame_length, hop_length, fft_length: in samples; a frame is windowed and zero-filled to fft_length.
    center: `reflect` or `zero` extends the sound by frame_length // 2 on both sides; `none` does not, and samples
        after the last whole frame are not used.
    remove_dc, preemphasis: per frame, before the window: x[i] - preemphasis * x[i-1], with x[-1] = x[0].
    window: `hann` and `hamming` are periodic, `..._symmetric` and `povey` symmetric.
    power: exponent of the magnitude.
    drop_last: leave out the last frame.
    bands: triangular filters from low_hz to high_hz, evenly spaced on mel_scale; 0 keeps the FFT bins.
    triangles: sides straight in `hz` (librosa, Whisper) or in `mel` (Kaldi, TensorFlow).
    mel_norm: `slaney` divides each filter by its width in Hz / 2.
    floor_mode, floor: `add` it before the logarithm, or `clamp` to it.
    log: `db` is 10 log10 of a power or 20 log10 of a magnitude.
    dynamic_range: clamp to the largest value minus this, in the logarithm's unit; 0.0 = no clamp.
    cepstra, dct_norm: first coefficients of the DCT-II, sum x cos (`none`: times 2; `tensorflow`: times 2 / sqrt(2
        bands); `ortho`: orthonormal); 0 = no DCT.
    frames, frame_pad: cut or extend to this many frames with this value; 0 = as many as there are.
    offset, divisor: y = (x - offset) / divisor, last.
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
    floor_mode: Literal["add", "clamp"]
    floor: float
    log: Literal["none", "ln", "log10", "db"]
    dynamic_range: float
    cepstra: int
    dct_norm: Literal["none", "ortho", "tensorflow"]
    frames: int
    frame_pad: float
    offset: float
    divisor: float

    def check(self) -> None:
        for name, least, most in (
            ("frame_length", 2, 65536),
            ("hop_length", 1, 65536),
            ("fft_length", self.frame_length, 65536),
            ("preemphasis", 0.0, 1.0),
            ("power", 0.25, 4.0),
            ("bands", 0, 2048),
            ("low_hz", 0.0, self.high_hz),
            ("floor", 0.0, 1e9),
            ("dynamic_range", 0.0, 1e9),
            ("cepstra", 0, self.bands),
            ("frames", 0, 1 << 20),
        ):
            _check_range(self, name, least, most)
        if self.divisor == 0.0:
            raise ManifestError("divisor", "0 cannot divide")
        if (self.type == "mfcc") != (self.cepstra > 0):
            raise ManifestError("cepstra", f"goes with type mfcc and no other, got {self.cepstra} for {self.type}")
        if self.log != "none" and self.floor == 0.0:
            raise ManifestError("floor", "expected a number above 0: silence has no logarithm")
        if self.low_hz == self.high_hz:
            raise ManifestError("high_hz", f"expected more than low_hz = {self.low_hz}")


class AudioSpec(Record):
    """An audio input; `value` names the tensor it makes, `mask` the (1, n) int64 mask of its real samples or
    frames, if any (a frame is real when the sample it starts from, or is centred on, is).

    Stages in this order: downmix, resample to rate_hz, amplitude, cut into windows, then for each window: trim,
    normalise, pad, features, lay out, quantise. Without windows the sound is the one window.

    amplitude: `unit` is float in [-1, 1), `int16` the same times 32768.
    normalize: `zero_mean_unit_variance` is (x - mean) / sqrt(var + epsilon) over the real samples; `peak` is
        x / max(x), and x as it is when max(x) <= epsilon.
    layout: order of the last two axes of features; `samples` for a waveform.
    shape: of one window's tensor, -1 at most once, where it follows the sound's length.
    dtype: whole numbers without quantization are rounded to nearest even and saturate.
    streamable: may be fed in chunks: nothing in it depends on the sound as a whole; `length` is then what one run
        of the graph sees.
    """

    kind: Literal["audio"]
    value: str
    mask: str | None
    rate_hz: int
    downmix: Literal["mean", "first"]
    resample: Resample
    amplitude: Literal["unit", "int16"]
    windows: Windows | None
    length: Length | None
    normalize: Literal["none", "zero_mean_unit_variance", "peak"]
    epsilon: float
    features: Spectrum | None
    layout: Literal["samples", "frames_bands", "bands_frames"]
    shape: tuple[int, ...]
    dtype: Literal["float32", "float16", "int16", "uint8", "int8"]
    quantization: Quantization | None
    streamable: bool

    def check(self) -> None:
        _check_range(self, "rate_hz", 100, 1 << 20)
        _check_range(self, "epsilon", 0.0, 1.0)
        if (self.features is None) != (self.layout == "samples"):
            raise ManifestError("layout", "'samples' is for a waveform, the others for features")
        if self.features is not None and self.features.high_hz > self.rate_hz / 2:
            found = self.features.high_hz
            raise ManifestError("features.high_hz", f"expected at most rate_hz / 2 = {self.rate_hz / 2}, got {found}")
        if self.shape.count(-1) > 1 or any(n < 1 and n != -1 for n in self.shape):
            raise ManifestError("shape", f"expected sizes from 1, -1 at most once, got {list(self.shape)}")
        if self.quantization is None and self.dtype in ("uint8", "int8"):
            raise ManifestError("quantization", f"missing, and dtype is {self.dtype}")
        if self.quantization is not None and self.dtype in ("float32", "float16"):
            raise ManifestError("quantization", f"goes with whole numbers only, dtype is {self.dtype}")
        if self.streamable:
            self._check_streamable()

    def _check_streamable(self) -> None:
        whole = "depends on the whole sound, which a stream does not have"
        if self.normalize != "none":
            raise ManifestError("normalize", f"{self.normalize} {whole}")
        if self.features is not None:
            if self.features.center != "none":
                raise ManifestError("features.center", f"{self.features.center} {whole}")
            if self.features.drop_last:
                raise ManifestError("features.drop_last", whole)
            if self.features.dynamic_range != 0.0:
                raise ManifestError("features.dynamic_range", whole)


def _check_range(record: Record, name: str, least: float, most: float) -> None:
    found = record.__dict__[name]
    if not least <= found <= most:
        raise ManifestError(name, f"expected {least} to {most}, got {found}")
