"""Windows and streams: the rows of a sound, cut at once or from chunks, are the same numbers; state is carried."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import counter_onnx

from edgekit.errors import ClosedError, InputError, ManifestError
from edgekit.manifest import GraphSpec, State
from edgekit.packaging.build import build
from edgekit.packaging.draft import LIMITS, Draft
from edgekit.packaging.ports import read_all_ports
from edgekit.predictor import Predictor, load
from edgekit.preprocess.audio import cut
from edgekit.specs.audio import AudioSpec, Resample, Windows
from edgekit.specs.post import Raw


def audio_spec(windows: Windows, **changes: object) -> AudioSpec:
    """A waveform spec at 8 kHz."""
    usual: dict[str, object] = {
        "kind": "audio",
        "value": "x",
        "mask": None,
        "rate_hz": 8000,
        "downmix": "mean",
        "resample": Resample(zeros=32, rolloff=0.965, beta=8.0),
        "amplitude": "unit",
        "windows": windows,
        "length": None,
        "normalize": "none",
        "epsilon": 0.0,
        "features": None,
        "layout": "samples",
        "shape": (1, windows.samples),
        "dtype": "float32",
        "quantization": None,
        "streamable": True,
    }
    return AudioSpec(**{**usual, **changes})


@pytest.mark.parametrize(
    ("windows", "samples", "rows"),
    [
        (Windows(samples=4, hop=4, lead=0, tail="fill"), 4, [[0, 1, 2, 3]]),
        (Windows(samples=4, hop=4, lead=0, tail="fill"), 5, [[0, 1, 2, 3], [4, 0, 0, 0]]),
        (Windows(samples=4, hop=4, lead=0, tail="drop"), 7, [[0, 1, 2, 3]]),
        (Windows(samples=4, hop=2, lead=0, tail="drop"), 7, [[0, 1, 2, 3], [2, 3, 4, 5]]),
        (Windows(samples=4, hop=3, lead=1, tail="fill"), 5, [[0, 0, 1, 2], [2, 3, 4, 0]]),
        (Windows(samples=4, hop=4, lead=0, tail="fill"), 1, [[0, 0, 0, 0]]),
    ],
)
def test_windows_are_these_rows(windows: Windows, samples: int, rows: list[list[int]]) -> None:
    """Literal rows of the sound 0, 1, 2, ...: hop, lead, and both kinds of tail."""
    got = cut(windows, np.arange(samples, dtype=np.float32))
    np.testing.assert_array_equal(got, rows)


def test_a_sound_shorter_than_a_window_is_refused_where_nothing_fills_it() -> None:
    """tail = drop has no row for it: InputError that says how many samples are needed."""
    with pytest.raises(InputError, match="expected at least 4 samples, got 3"):
        cut(Windows(samples=4, hop=4, lead=0, tail="drop"), np.zeros(3, np.float32))


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A graph that adds its input to what it carries: state += x, y = 2 state, per window of 3 samples."""
    folder = tmp_path_factory.mktemp("counter")
    graph = counter_onnx(folder / "counter.onnx", size=3)
    inputs, outputs = read_all_ports(graph, "onnxruntime", "nearest_even")
    state_input, state_output = carried(inputs), carried(outputs)
    spec = audio_spec(Windows(samples=3, hop=3, lead=0, tail="fill"), shape=tuple(shape_of(inputs, state_input)))
    visible = next(p for p in outputs if p.name != state_output)
    draft = Draft(
        name="counter",
        version="1",
        task="raw",
        license="Apache-2.0",
        source="tests/graphs.py",
        inputs={"audio": spec},
        graphs=(
            GraphSpec(
                name="counter",
                file="counter.onnx",
                data=None,
                runtime="onnxruntime",
                role="model",
                precision="float32",
                inputs=tuple(p.replace(value="x") for p in inputs if p.name != state_input),
                outputs=(visible.replace(value="y"),),
                state=(State(input=state_input, output=state_output, init="zeros"),),
                constants=(),
            ),
        ),
        postprocess=Raw(task="raw", values=("y",)),
        files={"counter.onnx": graph},
        samples=(),
        limits=LIMITS,
        notes=(),
    )
    from packing import host_target

    build(draft, host_target(), folder / "counter.edgekit")
    with load(folder / "counter.edgekit") as predictor:
        yield predictor


def carried(ports: tuple) -> str:
    """The port that holds state, by its name in tests/graphs.py."""
    return next(p.name for p in ports if p.name.startswith("state"))


def shape_of(ports: tuple, state: str) -> tuple[int, ...]:
    return tuple(max(n, 1) for n in next(p for p in ports if p.name != state).shape)


def test_predict_starts_from_the_initial_state(counter: Predictor) -> None:
    """Within one sound the state runs on; the next predict begins at zero again."""
    sound = (np.arange(1, 10, dtype=np.float32), 8000)
    for _ in range(2):
        rows = counter.predict(audio=sound).tensors["y"].reshape(-1, 3)
        np.testing.assert_allclose(rows, 2 * np.cumsum(np.arange(1, 10).reshape(3, 3), axis=0))


@pytest.mark.parametrize("sizes", [(9,), (1,) * 9, (2, 5, 2), (4, 5)])
def test_a_stream_gives_the_rows_of_the_whole(counter: Predictor, sizes: tuple[int, ...]) -> None:
    """However the sound is cut into chunks, the results are predict's, bit for bit; flush starts anew."""
    sound = np.arange(1, 10, dtype=np.float32)
    whole = counter.predict(audio=(sound, 8000)).tensors["y"].reshape(-1, 3)
    with counter.stream() as stream:
        for _ in range(2):
            found, start = [], 0
            for size in sizes:
                found += stream.push(sound[start : start + size])
                start += size
            found += stream.flush()
            np.testing.assert_array_equal([r.tensors["y"].reshape(3) for r in found], whole)


def test_two_streams_do_not_share_state(counter: Predictor) -> None:
    """Each stream owns its state."""
    one, two = counter.stream(), counter.stream()
    first = one.push(np.ones(3, np.float32))[0].tensors["y"]
    one.push(np.ones(3, np.float32))
    np.testing.assert_array_equal(two.push(np.ones(3, np.float32))[0].tensors["y"], first)


def test_what_a_stream_refuses(counter: Predictor, tridigit: Path) -> None:
    """A closed stream, a bundle with several inputs, a spec that needs the whole sound."""
    stream = counter.stream()
    stream.close()
    stream.close()
    with pytest.raises(ClosedError):
        stream.push(np.ones(3, np.float32))
    with load(tridigit) as predictor, pytest.raises(InputError, match="one input"):
        predictor.stream()
    with pytest.raises(ManifestError, match="normalize"):
        audio_spec(Windows(samples=3, hop=3, lead=0, tail="fill"), normalize="peak")
