"""Feature extractors of a Hugging Face folder: from `preprocessor_config.json` to an AudioSpec.

Sources of the constants: the feature extractors of transformers 4.57.6 (numpy paths); defaults are their `__init__`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from edgekit.errors import InputError, ManifestError
from edgekit.packaging.hub_folder import Config
from edgekit.packaging.questions import Questions
from edgekit.specs.audio import AudioSpec, Length, Resample, Spectrum, Windows

DEFAULTS: dict[str, Mapping[str, Any]] = {
    "Wav2Vec2": {"sampling_rate": 16000, "do_normalize": True},
    "Whisper": {"feature_size": 80, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 30, "n_fft": 400},
    "AST": {
        "sampling_rate": 16000, "num_mel_bins": 128, "max_length": 1024, "do_normalize": True,
        "mean": -4.2677393, "std": 4.5689974,
    },
    "Clap": {
        "feature_size": 64, "sampling_rate": 48000, "hop_length": 480, "max_length_s": 10, "fft_window_size": 1024,
        "frequency_min": 0, "frequency_max": 14000, "truncation": "fusion", "padding": "repeatpad",
    },
}  # fmt: skip

CLASS_OF_MODEL = {
    "audio-spectrogram-transformer": "AST",
    "clap": "Clap",
    "data2vec-audio": "Wav2Vec2",
    "hubert": "Wav2Vec2",
    "moonshine": "Wav2Vec2",
    "sew": "Wav2Vec2",
    "sew-d": "Wav2Vec2",
    "unispeech": "Wav2Vec2",
    "unispeech-sat": "Wav2Vec2",
    "wav2vec2": "Wav2Vec2",
    "wav2vec2-conformer": "Wav2Vec2",
    "wavlm": "Wav2Vec2",
    "whisper": "Whisper",
}
"""transformers' FEATURE_EXTRACTOR_MAPPING_NAMES, for configs that do not name their class."""

RESAMPLE = Resample(zeros=32, rolloff=0.965, beta=8.0)


class AudioPort(NamedTuple):
    """What the graph takes of a sound: value, mask's value or null, and the shape of its tensor, -1 for a free axis."""

    value: str
    mask: str | None
    shape: tuple[int, ...]


class _Keys:
    def __init__(self, config: Config, name: str) -> None:
        self._config = config
        self._name = name

    def get(self, key: str) -> Any:
        found = self._config.get(key)
        return DEFAULTS[self._name].get(key) if found is None else found

    def number(self, key: str) -> float:
        found = self.get(key)
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            raise self.wrong(key, "a number", found)
        return float(found)

    def whole(self, key: str) -> int:
        found = self.get(key)
        if type(found) is not int or found < 1:
            raise self.wrong(key, "a whole number above 0", found)
        return found

    def wrong(self, key: str, expected: str, found: object) -> InputError:
        return InputError(f"preprocessor_config.json: '{key}' of {self._name}: expected {expected}, got {found!r}")


def extractor_name(config: Config, model_type: str, ask: Questions) -> str:
    """The feature extractor's class without its ending; asked for where neither the config nor the model says it."""
    declared = str(config.get("feature_extractor_type") or "")
    name = re.sub(r"FeatureExtractor$", "", declared) or CLASS_OF_MODEL.get(model_type, "")
    if name in DEFAULTS:
        return name
    what = f"'{declared}'" if declared else f"of model_type '{model_type}'"
    return ask.choice(
        "feature_extractor", list(DEFAULTS), f"the extractor {what} is unknown: which one it computes like"
    )


def read_audio(config: Config, model_type: str, port: AudioPort, least_samples: int, ask: Questions) -> AudioSpec:
    """The audio input that this extractor config describes, for a graph. Raises InputError naming the key.

    least_samples: what the graph needs at least of a sound of free length, 1 when nothing is known.
    """
    name = extractor_name(config, model_type, ask)
    keys = _Keys(config, name)
    if keys.get("dither"):
        raise keys.wrong("dither", "0.0 (noise at random is not the same twice)", keys.get("dither"))
    try:
        if name == "Wav2Vec2":
            spec = _waveform(keys, port, least_samples)
        elif name == "Whisper":
            spec = _whisper(keys, port)
        elif name == "AST":
            spec = _ast(keys, port)
        else:
            spec = _clap(keys, port)
    except ManifestError as error:
        raise InputError(f"preprocessor_config.json of {name}: '{error.key}' {error.problem}") from None
    _check_shape(spec, port, name)
    return spec


def _spec(port: AudioPort, rate_hz: int, shape: tuple[int, ...], **changes: Any) -> AudioSpec:
    fields: dict[str, Any] = {
        "kind": "audio",
        "value": port.value,
        "mask": port.mask,
        "rate_hz": rate_hz,
        "downmix": "mean",
        "resample": RESAMPLE,
        "amplitude": "unit",
        "windows": None,
        "length": None,
        "normalize": "none",
        "epsilon": 0.0,
        "features": None,
        "layout": "samples",
        "shape": shape,
        "dtype": "float32",
        "quantization": None,
        "streamable": False,
    }
    return AudioSpec(**{**fields, **changes})


def _waveform(keys: _Keys, port: AudioPort, least_samples: int) -> AudioSpec:
    """Wav2Vec2FeatureExtractor; a graph of fixed length takes a longer sound piece by piece."""
    if len(port.shape) != 2:
        raise InputError(f"the graph's '{port.value}' has shape {list(port.shape)}, a waveform has two axes")
    rate_hz, samples = keys.whole("sampling_rate"), port.shape[1]
    changes: dict[str, Any] = {}
    if keys.get("do_normalize") is True:
        changes = {"normalize": "zero_mean_unit_variance", "epsilon": 1e-7}
    if samples > 0:
        changes["windows"] = Windows(samples=samples, hop=samples, lead=0, tail="keep")
        changes["length"] = Length(samples=samples, pad="zero", trim="none")
    elif least_samples > 1:
        changes["length"] = Length(samples=least_samples, pad="none", trim="keep")
    return _spec(port, rate_hz, (1, samples), **changes)


def _whisper(keys: _Keys, port: AudioPort) -> AudioSpec:
    rate_hz, hop, bands = keys.whole("sampling_rate"), keys.whole("hop_length"), keys.whole("feature_size")
    samples = keys.whole("chunk_length") * rate_hz
    features = _spectrum(
        type="whisper",
        frame_length=keys.whole("n_fft"),
        hop_length=hop,
        center="reflect",
        drop_last=True,
        bands=bands,
        high_hz=8000.0,
        log="log10",
        dynamic_range=8.0,
        offset=-4.0,
        divisor=4.0,
    )
    length = Length(samples=samples, pad="zero", trim="right")
    return _spec(port, rate_hz, (1, bands, samples // hop), length=length, features=features, layout="bands_frames")


def _ast(keys: _Keys, port: AudioPort) -> AudioSpec:
    """ASTFeatureExtractor: Kaldi's filter bank at 25 ms and 10 ms of 16 kHz; (x - mean) / (2 std)."""
    rate_hz, bands, frames = keys.whole("sampling_rate"), keys.whole("num_mel_bins"), keys.whole("max_length")
    normalizes = keys.get("do_normalize") is True
    features = _spectrum(
        type="kaldi",
        frame_length=400,
        hop_length=160,
        fft_length=512,
        remove_dc=True,
        preemphasis=0.97,
        window="hann_symmetric",
        bands=bands,
        low_hz=20.0,
        high_hz=float(rate_hz // 2),
        mel_scale="kaldi",
        mel_norm="none",
        triangles="mel",
        floor=1.192092955078125e-07,
        log="ln",
        frames=frames,
        offset=keys.number("mean") if normalizes else 0.0,
        divisor=2 * keys.number("std") if normalizes else 1.0,
    )
    return _spec(port, rate_hz, (1, frames, bands), features=features, layout="frames_bands")


def _clap(keys: _Keys, port: AudioPort) -> AudioSpec:
    """ClapFeatureExtractor's `rand_trunc`; of a longer sound the beginning is taken, not a part at random."""
    if keys.get("truncation") != "rand_trunc":
        raise keys.wrong(
            "truncation", "'rand_trunc' (the fusion of four spectra is not supported)", keys.get("truncation")
        )
    pads = {"repeatpad": "repeat", "repeat": "wrap", "pad": "zero"}
    padding = keys.get("padding")
    if padding not in pads:
        raise keys.wrong("padding", ", ".join(pads), padding)
    rate_hz, hop, bands = keys.whole("sampling_rate"), keys.whole("hop_length"), keys.whole("feature_size")
    samples = keys.whole("max_length_s") * rate_hz
    features = _spectrum(
        type="mel",
        frame_length=keys.whole("fft_window_size"),
        hop_length=hop,
        center="reflect",
        bands=bands,
        low_hz=keys.number("frequency_min"),
        high_hz=keys.number("frequency_max"),
        log="db",
    )
    length = Length(samples=samples, pad=pads[padding], trim="right")  # type: ignore[arg-type]  # one of pads
    shape = (1, 1, samples // hop + 1, bands)
    return _spec(port, rate_hz, shape, length=length, features=features, layout="frames_bands")


def _spectrum(**changes: Any) -> Spectrum:
    """transformers' `spectrogram` with a Slaney mel bank, with changes."""
    fields: dict[str, Any] = {
        "type": "mel",
        "frame_length": 0,
        "hop_length": 0,
        "fft_length": changes["frame_length"],
        "center": "none",
        "remove_dc": False,
        "preemphasis": 0.0,
        "window": "hann",
        "power": 2.0,
        "drop_last": False,
        "bands": 0,
        "low_hz": 0.0,
        "high_hz": 0.0,
        "mel_scale": "slaney",
        "mel_norm": "slaney",
        "triangles": "hz",
        "floor_mode": "clamp",
        "floor": 1e-10,
        "log": "log10",
        "dynamic_range": 0.0,
        "cepstra": 0,
        "dct_norm": "none",
        "frames": 0,
        "frame_pad": 0.0,
        "offset": 0.0,
        "divisor": 1.0,
    }
    return Spectrum(**{**fields, **changes})


def _check_shape(spec: AudioSpec, port: AudioPort, name: str) -> None:
    """Refuse a config that makes other tensors than the graph takes."""
    made, takes = spec.shape, port.shape
    if len(made) != len(takes) or any(-1 not in (a, b) and a != b for a, b in zip(made[1:], takes[1:])):
        raise InputError(
            f"preprocessor_config.json of {name} makes tensors of {list(made)}, the graph takes {list(takes)}"
        )
