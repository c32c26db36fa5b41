"""Audio rows: A1 to A6."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import audio_specs
import numpy as np

from bench import bundles, data, peers
from bench.measure import Claim, Group
from edgekit import clock
from edgekit.inputs import preparer
from edgekit.manifest import Constant, State
from edgekit.preprocess import resampling, sound
from edgekit.specs.audio import AudioSpec, Windows
from edgekit.specs.tensor import Port

FBANK = audio_specs.audio(  # torchaudio.compliance.kaldi.fbank's defaults with 40 bands and no dither
    amplitude="int16",
    features=audio_specs.spectrum(
        type="kaldi",
        fft_length=512,
        remove_dc=True,
        preemphasis=0.97,
        window="povey",
        bands=40,
        low_hz=20.0,
        mel_scale="kaldi",
        mel_norm="none",
        triangles="mel",
        floor=1.1920928955078125e-07,
        log="ln",
    ),
    layout="frames_bands",
    shape=(1, -1, 40),
)


def prepare(spec: AudioSpec) -> Any:
    """(samples, rate) -> tensor as predict makes it."""
    made = preparer(spec, bundles.LIMITS, lambda name: b"")
    return lambda value: made(value, clock.start({})).values[spec.value]


def _apart(results: dict[str, Any]) -> Any:
    def difference(a: str, b: str) -> str:
        if a not in results or b not in results or results[a].shape != results[b].shape:
            return ""
        return f"max {np.abs(results[a] - results[b]).max():.1e}"

    return difference


def log_mel() -> Iterator[Group]:
    """A1, A2: Whisper's 80 x 3000 from 16 kHz."""
    ours = prepare(audio_specs.WHISPER)
    with_torch, without = peers.whisper(torch=True), peers.whisper(torch=False)
    for seconds, row, goals in ((1, "A1", ((0.04, 0.06), (0.012, 0.02))), (30, "A2", ((0.9, 1.0), (0.22, 0.27)))):
        samples = data.speech(seconds)
        rows = np.zeros((max(seconds * 100, 1), 400))
        variants = {
            "ours": lambda s=samples: ours((s, 16000)),
            "HF with torch": lambda s=samples: with_torch(s),
            "HF without torch": lambda s=samples: without(s),
            "numpy's FFT of the frames": lambda r=rows: np.fft.rfft(r, axis=1),
        }
        results = {name: call() for name, call in variants.items()}
        limit = "numpy's FFT of the frames"
        claims = [
            Claim(f"{row} log-mel {seconds} s", "ours", "HF with torch", *goals[0], limit),
            Claim(f"{row} log-mel {seconds} s", "ours", "HF without torch", *goals[1], limit),
        ]
        yield Group(f"log-mel {seconds} s", variants, claims, _apart(results))


def filter_bank() -> Iterator[Group]:
    """A3: 40 Kaldi filters, 1 s."""
    import kaldi_native_fbank
    import torchaudio.compliance.kaldi

    torch = peers.one_thread_torch()
    ours = prepare(FBANK)
    samples = data.speech(1)
    scaled = samples * np.float32(32768)
    waveform = torch.from_numpy(scaled[None].copy())
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = 16000
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = 40

    def native() -> Any:
        bank = kaldi_native_fbank.OnlineFbank(options)
        bank.accept_waveform(16000, scaled.tolist())
        bank.input_finished()
        return np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])[None]

    variants = {
        "ours": lambda: ours((samples, 16000)),
        "torchaudio kaldi.fbank": lambda: torchaudio.compliance.kaldi.fbank(
            waveform, num_mel_bins=40, dither=0.0, window_type="povey"
        ).numpy()[None],
        "kaldi-native-fbank": native,
    }
    results = {name: call() for name, call in variants.items()}
    claims = [
        Claim("A3 fbank 1 s", "ours", "torchaudio kaldi.fbank", 0.5, 0.60),
        Claim("A3 fbank 1 s", "ours", "kaldi-native-fbank", 0.20, 0.25),
    ]
    yield Group("filter bank", variants, claims, _apart(results))


def resample() -> Iterator[Group]:
    """A4: 44.1 to 16 kHz."""
    import soxr

    how = audio_specs.WAVEFORM.resample
    quality = resampling_quality()
    for seconds, goal, gate in ((1, 0.60, 0.65), (30, None, 1.05)):
        samples = np.resize(data.speech(seconds), seconds * 44100)
        variants = {
            "ours": lambda s=samples: resampling.resample(s, 44100, 16000, how),
            "soxr HQ": lambda s=samples: soxr.resample(s, 44100, 16000, quality="HQ"),
        }
        claim = Claim(f"A4 resample {seconds} s", "ours", "soxr HQ", goal, gate, note=quality)
        yield Group(f"resample {seconds} s", variants, [claim])


def resampling_quality() -> str:
    """Signal to error (dB) of sines below 8 kHz against ideal ones, and what is left of those above, 44.1 to 16 kHz."""
    how = audio_specs.WAVEFORM.resample
    seconds, edge = 2, 2000

    def made(hz: float) -> tuple[Any, Any]:
        sine = np.sin(2 * np.pi * hz * np.arange(seconds * 44100) / 44100).astype(np.float32)
        out = resampling.resample(sine, 44100, 16000, how)
        return out[edge:-edge], np.sin(2 * np.pi * hz * np.arange(seconds * 16000) / 16000)[edge:-edge]

    kept = [(hz, *made(hz)) for hz in (440, 3000, 6000, 7000)]
    snr = [f"{10 * np.log10((ideal**2).mean() / ((got - ideal) ** 2).mean()):.0f}" for _, got, ideal in kept]
    alias = [f"{10 * np.log10((made(hz)[0] ** 2).mean() / 0.5 + 1e-30):.0f}" for hz in (8500, 9000, 10000, 15000)]
    return f"SNR at 440/3k/6k/7k Hz {'/'.join(snr)} dB; 8.5k/9k/10k/15k leave {'/'.join(alias)} dB"


def wav() -> Iterator[Group]:
    """A5: a PCM16 WAV in memory -> float32."""
    import soundfile

    spec = audio_specs.WAVEFORM
    for name, content in (
        ("1 s", data.wav(1, 16000, 1)),
        ("30 s", data.wav(30, 16000, 1)),
        ("30 s 44.1 kHz stereo", data.wav(30, 44100, 2)),
    ):

        def ours(content: bytes = content) -> Any:
            decoded = sound.decode(spec, content, bundles.LIMITS)
            return decoded.samples.astype(np.float32) * np.float32(2.0**-15)

        variants = {
            "ours": ours,
            "soundfile": lambda c=content: soundfile.read(io.BytesIO(c), dtype="float32", always_2d=True)[0],
            "ours, int16 as decoded": lambda c=content: sound.decode(spec, c, bundles.LIMITS).samples,
        }
        results = {n: call() for n, call in variants.items()}
        claim = Claim(f"A5 WAV {name}", "ours", "soundfile", 0.40, 0.50, "ours, int16 as decoded")
        yield Group(f"WAV {name}", variants, [claim], _apart(results), "µs")


def silero(folder: Path) -> Iterator[Group]:
    """A6: one 512-sample chunk through Silero's detector, its state carried on."""
    import silero_vad
    from silero_vad.utils_vad import OnnxWrapper

    import edgekit

    torch = peers.one_thread_torch()
    model = Path(silero_vad.__file__).parent / "data" / "silero_vad_16k_op15.onnx"
    whole = model.with_name("silero_vad.onnx")
    spec = audio_specs.audio(
        value="samples", windows=Windows(samples=576, hop=512, lead=64, tail="drop"), shape=(1, 576), streamable=True
    )
    graph = bundles.graph(
        "model.onnx",
        "onnxruntime",
        [Port(name="input", value="samples", datatype="FP32", shape=(1, 576), quantization=None)],
        [Port(name="output", value="probability", datatype="FP32", shape=(-1, 1), quantization=None)],
        state=(State(input="state", output="stateN", init="zeros"),),
        constants=(Constant(name="sr", datatype="INT64", shape=(), data=(16000.0,)),),
    )
    variants: dict[str, Any] = {}
    samples = data.speech(11)
    chunks = [np.ascontiguousarray(samples[i : i + 512]) for i in range(0, len(samples) - 512, 512)]
    tensors = [torch.from_numpy(chunk) for chunk in chunks]
    probabilities: dict[str, list[float]] = {}
    for name, file in (("16k", model), ("both rates", whole)):
        bundle = bundles.write(
            folder / f"silero {name}.edgekit", {"audio": spec}, (graph,), {"model.onnx": file.read_bytes()}
        )
        stream = edgekit.load(bundle).stream()
        wrapper = OnnxWrapper(str(file), force_onnx_cpu=True)
        mine = [float(r.tensors["probability"].item()) for c in chunks for r in stream.push(c)]
        theirs = [float(wrapper(c, 16000).item()) for c in tensors]
        probabilities |= {f"ours, {name}": mine, f"silero_vad, {name}": theirs}
        variants[f"ours, {name}"] = _next_chunk(stream.push, chunks)
        variants[f"silero_vad, {name}"] = _next_chunk(lambda c, w=wrapper: w(c, 16000), tensors)
    variants["session alone"] = _silero_session(model)

    def difference(a: str, b: str) -> str:
        pairs = zip(probabilities.get(a, []), probabilities.get(b, []))
        return f"max {max(abs(x - y) for x, y in pairs):.1e} over {len(chunks)} chunks"

    claims = [
        Claim(f"A6 Silero chunk, {name}", f"ours, {name}", f"silero_vad, {name}", 0.65, 0.72, "session alone")
        for name in ("16k", "both rates")
    ]
    yield Group("Silero", variants, claims, difference, "µs")


def _next_chunk(call: Any, chunks: list[Any]) -> Any:
    at = [0]

    def push() -> Any:
        at[0] = (at[0] + 1) % len(chunks)
        return call(chunks[at[0]])

    return push


def _silero_session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {
        "input": np.zeros((1, 576), np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }
    feed = {name: feed[name] for name in (i.name for i in session.get_inputs())}
    return lambda: session.run(None, feed)
