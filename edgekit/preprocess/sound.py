"""From what a user passes as audio to samples: WAV here, FLAC, Ogg and MP3 by the optional package soundfile."""

from __future__ import annotations

import io
import operator
import os
import stat
from typing import Any, NamedTuple

import numpy as np

from edgekit.arrays import Array
from edgekit.errors import InputError
from edgekit.manifest import Limits
from edgekit.preprocess import wav
from edgekit.specs.audio import AudioSpec

LARGEST_SAMPLE = 1024.0
"""Float samples are 1.0 at full scale; beyond this they are in another unit, or would overflow a power."""

_COMPRESSED = {"FLAC", "OGG", "MP3", "WAV", "WAVEX"}
_STEP_FRAMES = 1 << 17
_SHORT = 1 << 12
"""Samples of a chunk: few enough for a sum of squares on one thread."""
_INT16, _FLOAT32 = np.dtype(np.int16), np.dtype(np.float32)


class Sound(NamedTuple):
    """Samples (n, channels), int16 or float32 in [-1, 1), n >= 1, all finite; and their rate."""

    samples: Array
    rate_hz: int

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return len(self.samples) / self.rate_hz


def decode(spec: AudioSpec, value: Any, limits: Limits) -> Sound:
    """The sound that `value` is: a path, the bytes of a file, or (samples, rate_hz).

    Samples are (n,) or (n, channels), int16 or float32. What the limits refuse is refused from the header, before
    anything is decoded. Raises InputError.
    """
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return _from_samples(value[0], value[1], limits)
    if isinstance(value, (bytes, bytearray, memoryview)):
        view = memoryview(value)
        _check_size(view.nbytes, limits, "audio bytes")
        return _from_file(view.cast("B") if view.c_contiguous else memoryview(view.tobytes()), limits, "audio bytes")
    if isinstance(value, (str, os.PathLike)):
        path = os.fspath(value)
        name = path if isinstance(path, str) else os.fsdecode(path)
        return _from_file(memoryview(_read(name, limits)), limits, name)
    raise InputError(
        f"audio: expected a path, bytes or (samples, rate_hz), got {type(value).__name__}",
        hint="pass samples together with their rate: audio=(samples, 16000)",
    )


def _from_samples(samples: Any, rate: Any, limits: Limits) -> Sound:
    if not isinstance(samples, np.ndarray) or samples.dtype not in (_INT16, _FLOAT32):
        got = f"an array of {samples.dtype}" if isinstance(samples, np.ndarray) else type(samples).__name__
        raise InputError(
            f"audio samples: expected a numpy array of int16 or float32, got {got}",
            hint="np.asarray(samples, np.float32), with 1.0 as full scale",
        )
    if samples.ndim not in (1, 2):
        raise InputError(
            f"audio samples: expected shape (n,) or (n, channels), got {samples.shape}",
            hint="one recording at a time; predict_batch takes several",
        )
    if isinstance(rate, bool) or not hasattr(rate, "__index__"):
        raise InputError(
            f"audio rate: expected a whole number of Hz, got {type(rate).__name__}", hint="audio=(samples, 16000)"
        )
    rate_hz = operator.index(rate)
    samples = samples[:, None] if samples.ndim == 1 else samples
    _check_facts(len(samples), samples.shape[1], rate_hz, limits, "audio samples")
    return Sound(_finite(samples, "audio samples"), rate_hz)


def _read(path: str, limits: Limits) -> bytes:
    """The bytes of a regular file no larger than the limit."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise InputError(
                    f"{path}: expected a file, got something else (a folder, a device or a pipe)",
                    hint="name one sound file, or pass (samples, rate_hz)",
                )
            _check_size(facts.st_size, limits, path)
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(limits.audio_bytes)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise InputError(f"{path!r}: no such file", hint="give its whole path, or go to its folder first") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path!r}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _check_size(size_bytes: int, limits: Limits, name: str) -> None:
    if size_bytes == 0:
        raise InputError(f"{name}: empty (0 bytes)", hint="record or copy it again")
    if size_bytes > limits.audio_bytes:
        raise InputError(
            f"{name}: expected at most {limits.audio_bytes} bytes, got {size_bytes}",
            hint="cut the recording, or package the model with a larger limits.audio_bytes",
        )


def _check_facts(frames: int, channels: int, rate_hz: int, limits: Limits, name: str) -> None:
    """What is known of a sound before it is decoded, against what is accepted."""
    if not 1 <= rate_hz <= 1 << 20:
        raise InputError(
            f"{name}: expected a sampling rate of 1 to {1 << 20} Hz, got {rate_hz}",
            hint="the header is wrong, or the samples and their rate were swapped: audio=(samples, rate_hz)",
        )
    if not 1 <= channels <= limits.audio_channels:
        raise InputError(
            f"{name}: expected 1 to {limits.audio_channels} channels, got {channels}",
            hint="samples are (n, channels)" if channels > 32 else "mix it down: ffmpeg -i INPUT -ac 1 output.wav",
        )
    if frames == 0:
        raise InputError(
            f"{name}: an empty recording (0 samples)", hint="was the microphone muted or the file cut off?"
        )
    if frames > limits.audio_seconds * rate_hz:
        raise InputError(
            f"{name}: expected at most {limits.audio_seconds:g} seconds, got {frames / rate_hz:.1f}",
            hint="cut the recording, or package the model with a larger limits.audio_seconds",
        )


def _finite(samples: Array, name: str) -> Array:
    """`samples` if they can be sound; NaN fails every comparison, so one pair of extremes tells."""
    if samples.dtype == _INT16:
        return samples
    if samples.size <= _SHORT and float(np.vdot(samples, samples)) <= LARGEST_SAMPLE**2:
        return samples  # then no sample is beyond it; one pass for a chunk
    low, high = float(samples.min()), float(samples.max())
    if low >= -LARGEST_SAMPLE and high <= LARGEST_SAMPLE:
        return samples
    if np.isfinite(samples).all():
        raise InputError(
            f"{name}: expected float samples with 1.0 as full scale, got {low:g} to {high:g}",
            hint="divide by 32768 if they are 16-bit values, or pass them as int16",
        )
    raise InputError(
        f"{name}: expected finite samples, got NaN or infinity",
        hint="look for a division by zero where they were computed",
    )


def _from_file(data: memoryview, limits: Limits, name: str) -> Sound:
    head = bytes(data[:12])
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        header = wav.parse_header(data, name)
        _check_facts(header.frames, header.channels, header.rate_hz, limits, name)
        if header.plain:
            return Sound(_finite(wav.read_samples(data, header), name), header.rate_hz)
    elif not (head[:4] in (b"fLaC", b"OggS") or head[:3] == b"ID3" or _is_mp3_frame(head)):
        raise InputError(
            f"{name}: expected WAV, FLAC, Ogg or MP3, got {_shown(data)}",
            hint="convert it: ffmpeg -i INPUT -ac 1 output.wav",
        )
    return _by_soundfile(data, limits, name)


def _is_mp3_frame(head: bytes) -> bool:
    """11 sync bits, layer III, and neither a reserved version nor a reserved rate."""
    return (
        len(head) >= 4
        and head[0] == 0xFF
        and head[1] & 0xE6 == 0xE2
        and head[1] & 0x18 != 0x08
        and head[2] & 0x0C != 0x0C
    )


def _shown(data: memoryview) -> str:
    start = bytes(data[:16])
    if start[:4] in (b"RIFX", b"RF64"):
        return f"the WAV variant {start[:4].decode()}"
    text = start.decode("latin-1")
    return f"text ({text!r}...)" if text.isprintable() else f"a file that starts with {start[:8].hex(' ')}"


def _by_soundfile(data: memoryview, limits: Limits, name: str) -> Sound:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, its libsndfile is not
        raise InputError(
            f"{name}: FLAC, Ogg and MP3 need the package soundfile ({error})",
            hint="pip install soundfile   (or pass a plain PCM WAV file)",
        ) from None
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in _COMPRESSED:
                raise InputError(f"{name}: expected WAV, FLAC, Ogg or MP3, got {file.format}")
            _check_facts(file.frames, file.channels, file.samplerate, limits, name)
            samples = _read_steps(file, limits, name)
            rate_hz = int(file.samplerate)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"{name}: a damaged or unsupported {_format(bytes(data[:4]))} file ({_reason(error)})",
            hint="play it to hear whether it is whole, or convert it: ffmpeg -i INPUT -ac 1 output.wav",
        ) from None
    _check_facts(len(samples), samples.shape[1], rate_hz, limits, name)
    return Sound(_finite(samples, name), rate_hz)


def _format(head: bytes) -> str:
    return {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg"}.get(head, "MP3")


def _reason(error: Exception) -> str:
    """libsndfile's own words, without the object that it was given, which says nothing to anybody."""
    words = str(getattr(error, "error_string", None) or error)
    # Of a file it cannot make anything of, libsndfile 1.2 says what holds for names on a disk only.
    return "no sound is found in it" if "regular file" in words else words.strip().rstrip(".")


def _read_steps(file: Any, limits: Limits, name: str) -> Array:
    """All samples, in steps: memory follows what is there, not what the header says."""
    dtype = "int16" if file.subtype == "PCM_16" else "float32"
    steps = []
    total = 0
    while True:
        step = file.read(_STEP_FRAMES, dtype=dtype, always_2d=True)
        total += len(step)
        _check_facts(max(total, 1), file.channels, file.samplerate, limits, name)
        steps.append(step)
        if len(step) < _STEP_FRAMES:
            return steps[0] if len(steps) == 1 else np.concatenate(steps)
