"""Features equal what transformers, librosa, Kaldi and TensorFlow compute, and a direct DFT in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_specs import AST, CLAP, KWS, LIMITS, TRIDIGIT, WAV2VEC2, WAVEFORM, WHISPER, audio, length, spectrum

from edgekit.errors import InputError, ManifestError
from edgekit.preprocess.audio import transform
from edgekit.preprocess.sound import Sound, decode
from edgekit.specs.audio import AudioSpec

GOLDEN = np.load(Path(__file__).parent / "golden" / "audio.npz")
CLIP = GOLDEN["clip"]


def run(spec: AudioSpec, samples: Any = CLIP, rate_hz: int | None = None) -> Any:
    return transform(spec, decode(spec, (samples, rate_hz or spec.rate_hz), LIMITS))["x"]


def far(ours: Any, theirs: Any) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


@pytest.mark.parametrize(
    ("model", "spec", "tolerance"),
    [("whisper", WHISPER, 1e-4), ("ast", AST, 1e-4), ("wav2vec2", WAV2VEC2, 1e-6)],
    ids=["whisper", "ast", "wav2vec2"],
)
def test_equals_what_transformers_fed_the_zoo_model(
    shared: Path, model: str, spec: AudioSpec, tolerance: float
) -> None:
    expected = np.load(shared / "zoo" / model / "expected.npz")
    (name,) = [n for n in expected.files if "input" in n]
    sound = decode(spec, shared / "zoo/inputs/jfk_16k.wav", LIMITS)
    assert far(transform(spec, sound)["x"], expected[name]) <= tolerance


def test_whisper_log_mel_equals_transformers() -> None:
    assert far(run(WHISPER)[0][:, :140], GOLDEN["whisper_80"]) <= 1e-5
    wide = WHISPER.features.replace(bands=128)
    made = run(WHISPER.replace(features=wide, shape=(1, 128, 3000)))
    assert far(made[0][:, :140:10], GOLDEN["whisper_128"]) <= 1e-5


def test_whisper_log_mel_of_a_full_window_mirrors_its_end() -> None:
    full = WHISPER.replace(length=length(16000), shape=(1, 80, 100))
    assert far(run(full, CLIP[:16000])[0][:, ::5], GOLDEN["whisper_full"]) <= 1e-5


@pytest.mark.parametrize("missing", [0, 1, 150, 199, 200, 201, 360, 8000, 15999])
def test_zeros_that_are_not_computed_equal_zeros_that_are(missing: int) -> None:
    spec = WHISPER.replace(length=length(16000), shape=(1, 80, 100))
    real = CLIP[3000 : 19000 - missing]
    padded = np.concatenate([real, np.zeros(missing, np.int16)])
    # Some processors' matrix products (OpenBLAS on Zen 3) round by how many rows they have.
    assert far(run(spec, real), run(spec, padded)) <= np.finfo(np.float32).eps


def test_ast_filter_bank_equals_transformers_padded_and_trimmed() -> None:
    padded = AST.replace(features=AST.features.replace(frames=160), shape=(1, 160, 128))
    assert far(run(padded)[0][::4], GOLDEN["ast_pad"]) <= 1e-5
    trimmed = AST.replace(features=AST.features.replace(frames=64), shape=(1, 64, 128))
    assert far(run(trimmed)[0][::4], GOLDEN["ast_trim"]) <= 1e-5


@pytest.mark.parametrize("pad", ["repeat", "wrap", "zero"])
def test_clap_log_mel_equals_transformers_for_each_way_to_pad(pad: str) -> None:
    theirs = {"repeat": "clap_repeatpad", "wrap": "clap_repeat", "zero": "clap_pad"}[pad]
    spec = CLAP.replace(length=length(96000, pad=pad))
    assert far(run(spec)[0, 0][::8], GOLDEN[theirs]) <= 2e-4  # decibels


def test_wav2vec2_normalises_the_real_samples_and_masks_the_rest() -> None:
    spec = WAV2VEC2.replace(length=length(24000), mask="m")
    made = transform(spec, Sound(CLIP[:, None], 16000))
    assert far(made["x"][0, ::20], GOLDEN["wav2vec2"]) <= 1e-6
    assert made["m"].dtype == np.int64
    assert (made["m"][0, ::20] == GOLDEN["wav2vec2_mask"]).all()


def test_moonshine_takes_the_waveform_as_it_is() -> None:
    made = transform(WAVEFORM.replace(mask="m"), Sound(CLIP[:, None], 16000))
    assert (made["x"][0, ::20] == GOLDEN["moonshine"]).all()
    assert made["m"].all()
    assert made["m"].shape == made["x"].shape


def test_mel_equals_librosa() -> None:
    features = spectrum(
        frame_length=512, hop_length=256, fft_length=512, center="zero", bands=64, log="none", floor=0.0
    )
    spec = audio(features=features, layout="frames_bands", shape=(1, -1, 64))
    assert far(run(spec)[0], GOLDEN["librosa_mel"]) <= 1e-5 * GOLDEN["librosa_mel"].max()


def test_htk_mel_in_decibels_equals_librosa() -> None:
    features = spectrum(
        frame_length=512, hop_length=200, fft_length=512, bands=40, low_hz=50.0, high_hz=7000.0, mel_scale="htk",
        mel_norm="none", log="db",
    )  # fmt: skip
    spec = audio(features=features, layout="frames_bands", shape=(1, -1, 40))
    assert far(run(spec)[0], GOLDEN["librosa_htk_db"]) <= 2e-4


def test_magnitudes_without_bands_equal_librosa() -> None:
    features = spectrum(
        frame_length=256, hop_length=200, fft_length=256, center="zero", window="hamming", power=1.0, bands=0,
        log="none", floor=0.0,
    )  # fmt: skip
    spec = audio(features=features, layout="frames_bands", shape=(1, -1, 129))
    assert far(run(spec)[0][:, ::3], GOLDEN["librosa_magnitude"]) <= 1e-5


def test_mfcc_equals_librosa() -> None:
    features = spectrum(
        type="mfcc", frame_length=512, hop_length=256, fft_length=512, center="zero", bands=40, log="db",
        dynamic_range=80.0, cepstra=13, dct_norm="ortho",
    )  # fmt: skip
    spec = audio(features=features, layout="frames_bands", shape=(1, -1, 13))
    assert far(run(spec)[0], GOLDEN["librosa_mfcc"]) <= 1e-3  # librosa's own float32 transforms; values reach 600
    turned = audio(features=features, layout="bands_frames", shape=(1, 13, -1))
    # The same sums; OpenBLAS rounds them by the product's shape, so to the last bit of values that reach 600.
    assert far(run(spec)[0], run(turned)[0].T) <= np.finfo(np.float32).eps * 600


@pytest.mark.parametrize("window", ["povey", "hamming_symmetric"])
def test_filter_bank_equals_kaldi(window: str) -> None:
    features = AST.features.replace(window=window, bands=40, high_hz=7600.0, frames=0, offset=0.0, divisor=1.0)
    spec = audio(amplitude="int16", features=features, layout="frames_bands", shape=(1, -1, 40))
    theirs = GOLDEN["kaldi_povey"] if window == "povey" else GOLDEN["kaldi_hamming"]
    assert far(run(spec)[0][:: 2 if window == "povey" else 4], theirs) <= 2e-3  # Kaldi's float32 transform


def direct_tridigit(samples: Any) -> Any:
    """ln(mel power + 1e-6) by a DFT written as its sum, in float64; after the formulas in models/tridigit."""
    signal = np.zeros(8000)
    signal[: min(8000, len(samples))] = samples[:8000] / 32768.0
    n = np.arange(256)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 256)
    basis = np.exp(-2j * np.pi * np.outer(n, np.arange(129)) / 256)
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (20, 4000))
    corners = 700 * (10 ** (np.linspace(low, high, 42) / 2595) - 1)
    weights = np.zeros((129, 40))
    for bin_index in range(129):
        hz = bin_index * 8000 / 256
        for band in range(40):
            left, middle, right = corners[band : band + 3]
            weights[bin_index, band] = max(0.0, min((hz - left) / (middle - left), (right - hz) / (right - middle)))
    frames = np.stack([signal[start : start + 256] for start in range(0, 8000 - 255, 128)])
    power = np.abs((frames * window) @ basis) ** 2
    return (np.log(power @ weights + 1e-6) + 10.161) / 4.939


@pytest.mark.parametrize("count", [1, 255, 256, 257, 5000, 8000, 9000])
def test_tridigit_features_equal_a_direct_transform(count: int) -> None:
    samples = np.resize(CLIP[2000:], count)
    assert far(run(TRIDIGIT, samples)[0], direct_tridigit(samples)) <= 1e-5


@pytest.mark.parametrize("power", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("center", ["none", "zero", "reflect"])
def test_spectrum_equals_a_direct_transform(power: float, center: Any) -> None:
    features = spectrum(
        frame_length=300, hop_length=70, fft_length=360, center=center, remove_dc=True, preemphasis=0.9,
        window="hann_symmetric", power=power, bands=0, log="ln", floor_mode="add", floor=0.01,
    )  # fmt: skip
    spec = audio(features=features, layout="frames_bands", shape=(1, -1, 181))
    signal = CLIP[:3000] / 32768.0
    if center != "none":
        signal = np.pad(signal, 150, mode="reflect" if center == "reflect" else "constant")
    rows = []
    for start in range(0, len(signal) - 299, 70):
        frame = signal[start : start + 300] - signal[start : start + 300].mean()
        frame = frame - 0.9 * np.concatenate([frame[:1], frame[:-1]])
        frame = frame * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(300) / 299))
        bins = np.exp(-2j * np.pi * np.outer(np.arange(181), np.arange(300)) / 360) @ frame
        rows.append(np.log(np.abs(bins) ** power + 0.01))
    assert far(run(spec, CLIP[:3000])[0], np.stack(rows)) <= 1e-5


def test_mlperf_keyword_front_end(shared: Path) -> None:
    """issue 2: MFCC bytes equal the published ones on >= 99.9 %, and at least 448 of 500 clips are right."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    folder = shared / "models" / "mlperf-kws"
    graph = litert.Interpreter(str(folder / "kws_ref_model.tflite"))
    graph.allocate_tensors()
    taken, given = graph.get_input_details()[0]["index"], graph.get_output_details()[0]["index"]
    right = equal = total = 0
    clips = sorted((folder / "td_samples").glob("tst_*.bin"))
    for clip in clips:
        tensor = run(KWS, np.fromfile(clip, "<i2"))
        published = np.fromfile(folder / "mfcc" / clip.name, np.int8)
        equal += int((tensor.ravel() == published).sum())
        total += published.size
        graph.set_tensor(taken, tensor)
        graph.invoke()
        right += int(graph.get_tensor(given)[0].argmax()) == int(clip.stem.rsplit("_", 1)[1])
    assert len(clips) == 500
    assert equal / total >= 0.999
    assert right >= 448


def test_quantised_features_saturate_and_round_as_said() -> None:
    values = np.array([-1000, -130, -2, -1, 0, 1, 2, 3, 200, 20000], np.int16)
    spec = audio(amplitude="int16", dtype="int8", quantization=KWS.quantization, shape=(10,))
    for rounding, expected in (
        ("nearest_even", [-128, -65, -1, 0, 0, 0, 1, 2, 100, 127]),
        ("nearest_away", [-128, -65, -1, -1, 0, 1, 1, 2, 100, 127]),
        ("trunc", [-128, -65, -1, 0, 0, 0, 1, 1, 100, 127]),
    ):
        quantization = KWS.quantization.replace(scale=2.0, zero_point=0, rounding=rounding)
        assert run(spec.replace(quantization=quantization), values).tolist() == expected


def test_int16_tensor_gives_the_samples_back() -> None:
    spec = audio(amplitude="int16", dtype="int16", shape=(-1,))
    made = run(spec)
    assert made.dtype == np.int16
    assert (made == CLIP).all()


@pytest.mark.parametrize("trim", ["right", "center"])
def test_trim_keeps_the_start_or_the_middle(trim: str) -> None:
    made = run(audio(length=length(1000, trim=trim), shape=(1, 1000)))
    start = 0 if trim == "right" else (len(CLIP) - 1000) // 2
    assert (made[0] == CLIP[start : start + 1000] / np.float32(32768)).all()


def test_frame_mask_says_which_frames_start_in_the_sound() -> None:
    made = transform(WHISPER.replace(mask="m"), Sound(CLIP[:16001, None], 16000))
    assert made["m"].shape == (1, 3000)
    assert made["m"].sum() == 101  # frames 0 to 100: the last is centred on sample 16000


@pytest.mark.parametrize("spec", [WHISPER, AST, WAV2VEC2, CLAP, KWS, TRIDIGIT, WAVEFORM], ids=lambda s: s.shape)
@pytest.mark.parametrize("count", [1, 2, 399, 400, 401, 9999])
@pytest.mark.parametrize("level", [0, -3, 1])
def test_short_and_silent_sounds_are_defined_or_refused(spec: AudioSpec, count: int, level: int) -> None:
    """issue 3: a sound shorter than one window, silence: a clear error or a defined result, never a traceback."""
    samples = np.full(count, level, np.int16)
    if spec is AST and count < 400:
        with pytest.raises(InputError, match="at least 400 samples"):
            run(spec, samples)
        return
    made = run(spec, samples)
    assert np.isfinite(made.astype(np.float64)).all()
    assert all(want in (-1, got) for want, got in zip(spec.shape, made.shape))


def test_length_none_refuses_and_says_what_was_expected() -> None:
    exact = audio(length=length(100, pad="none", trim="none"), shape=(1, 100))
    assert run(exact, CLIP[:100]).shape == (1, 100)
    with pytest.raises(InputError, match="too short: expected at least 100 samples, got 99"):
        run(exact, CLIP[:99])
    with pytest.raises(InputError, match="too long: expected at most 100 samples, got 101"):
        run(exact, CLIP[:101])


def test_tensor_that_does_not_fit_its_shape_is_refused() -> None:
    with pytest.raises(InputError, match="expected a tensor of shape"):
        run(AST.replace(shape=(1, 100, 128)))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"layout": "frames_bands"}, "layout"),
        ({"dtype": "int8"}, "quantization"),
        ({"quantization": KWS.quantization}, "quantization"),
        ({"shape": (-1, -1)}, "shape"),
        ({"rate_hz": 0}, "rate_hz"),
        ({"streamable": True, "normalize": "peak"}, "normalize"),
        ({"features": spectrum(), "layout": "frames_bands", "rate_hz": 8000}, "features.high_hz"),
    ],
)
def test_contradictions_in_a_spec_are_refused_by_key(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ManifestError) as caught:
        audio(**change)
    assert caught.value.key == key


@pytest.mark.parametrize(
    "change",
    [{"fft_length": 399}, {"hop_length": 0}, {"cepstra": 3}, {"type": "mfcc"}, {"floor": 0.0}, {"divisor": 0.0}],
    ids=str,
)
def test_impossible_features_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        spectrum(**change)
