"""Sounds decode to the samples their writer put in, and bad ones are refused with what was expected and what came."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from audio_specs import LIMITS, WAVEFORM

from edgekit.errors import InputError
from edgekit.preprocess.sound import Sound, decode

RATE_HZ = 16000
TONE = np.round(20000 * np.sin(np.arange(1600) * 0.07)).astype(np.int16)


def wav(
    data: bytes = TONE.tobytes(),
    *,
    tag: int = 1,
    channels: int = 1,
    rate_hz: int = RATE_HZ,
    bits: int = 16,
    frame_bytes: int | None = None,
    declared: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    """A WAV file, byte by byte, so that every field can lie."""
    frame = channels * bits // 8 if frame_bytes is None else frame_bytes
    fmt = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * frame & 0xFFFFFFFF, frame, bits) + extra
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + before
    chunks += b"data" + struct.pack("<I", len(data) if declared is None else declared) + data + after
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def read(value: Any) -> Sound:
    return decode(WAVEFORM, value, LIMITS)


def refused(value: Any, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        read(value)
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.exit_code == 4


def test_16_bit_wav_is_what_was_written() -> None:
    sound = read(wav())
    assert sound.rate_hz == RATE_HZ
    assert sound.samples.dtype == np.int16
    assert (sound.samples[:, 0] == TONE).all()


def test_8_24_and_32_bit_wav_are_fractions_of_full_scale() -> None:
    assert read(wav(bytes([0, 128, 192, 255]), bits=8)).samples[:, 0].tolist() == [-1.0, 0.0, 0.5, 127 / 128]
    packed = b"".join(v.to_bytes(3, "little", signed=True) for v in (-(1 << 23), 0, 1, (1 << 23) - 1))
    assert read(wav(packed, bits=24)).samples[:, 0].tolist() == [-1.0, 0.0, 2.0**-23, 1 - 2.0**-23]
    whole = struct.pack("<4i", -(1 << 31), 0, 1 << 30, 1 << 8)
    assert read(wav(whole, bits=32)).samples[:, 0].tolist() == [-1.0, 0.0, 0.5, 2.0**-23]


@pytest.mark.parametrize("bits", [32, 64])
def test_float_wav_is_what_was_written(bits: int) -> None:
    values = [0.25, -1.5, 0.0]
    sound = read(wav(struct.pack("<3f" if bits == 32 else "<3d", *values), tag=3, bits=bits))
    assert sound.samples.dtype == np.float32
    assert sound.samples[:, 0].tolist() == values


def test_extensible_wav_with_odd_chunks_around_its_samples() -> None:
    guid = bytes.fromhex("0100000000001000800000aa00389b71")
    extra = struct.pack("<HHI", 22, 16, 3) + guid
    odd = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    sound = read(wav(tag=0xFFFE, channels=2, extra=extra, before=odd, after=odd))
    assert (sound.samples == TONE.reshape(-1, 2)).all()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_equals_libsndfile(subtype: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    shaped = np.stack([TONE, TONE[::-1]][:channels], 1) / np.float32(32768)
    soundfile.write(path, shaped, RATE_HZ, subtype=subtype)
    theirs, _ = soundfile.read(path, dtype="float32", always_2d=True)
    ours = read(path).samples
    as_float = ours / np.float32(32768) if ours.dtype == np.int16 else ours
    assert (as_float == theirs).all()


def test_one_recording_sounds_the_same_in_every_format(shared: Path) -> None:
    folder = shared / "data" / "librispeech"
    name = "1272-141231-0002"
    published = np.load(folder / f"{name}.npy")[0]
    assert (read(folder / f"{name}.wav").samples[:, 0] / np.float32(32768) == published).all()
    lossless = read(folder / f"{name}.flac").samples[:, 0]
    assert lossless.dtype == np.int16
    assert np.abs(lossless / np.float32(32768) - published).max() <= 9 / 32768  # its maker dithered it anew
    lossy = read(folder / f"{name}.mp3").samples[:, 0]
    assert len(lossy) == len(published)
    assert np.corrcoef(lossy, published)[0, 1] >= 0.995


def test_flac_is_lossless() -> None:
    file = io.BytesIO()
    soundfile.write(file, TONE.reshape(-1, 2), RATE_HZ, format="FLAC")
    assert (read(file.getvalue()).samples == TONE.reshape(-1, 2)).all()


def test_path_bytes_and_samples_are_one_sound(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(wav())
    sounds = [read(v) for v in (path, str(path), wav(), bytearray(wav()), memoryview(wav()), (TONE, RATE_HZ))]
    sounds.append(read([TONE[:, None], np.int64(RATE_HZ)]))
    assert all(s.rate_hz == RATE_HZ and (s.samples[:, 0] == TONE).all() for s in sounds)


def test_lying_and_broken_wav_headers_are_refused() -> None:
    refused(wav(declared=0xFFFFFFFF), "says 4294967295 bytes of samples, the file has 3200", "hint")
    refused(wav(declared=3201), "says 3201 bytes", "has 3200")
    refused(wav(rate_hz=0), "expected a sampling rate of 1", "got 0")
    refused(wav(rate_hz=0xFFFFFFFF), "got 4294967295")
    refused(wav(channels=0, frame_bytes=2), "0 channels")
    refused(wav(channels=9), "expected 1 to 8 channels, got 9")
    refused(wav(channels=65535, frame_bytes=2), "channels")
    refused(wav(frame_bytes=3), "contradicts itself")
    refused(wav(frame_bytes=0), "contradicts itself")
    refused(wav(b""), "an empty recording (0 samples)", "hint")
    refused(wav(bits=0, frame_bytes=2), "says 0 bits a sample")
    refused(wav()[:44], "the file has 0")
    refused(wav()[:36], "ends before its samples")
    refused(wav()[:20], "expected a format of 16 bytes, got 0")
    refused(wav()[:12], "ends before its format")
    refused(wav(before=wav()[12:36]), "states its format twice")
    refused(b"RIFX" + wav()[4:], "the WAV variant RIFX")
    refused(wav(tag=0x1234), "a damaged or unsupported WAV file")


def test_recordings_beyond_the_limits_are_refused_before_decoding() -> None:
    limits = LIMITS.replace(audio_seconds=0.05, audio_bytes=4000)
    with pytest.raises(InputError, match=r"expected at most 0.05 seconds, got 0.1"):
        decode(WAVEFORM, wav(), limits)
    with pytest.raises(InputError, match="expected at most 4000 bytes, got 4044"):
        decode(WAVEFORM, wav(bytes(4000)), limits)
    with pytest.raises(InputError, match=r"expected at most 0.05 seconds"):
        decode(WAVEFORM, (TONE, RATE_HZ), limits)
    flac = io.BytesIO()
    soundfile.write(flac, TONE, RATE_HZ, format="FLAC")
    with pytest.raises(InputError, match=r"expected at most 0.05 seconds, got 0.1"):
        decode(WAVEFORM, flac.getvalue(), limits)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_sound_are_refused(bad: float) -> None:
    samples = np.zeros(100, np.float32)
    samples[50] = bad
    refused((samples, RATE_HZ), "expected" if bad == 1e30 else "expected finite samples, got NaN or infinity")
    refused(wav(samples.tobytes(), tag=3, bits=32), "expected")
    refused(wav(np.float64([bad * 1e300 if bad == 1e30 else bad]).tobytes(), tag=3, bits=64), "expected finite samples")


def test_samples_in_another_unit_type_or_shape_are_refused() -> None:
    refused((TONE.astype(np.float32), RATE_HZ), "1.0 as full scale", "divide by 32768")
    refused((TONE.astype(np.float64), RATE_HZ), "int16 or float32, got an array of float64", "hint")
    refused((TONE.tolist(), RATE_HZ), "got list")
    refused((TONE.astype(np.int32), RATE_HZ), "got an array of int32")
    refused((TONE.reshape(2, 8, 100), RATE_HZ), "expected shape (n,) or (n, channels), got (2, 8, 100)")
    refused((TONE.reshape(2, 800), RATE_HZ), "got 800", "samples are (n, channels)")
    refused((TONE[:0], RATE_HZ), "an empty recording")
    refused((TONE, 0), "got 0")
    refused((TONE, -16000), "got -16000")
    refused((TONE, True), "got bool")
    refused((TONE, 16000.0), "expected a whole number of Hz, got float")
    refused((TONE, "16000"), "got str")


def test_values_that_are_no_sound_are_refused() -> None:
    refused(TONE, "expected a path, bytes or (samples, rate_hz), got ndarray", "audio=(samples, 16000)")
    refused(None, "got NoneType")
    refused([TONE, RATE_HZ, 1], "got list")
    refused(b"", "empty (0 bytes)")
    refused(b"a text that someone named .wav", "expected WAV, FLAC, Ogg or MP3, got text ('a text that some'...)")
    refused(bytes(100), "starts with 00 00 00 00")


def test_files_that_are_no_sound_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("hello hello hello hello")
    refused(text, "text.wav: expected WAV", "got text")
    empty = tmp_path / "empty.wav"
    empty.touch()
    refused(empty, "empty.wav: empty (0 bytes)")
    refused(tmp_path / "none.wav", "no such file")
    refused(tmp_path, "expected a file")
    refused("nul\0byte", "cannot be read")
    refused("x" * 5000, "cannot be read")
    refused("/dev/zero", "expected a file")


@pytest.mark.parametrize(("form", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_a_cut_file_is_refused_in_words_that_a_person_can_use(form: str, subtype: str) -> None:
    """The format, libsndfile's reason and a way out; no address of an object, nothing about pipes."""
    file = io.BytesIO()
    soundfile.write(file, np.tile(TONE, 5), RATE_HZ, format=form, subtype=subtype)
    with pytest.raises(InputError, match="damaged or unsupported") as caught:
        read(file.getvalue()[:60])
    text = str(caught.value)
    assert form.lower() in text.lower()
    assert " at 0x" not in text
    assert "pipe" not in text
    assert caught.value.hint


def test_plain_wav_needs_no_soundfile_and_others_say_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    soundfile.write(tmp_path / "a.flac", TONE, RATE_HZ)
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
sys.modules["soundfile"] = None
from audio_specs import LIMITS, WAVEFORM
from edgekit.preprocess.sound import decode
from edgekit.errors import InputError
assert len(decode(WAVEFORM, {str(tmp_path / "a.wav")!r}, LIMITS).samples) == 1600
try:
    decode(WAVEFORM, {str(tmp_path / "a.flac")!r}, LIMITS)
except InputError as error:
    assert "pip install soundfile" in error.hint
else:
    raise SystemExit("FLAC without soundfile")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
