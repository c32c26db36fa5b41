"""Makes audio.npz: what other implementations compute for one clip. Run in an environment of its own:

    pip install librosa==0.11.0 transformers==4.57.6 kaldi-native-fbank==1.23.0
    python tests/golden/make_audio_golden.py

transformers takes its numpy path (no torch; CLAP's module imports one all the same, so an empty module stands in).
Each array is named by the implementation and the case; long ones keep every k-th frame.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import kaldi_native_fbank as knf
import librosa
import numpy as np
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

sys.modules["torch"] = ModuleType("torch")

from transformers.models.clap.feature_extraction_clap import ClapFeatureExtractor  # noqa: E402

del sys.modules["torch"]

RATE_HZ = 16000


def make_clip() -> np.ndarray:
    """1.3 s int16: a sweep, two steady tones, a click, noise, then 0.2 s of digital silence."""
    rng = np.random.default_rng(7)
    seconds = np.arange(int(1.1 * RATE_HZ)) / RATE_HZ
    sound = 0.4 * np.sin(2 * np.pi * (200 * seconds + 2800 * seconds**2)) + 0.1 * np.sin(2 * np.pi * 440 * seconds)
    sound += 0.05 * np.sin(2 * np.pi * 6500 * seconds) + 0.01 * rng.standard_normal(len(seconds)) + 0.02
    sound[5000] += 0.4
    return np.concatenate([np.round(sound * 32767).astype(np.int16), np.zeros(int(0.2 * RATE_HZ), np.int16)])


samples = make_clip()
unit = (samples / 32768.0).astype(np.float32)
arrays: dict[str, np.ndarray] = {"clip": samples}

whisper = WhisperFeatureExtractor()
arrays["whisper_80"] = whisper(unit, sampling_rate=RATE_HZ, return_tensors="np").input_features[0, :, :140]
whisper = WhisperFeatureExtractor(feature_size=128)
arrays["whisper_128"] = whisper(unit, sampling_rate=RATE_HZ, return_tensors="np").input_features[0, :, :140:10]
short = WhisperFeatureExtractor(chunk_length=1)
arrays["whisper_full"] = short(unit[:16000], sampling_rate=RATE_HZ, return_tensors="np").input_features[0, :, ::5]

wav2vec2 = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
made = wav2vec2(unit, sampling_rate=RATE_HZ, padding="max_length", max_length=24000, return_tensors="np")
arrays["wav2vec2"], arrays["wav2vec2_mask"] = made.input_values[0, ::20], made.attention_mask[0, ::20]
plain = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)  # Moonshine's
arrays["moonshine"] = plain(unit, sampling_rate=RATE_HZ, return_tensors="np").input_values[0, ::20]


def ast_fbank(max_length: int) -> np.ndarray:
    """ASTFeatureExtractor's numpy branch, part by part, because it ends in torch.from_numpy."""
    filters = mel_filter_bank(257, 128, 20, 8000, 16000, None, "kaldi", True)
    window = window_function(400, "hann", periodic=False)
    bank = spectrogram(
        unit, window, 400, 160, 512, power=2.0, center=False, preemphasis=0.97, mel_filters=filters,
        log_mel="log", mel_floor=1.192092955078125e-07, remove_dc_offset=True,
    ).T  # fmt: skip
    kept = bank[:max_length]
    kept = np.pad(kept, ((0, max_length - len(kept)), (0, 0)))
    return (kept - -4.2677393) / (4.5689974 * 2)


arrays["ast_pad"] = ast_fbank(160)[::4]
arrays["ast_trim"] = ast_fbank(64)[::4]

for padding in ("repeatpad", "repeat", "pad"):
    clap = ClapFeatureExtractor(truncation="rand_trunc", padding=padding, max_length_s=2)
    values = clap(unit, sampling_rate=48000, return_tensors="np").input_features[0, 0]
    arrays[f"clap_{padding}"] = values.astype(np.float32)[::8]

arrays["librosa_mel"] = librosa.feature.melspectrogram(y=unit, sr=RATE_HZ, n_fft=512, hop_length=256, n_mels=64).T
arrays["librosa_htk_db"] = librosa.power_to_db(
    librosa.feature.melspectrogram(
        y=unit, sr=RATE_HZ, n_fft=512, hop_length=200, center=False, n_mels=40, htk=True, norm=None, fmin=50, fmax=7000
    ),
    top_db=None,
).T
arrays["librosa_magnitude"] = np.abs(librosa.stft(unit, n_fft=256, hop_length=200, window="hamming")).T[:, ::3]
arrays["librosa_mfcc"] = librosa.feature.mfcc(y=unit, sr=RATE_HZ, n_mfcc=13, n_fft=512, hop_length=256, n_mels=40).T


def kaldi(window: str) -> np.ndarray:
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = window
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = 40
    options.mel_opts.high_freq = 7600.0
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(RATE_HZ, samples.astype(np.float32).tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])


arrays["kaldi_povey"] = kaldi("povey")[::2]
arrays["kaldi_hamming"] = kaldi("hamming")[::4]

target = Path(__file__).with_name("audio.npz")
np.savez_compressed(target, **{n: a if a.dtype.kind == "i" else a.astype(np.float32) for n, a in arrays.items()})
print(target.stat().st_size, {n: a.shape for n, a in arrays.items()})
