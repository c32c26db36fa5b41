"""D4: bundles that are sound to the last hash and wrong on the device: the real check stops each, the old one stays."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from deploying import copy_device, memory_folder, what_runs
from graphs import info, node
from packing import SEVEN_PNG, TRIDIGIT, pack

from edgekit.bundle import open_bundle, write_bundle
from edgekit.cli import main
from edgekit.manifest import parse_manifest
from edgekit.operations import deploy as operations
from edgekit.operations import devices as checking
from edgekit.records import dump_canonical

Files = dict[str, bytes]
Change = Callable[[Any, Files], None]

HANG_LIMIT_S = 4.0
MEMORY_LIMIT_BYTES, MEMORY_NEED_BYTES = 2 << 30, 3 << 29
BEYOND_ANY_MACHINE = 1 << 26  # floats of a square with this side: 2^54 bytes, more than 47 bits can address


def edited(change: Callable[[Any], None]) -> Change:
    """The text graph after `change` to its GraphProto or ModelProto."""

    def apply(_: Any, files: Files) -> None:
        onnx = pytest.importorskip("onnx")
        model = onnx.load_from_string(files["text.onnx"])
        change(model)
        files["text.onnx"] = model.SerializeToString()

    return apply


def ending_in(*nodes: Any, **weights: np.ndarray) -> Change:
    """The text graph with these nodes between `honest`, its own output, and `text_embeds`."""

    def append(model: Any) -> None:
        onnx = pytest.importorskip("onnx")
        model.graph.node[-1].output[0] = "honest"
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in weights.items())

    return edited(append)


def filled(sides: list[int]) -> Change:
    """The text graph that also fills a tensor of these sides (times the batch) and adds what is left of it."""
    return ending_in(
        node("Shape", ["honest"], ["batch"], start=0, end=1),
        node("Mul", ["batch", "sides"], ["shape"]),
        node("ConstantOfShape", ["shape"], ["huge"]),
        node("ReduceMax", ["huge"], ["most"], keepdims=0),
        node("Add", ["honest", "most"], ["text_embeds"]),
        sides=np.array(sides, np.int64),
    )


def endless() -> Change:
    """The text graph with a loop of 2^62 rounds."""
    onnx = pytest.importorskip("onnx")
    body = onnx.helper.make_graph(
        [node("Identity", ["more"], ["again"]), node("Sin", ["value"], ["next"])],
        "body",
        [info("round", [], "INT64"), info("more", [], "BOOL"), info("value", ["rows", 64])],
        [info("again", [], "BOOL"), info("next", ["rows", 64])],
    )
    loop = node("Loop", ["rounds", "", "honest"], ["text_embeds"], body=body)
    return ending_in(loop, rounds=np.array(1 << 62, np.int64))


def scale_weights(model: Any) -> None:
    """Every weight of the last layer is 1 % larger: no name, shape or type tells."""
    onnx = pytest.importorskip("onnx")
    last = next(w for w in model.graph.initializer if w.name == "projection.weight")
    last.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(last) * np.float32(1.01), last.name))


def unknown_op(model: Any) -> None:
    model.graph.node[-2].op_type = "Teleport"


def future_opset(model: Any) -> None:
    model.opset_import[0].version = 99


def other_input_name(model: Any) -> None:
    model.graph.input[0].name = model.graph.node[0].input[1] = "tokens"


def file_is(name: str, data: Callable[[bytes], bytes]) -> Change:
    def apply(_: Any, files: Files) -> None:
        files[name] = data(files[name])

    return apply


def text_says(old: bytes, new: bytes) -> Change:
    """The manifest with one text for another."""

    def apply(document: Any, _: Files) -> None:
        before = dump_canonical(document)
        assert old in before
        document.clear()
        document.update(json.loads(before.replace(old, new)))

    return apply


ALPHABET = b'"abcdefghijklmnopqrstuvwxyz0123456789 "'
SABOTAGE: dict[str, Callable[[], Change]] = {
    "altered weights": lambda: edited(scale_weights),
    "an op the runtime lacks": lambda: edited(unknown_op),
    "an opset the runtime lacks": lambda: edited(future_opset),
    "NaN": lambda: ending_in(node("Mul", ["honest", "nan"], ["text_embeds"]), nan=np.array(np.nan, np.float32)),
    "another input name": lambda: edited(other_input_name),
    "another output shape": lambda: ending_in(
        node("Gather", ["honest", "half"], ["text_embeds"], axis=1), half=np.arange(32)
    ),
    "another runtime's graph": lambda: file_is("text.onnx", lambda _: (TRIDIGIT / "weights/text.tflite").read_bytes()),
    "half a graph": lambda: file_is("image.onnx", lambda data: data[: len(data) // 2]),
    "an empty graph": lambda: file_is("audio.onnx", lambda _: b""),
    "more memory than there is": lambda: filled([BEYOND_ANY_MACHINE, BEYOND_ANY_MACHINE]),
    "a wrong result": lambda: text_says(b'"label":"seven"', b'"label":"eight"'),
    "another vocabulary": lambda: text_says(ALPHABET, b'"' + ALPHABET[-2:0:-1] + b'"'),
    "another preprocessing": lambda: text_says(b'"mean":[0.1307]', b'"mean":[0.5]'),
    "a corrupted golden tensor": lambda: file_is("golden/text.1.bin", lambda data: data[128:] + data[:128]),
}


@pytest.fixture(scope="module")
def tally() -> Iterator[dict[str, Attempts]]:
    """The first and second deployment of each case."""
    found: dict[str, Attempts] = {}
    yield found
    print(f"\n{len(found)} of {len(found)} sabotaged bundles rolled back")
    for name, (first, again) in found.items():
        print(
            f"  {name}: {first.since_check_s:.1f} s after the check began, {first.seconds:.1f} s in all, "
            f"the second time {again.seconds:.1f} s"
        )


@pytest.fixture(scope="module")
def good_device(tridigit: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A device that runs tridigit 1.0, checked there."""
    folder = memory_folder(tmp_path_factory.mktemp("sabotage"))
    attempt(tridigit, folder / "good")
    yield folder / "good"
    shutil.rmtree(folder)


@pytest.fixture
def device(good_device: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it."""
    copy = copy_device(good_device, good_device.with_name("copy"))
    monkeypatch.setenv("EDGEKIT_ROOT", str(copy))
    yield copy
    shutil.rmtree(copy)


class Attempt:
    """One deployment as a person asks for it: how it ended, and when it reached each step."""

    def __init__(self, bundle: Path, root: Path, **options: Any) -> None:
        self.at: dict[str, float] = {}
        self.said: list[str] = []
        begun = time.monotonic()

        def progress(what: str, done: int, total: int) -> None:
            self.at.setdefault(what.rpartition(": ")[2], time.monotonic())

        settings: dict[str, Any] = {
            "app": None,
            "target": None,
            "variant": None,
            "files": (),
            "answers": {},
            "wheels": (),
            "offline": None,
            "dry_run": False,
            "restart": None,
            "allow_downgrade": False,
            "force": False,
            "unverified": False,
        }
        (self.outcome,) = operations.deploy(
            str(bundle), [f"local:{root}"], **{**settings, **options}, progress=progress, note=self.said.append
        ).devices
        self.ended = time.monotonic()
        self.seconds = self.ended - begun

    @property
    def since_check_s(self) -> float:
        """From the moment the check began to the answer."""
        return self.ended - self.at["check"]


Attempts = tuple[Attempt, Attempt]


def attempt(bundle: Path, root: Path, **options: Any) -> Attempt:
    tried = Attempt(bundle, root, **options)
    assert tried.outcome.error is None, tried.outcome.error
    return tried


def sabotaged(good: Path, output: Path, change: Change) -> Path:
    """Version 1.1 of a bundle after `change`, hashed again: a sound container."""
    with open_bundle(good) as opened:
        folder = Path(opened.path)
        document = json.loads((folder / "manifest.json").read_bytes())
        files = {name: (folder / name).read_bytes() for name in document["files"]}
    document["version"] = "1.1"
    change(document, files)
    document["files"] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()
    }
    write_bundle(output, parse_manifest(dump_canonical(document)), lambda name: io.BytesIO(files[name]))
    return output


def run(*words: object) -> Any:
    result = CliRunner().invoke(main, [str(w) for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def app_status(root: Path) -> Any:
    (app,) = json.loads(run("status", f"local:{root}", "--json").stdout)["apps"]
    return app


def assert_answers(root: Path, good: str) -> None:
    """The release `good` is current, whole to the last byte, and answers."""
    current = app_status(root)
    assert (current["current"], current["problem"], current["version"]) == (good, None, "1.0")
    assert current["releases"] == [good]
    assert what_runs(root, "tridigit") is not None
    answer = run("predict", "tridigit", "--image", SEVEN_PNG, "--text", "seven", "--text", "two", "--json")
    assert json.loads(answer.stdout)["label"] == "seven"


def assert_rolled_back(bundle: Path, root: Path) -> Attempts:
    """Exit 8, the old release answers; remembered and refused before a byte; tried again by --force alone."""
    good = app_status(root)["current"]
    first = Attempt(bundle, root)
    assert first.outcome.exit_code == 8, first.outcome.error
    assert f"the device runs release {good[:12]}" in (first.outcome.error or "")
    assert_answers(root, good)
    (bad,) = app_status(root)["bad"]
    assert bad != good
    assert f"release {bad[:12]} of tridigit failed: the check on the device" in (first.outcome.error or "")
    again = Attempt(bundle, root)
    assert again.outcome.exit_code == 8
    assert f"release {bad[:12]} of tridigit failed its check on this device before" in (again.outcome.error or "")
    assert list(again.at) == ["probe"]
    forced = run("deploy", bundle, f"local:{root}", "--force")
    assert forced.exit_code == 8
    assert "failed: the check on the device" in forced.stdout + forced.stderr
    assert_answers(root, good)
    assert app_status(root)["bad"] == [bad]
    return first, again


@pytest.mark.parametrize("case", SABOTAGE)
def test_a_sabotaged_bundle_is_rolled_back(
    case: str, tridigit: Path, device: Path, tmp_path: Path, tally: dict[str, Attempts]
) -> None:
    first, again = assert_rolled_back(sabotaged(tridigit, tmp_path / "bad.edgekit", SABOTAGE[case]()), device)
    tally[case] = first, again


def test_a_check_that_never_ends_is_given_up(
    tridigit: Path,
    device: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tally: dict[str, Attempts],
) -> None:
    """Killed on the device at its deadline, and nothing of it goes on there."""
    for module in (operations, checking):
        monkeypatch.setattr(module, "CHECK_S", HANG_LIMIT_S)
    first, again = assert_rolled_back(sabotaged(tridigit, tmp_path / "bad.edgekit", endless()), device)
    assert "did not end in time" in (first.outcome.error or "")
    assert [words for words in processes() if "check" in words and str(device) in words] == []
    tally["hang"] = first, again


def test_a_release_that_needs_more_memory_than_the_device_gives(
    tridigit: Path,
    good_device: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tally: dict[str, Attempts],
) -> None:
    """The device's interpreter runs under a limit that is enough for the release before."""
    limited = tmp_path / "python"
    limited.write_text(f'#!/bin/sh\nulimit -v {MEMORY_LIMIT_BYTES >> 10}\nexec {sys.executable} "$@"\n')
    limited.chmod(0o755)
    root = good_device.with_name("limited")
    monkeypatch.setenv("EDGEKIT_ROOT", str(root))
    monkeypatch.setattr(sys, "executable", str(limited))
    attempt(tridigit, root)
    bad = sabotaged(tridigit, tmp_path / "bad.edgekit", filled([MEMORY_NEED_BYTES // 4]))
    first, again = assert_rolled_back(bad, root)
    assert "alloc" in (first.outcome.error or "").lower()
    tally["out of memory under a limit"] = first, again


def test_a_bundle_that_is_not_its_hashes_is_refused_here(tridigit: Path, device: Path, tmp_path: Path) -> None:
    """Altered weights that nobody hashed again do not leave this machine."""
    data = tridigit.read_bytes()
    bad = tmp_path / "bad.edgekit"
    bad.write_bytes(data[:-5000] + bytes([data[-5000] ^ 1]) + data[-4999:])
    good, before = app_status(device)["current"], tree(device)
    refused = Attempt(bad, device)
    assert (refused.outcome.exit_code, list(refused.at)) == (3, [])
    assert tree(device) == before
    assert_answers(device, good)
    assert app_status(device)["bad"] == []


@pytest.mark.parametrize(
    ("target", "variant", "need"),
    [
        ("raspberry-pi-3-32", "tflite-int8", "needs armv7l"),
        ("raspberry-pi-5", "fp32", "needs aarch64"),
        ("android-arm64", "tflite-int8", "needs arm64-v8a"),
        ("android-arm64", "fp32", "needs onnxruntime; android-arm64 has litert"),
    ],
)
def test_another_architecture_is_refused_before_the_first_byte(
    device: Path, tmp_path: Path, target: str, variant: str, need: str
) -> None:
    """Exit 6 with need and have; nothing on the device changed, nothing is remembered."""
    bundle = tmp_path / "t.edgekit"
    pack(TRIDIGIT / "recipe.toml", bundle, variant)
    good, before = app_status(device)["current"], tree(device)
    refused = run("deploy", bundle, f"local:{device}", "--target", target)
    assert refused.exit_code == 6
    assert need in refused.stdout + refused.stderr
    assert tree(device) == before
    assert_answers(device, good)
    assert app_status(device)["bad"] == []


def processes() -> list[str]:
    """The command lines of this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


def tree(root: Path) -> dict[str, int]:
    """Every path below a device's root, with the time it was last changed."""
    return {str(p.relative_to(root)): p.lstat().st_mtime_ns for p in root.rglob("*")}
