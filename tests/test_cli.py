"""The command line: what a person sees when something is wrong, with the exact exit code; data on stdout only."""

from __future__ import annotations

import json
import os
import shlex
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from graphs import affine_onnx
from packing import ROOT, SEVEN_PNG, SEVEN_WAV, TRIDIGIT, changed_recipe

from edgekit.bundle import open_bundle
from edgekit.cli import main
from edgekit.errors import InputError
from edgekit.manifest import MANIFEST_NAME
from edgekit.predictor import load

Edit = Callable[[bytes], bytes]


def run(*arguments: object) -> Result:
    """One command in this process; a traceback is a failure of the test."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def unpacked(bundle: Path, folder: Path) -> Path:
    """A bundle as a folder that a test may change."""
    folder.mkdir(parents=True)
    with open_bundle(bundle) as opened:
        for name in (MANIFEST_NAME, *opened.manifest.files):
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes((Path(opened.path) / name).read_bytes())
    return folder


def png_of(width: int, height: int) -> bytes:
    """A PNG that says these sides and holds almost nothing."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0")))
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


BAD_INPUTS: dict[str, tuple[str, bytes, str]] = {
    "50,000 x 50,000 pixels": ("--image", png_of(50_000, 50_000), "pixels"),
    "text named .jpg": ("--image", b"This is not a picture.\n", "picture"),
    "zero bytes": ("--image", b"", "empty"),
    "truncated picture": ("--image", SEVEN_PNG.read_bytes()[:150], ""),
    "WAV with a lying header": ("--audio", SEVEN_WAV.read_bytes()[:40] + b"\xf0\xff\xff\x7f" + b"\0" * 64, ""),
    "empty recording": ("--audio", SEVEN_WAV.read_bytes()[:40] + b"\0\0\0\0", "empty"),
    "text named .wav": ("--audio", b"not a sound at all, only words", ""),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_inputs_exit_with_4(case: str, tridigit: Path, tmp_path: Path) -> None:
    """Each hostile or broken input is an InputError: exit 4, a message, nothing on stdout."""
    option, data, word = BAD_INPUTS[case]
    path = tmp_path / ("x.jpg" if option == "--image" else "x.wav")
    path.write_bytes(data)
    result = run("predict", tridigit, option, path, "--text", "seven", "--text", "two")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith("error: ")
    assert word in result.stderr.lower()


def test_what_is_not_there(tridigit: Path, tmp_path: Path) -> None:
    """A missing bundle is 3, a missing input 4, an unknown target or recipe 4, wrong usage 2."""
    assert run("predict", tmp_path / "none.edgekit", "--text", "x").exit_code == 3
    assert run("predict", tridigit, "--image", tmp_path / "none.png").exit_code == 4
    assert run("package", "no-such-model").exit_code == 4
    wrong = run("package", "tridigit", "--target", "raspberry-pi-9")
    assert wrong.exit_code == 4
    assert "raspberry-pi-5" in wrong.stderr
    assert run("package").exit_code == 2
    assert run("deploy", tridigit, "nowhere").exit_code == 4
    assert run("predict", tridigit).exit_code == 4


BAD_BUNDLES: dict[str, Edit] = {
    "truncated": lambda data: data[: len(data) // 2],
    "one bit changed": lambda data: data[:-2000] + bytes([data[-2000] ^ 1]) + data[-1999:],
    "something appended": lambda data: data + b"x",
    "foreign zip": lambda data: b"PK\x03\x04" + b"\0" * 100,
    "empty": lambda data: b"",
    "doubled key": lambda data: data.replace(b'{"files"', b'{"format":1,"files"', 1),
    "unknown version": lambda data: data.replace(b'"format":1', b'"format":9', 1),
}


@pytest.mark.parametrize("case", BAD_BUNDLES)
def test_bad_bundles_exit_with_3(case: str, tridigit: Path, tmp_path: Path) -> None:
    """A truncated, altered or foreign bundle is refused before anything is loaded: exit 3."""
    path = tmp_path / "bad.edgekit"
    path.write_bytes(BAD_BUNDLES[case](tridigit.read_bytes()))
    for verb in ("inspect", "check"):
        result = run(verb, path)
        assert (result.exit_code, result.stdout) == (3, "")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        (b'"colour":"grey",', b"", "inputs.image.colour"),
        (b'"colour":"grey"', b'"colour":"grey","hue":1', "inputs.image.hue"),
        (b'"license":', b'"license":"x","license":', "license"),
        (b'"scale":0.00392156862745098', b'"scale":NaN', "NaN"),
    ],
)
def test_a_wrong_manifest_names_the_key(old: bytes, new: bytes, key: str, tridigit: Path, tmp_path: Path) -> None:
    """Missing, unknown and doubled keys: exit 3, the key in the message."""
    folder = unpacked(tridigit, tmp_path / "bundle")
    manifest = (folder / MANIFEST_NAME).read_bytes()
    assert old in manifest
    (folder / MANIFEST_NAME).write_bytes(manifest.replace(old, new, 1))
    result = run("inspect", folder)
    assert result.exit_code == 3
    assert key in result.stderr


def test_a_graph_that_is_not_the_manifests_exits_with_5(tmp_path: Path) -> None:
    """Another graph under the right name, hashed right: its tensors differ from the ports: exit 5."""
    import hashlib

    from packing import pack

    bundle = tmp_path / "t.edgekit"
    pack(TRIDIGIT / "recipe.toml", bundle, "fp32")
    folder = unpacked(bundle, tmp_path / "bundle")
    old = (folder / "text.onnx").read_bytes()
    affine_onnx(folder / "text.onnx")
    new = (folder / "text.onnx").read_bytes()
    manifest = (folder / MANIFEST_NAME).read_bytes()
    for before, after in ((old, new),):
        manifest = manifest.replace(
            hashlib.sha256(before).hexdigest().encode(), hashlib.sha256(after).hexdigest().encode()
        )
        manifest = manifest.replace(b'"size":%d' % len(before), b'"size":%d' % len(after))
    (folder / MANIFEST_NAME).write_bytes(manifest)
    result = run("check", folder)
    assert result.exit_code == 5
    assert "input_ids" in result.stderr


def test_an_op_that_the_runtime_lacks_exits_with_5(shared: Path, tmp_path: Path) -> None:
    """shared/models/negative: a custom op, and quantisation that the runtime refuses."""
    for name in ("model_invoking_error.tflite", "person_detect.tflite"):
        result = run("package", shared / "models/negative" / name, "-o", tmp_path / "x.edgekit")
        assert result.exit_code == 5
        assert name in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_model_file_alone_is_packaged_as_arrays(tmp_path: Path) -> None:
    """An .onnx without anything beside it: arrays in and out under its tensors' names; the licence is asked for."""
    model = affine_onnx(tmp_path / "Affine Model.onnx")
    asked = run("package", model, "-o", tmp_path / "m.edgekit")
    assert asked.exit_code == 4
    assert "--set license=" in asked.stderr
    packed = run("package", model, "--set", "license=MIT", "-o", tmp_path / "m.edgekit", "--json")
    assert json.loads(packed.stdout)["name"] == "affine-model"
    with load(tmp_path / "m.edgekit") as predictor:
        given = np.array([[1.0, 2.0, 3.0, -4.0]], np.float32)
        result = predictor.predict(x=given)
        np.testing.assert_array_equal(result.tensors["y"], [[2.0, 5.0, 8.0, -5.0]])
        for wrong in ([[1, 2], [3]], given.astype(np.float64), given[0], "x"):
            with pytest.raises(InputError, match=r"'x': expected float32 of shape \[-1, 4\]"):
                predictor.predict(x=wrong)
    assert run("check", tmp_path / "m.edgekit").exit_code == 0


def test_a_sample_of_ones_own(tmp_path: Path, shared: Path) -> None:
    """--sample FILE: the file is the golden sample in the place of the drawn one; what fits no input is refused."""
    kws = ("package", "kws-mlperf", "--files", shared / "models/mlperf-kws", "-o", tmp_path / "k.edgekit")
    assert run(*kws, "--sample", SEVEN_WAV).exit_code == 0
    with open_bundle(tmp_path / "k.edgekit") as opened:
        (sample,) = opened.manifest.golden
        assert (sample.name, sample.truth) == ("given", "self")
        name = sample.inputs[0]["audio"]["file"]
        assert opened.read(name, 1 << 20) == SEVEN_WAV.read_bytes()
        assert not any("generated" in file or file == "golden/audio.wav" for file in opened.manifest.files)
    for wrong in (SEVEN_PNG, tmp_path / "none.wav", tmp_path / "k.edgekit"):
        assert run(*kws, "--sample", wrong).exit_code == 4
    both = run("package", "tridigit", "--sample", SEVEN_PNG, "-o", tmp_path / "t.edgekit", "--json")
    assert (json.loads(both.stdout)["golden"], json.loads(both.stdout)["truth"]) == (4, "external and self")


def test_what_package_would_not_use_is_refused(tridigit: Path, tmp_path: Path) -> None:
    """An answer that nobody asked for, a folder that is not there, a bundle: not passed over in silence."""
    idle = run("package", "tridigit", "--set", "mean=1", "-o", tmp_path / "t.edgekit")
    assert idle.exit_code == 4
    assert "mean" in idle.stderr
    assert run("package", "tridigit", "--task", "x", "-o", tmp_path / "t.edgekit").exit_code == 4
    assert run("package", "tridigit", "--files", tmp_path / "none").exit_code == 2
    again = run("package", tridigit, "-o", tmp_path / "t.edgekit")
    assert again.exit_code == 4
    assert "edgekit deploy" in again.stderr
    assert not (tmp_path / "t.edgekit").exists()


def test_a_device_node_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    """`-o /dev/null` as root would otherwise take /dev/null away from the whole machine: exit 3, it stays."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    for path in (pipe, link, tmp_path):
        refused = run("package", "tridigit", "-o", path)
        assert refused.exit_code == 3
        assert "hint: give a file's name" in refused.stderr
    assert pipe.is_fifo()
    assert link.is_symlink()
    nowhere = run("package", "tridigit", "-o", tmp_path / "none" / "t.edgekit")
    assert nowhere.exit_code == 3
    assert "make its folder first" in nowhere.stderr


def test_profile_refuses_what_it_could_not_write_before_it_measures(tridigit: Path, tmp_path: Path) -> None:
    """Ten minutes of measuring are not lost to a folder that is not there, nor to a report that is none."""
    (tmp_path / "text.json").write_text("no report")
    for option in ("--json", "--html", "--trace", "--markdown", "--junit"):
        refused = run("profile", tridigit, option, tmp_path / "none" / "file")
        assert refused.exit_code == 4
        assert refused.stderr.startswith("error: cannot write")
    for name in ("none.json", "text.json"):
        refused = run("profile", tridigit, "--compare", tmp_path / name)
        assert refused.exit_code == 4
        assert "load predict" not in refused.stderr
    page = run("compare", tridigit, tridigit, "--html", tmp_path / "none" / "file")
    assert page.exit_code == 4
    assert page.stderr.startswith("error: cannot write")


def test_an_app_that_is_not_there_and_one_that_need_not_be_named(
    tridigit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status D APP` of no app is exit 8, not silence; rollback and remove take the only app; check takes an app."""
    device = f"local:{tmp_path / 'device'}"
    monkeypatch.setenv("EDGEKIT_ROOT", str(tmp_path / "device"))
    nothing = run("remove", device)
    assert nothing.exit_code == 8
    assert "no apps" in nothing.stderr
    assert run("deploy", tridigit, device).exit_code == 0
    missing = run("status", device, "none")
    assert (missing.exit_code, missing.stdout) == (8, "")
    assert "it has tridigit" in missing.stderr
    assert json.loads(run("check", "tridigit", "--json").stdout)["passed"] is True
    assert run("check", "none").exit_code == 3
    assert run("deploy", "tridigit", device, "--variant", "int8").exit_code == 0
    assert json.loads(run("rollback", device, "--json").stdout)["app"] == "tridigit"
    assert run("deploy", tridigit, device, "--app", "other").exit_code == 0
    unclear = run("remove", device)
    assert unclear.exit_code == 8
    assert "other, tridigit" in unclear.stderr
    assert run("remove", device, "other").exit_code == 0
    assert run("remove", device).exit_code == 0


def test_a_missing_runtime_names_the_install_line(tridigit: Path) -> None:
    """Without onnxruntime: exit 5, and the line that installs it."""
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from edgekit.cli import main\nmain(['predict', sys.argv[1], '--text', 'seven'])"
    )
    command = [sys.executable, "-c", program, str(tridigit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_answer_is_asked_for_by_key(shared: Path, tmp_path: Path) -> None:
    """A .tflite whose metadata leaves things open: every key is named; with the answers it packages."""
    model = shared / "models/coral/mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
    asked = run("package", model, "-o", tmp_path / "m.edgekit")
    assert asked.exit_code == 4
    keys = [line.split("--set ")[1].split("=")[0] for line in asked.stderr.splitlines() if "--set " in line]
    assert {"resize", "filter"} <= set(keys)
    values = {"resize": "stretch", "filter": "bilinear", "input": "image", "mean": "128,128,128", "std": "128,128,128"}
    answers = [word for key in keys for word in ("--set", f"{key}={values.get(key, 'Apache-2.0')}")]
    assert run("package", model, *answers, "-o", tmp_path / "m.edgekit").exit_code == 0
    assert run("package", model, *answers, "--set", "colour=red", "-o", tmp_path / "n.edgekit").exit_code == 4
    assert run("package", model, "--set", "colour").exit_code == 2


def test_a_failed_golden_check_keeps_the_previous_release(tridigit: Path, tmp_path: Path) -> None:
    """A release that does not give its golden answers on the device never becomes current: exit 8."""
    device = tmp_path / "device"
    assert run("deploy", tridigit, f"local:{device}").exit_code == 0
    before = json.loads(run("status", f"local:{device}", "--json").stdout)["apps"][0]["current"]
    folder = unpacked(tridigit, tmp_path / "bundle")
    manifest = (folder / MANIFEST_NAME).read_bytes()
    assert b'"label":"seven"' in manifest
    (folder / MANIFEST_NAME).write_bytes(manifest.replace(b'"label":"seven"', b'"label":"eight"'))
    assert run("check", folder).exit_code == 9
    failed = run("deploy", folder, f"local:{device}")
    assert failed.exit_code == 8
    after = json.loads(run("status", f"local:{device}", "--json").stdout)["apps"][0]
    assert after["current"] == before
    assert len(after["bad"]) == 1
    again = run("deploy", folder, f"local:{device}")
    assert again.exit_code == 8
    assert "--force" in again.stdout + again.stderr


def test_two_deployments_at_once(tridigit: Path, tmp_path: Path) -> None:
    """One wins or both in turn; the other says who is at work (exit 8); the device runs a whole release."""
    device = tmp_path / "device"
    command = [sys.executable, "-m", "edgekit", "deploy", str(tridigit), f"local:{device}"]
    codes: list[int] = []

    def deploy() -> None:
        codes.append(subprocess.run(command, capture_output=True, check=False, env=os.environ).returncode)

    threads = [threading.Thread(target=deploy) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) <= {0, 8}
    assert 0 in codes
    assert run("status", f"local:{device}").exit_code == 0
    app = json.loads(run("status", f"local:{device}", "--json").stdout)["apps"][0]
    assert app["problem"] is None
    assert app["current"] is not None


def test_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """package, deploy, status, predict by app name, another variant, rollback, remove; JSON is JSON."""
    device = tmp_path / "device"
    monkeypatch.setenv("EDGEKIT_ROOT", str(device))
    packed = json.loads(run("package", "tridigit", "-o", tmp_path / "t.edgekit", "--json").stdout)
    assert packed["truth"] == "external"
    plan = run("deploy", tmp_path / "t.edgekit", f"local:{device}", "--dry-run")
    assert plan.exit_code == 0
    assert not (device / "apps").exists()
    assert run("deploy", tmp_path / "t.edgekit", f"local:{device}").exit_code == 0
    answer = run("predict", "tridigit", "--image", SEVEN_PNG, "--text", "seven", "--text", "two", "--json")
    assert json.loads(answer.stdout)["label"] == "seven"
    assert run("deploy", "tridigit", f"local:{device}", "--variant", "int8").exit_code == 0
    state = json.loads(run("status", f"local:{device}", "--json").stdout)["apps"][0]
    rolled = json.loads(run("rollback", f"local:{device}", "tridigit", "--json").stdout)
    assert (rolled["release"], rolled["previous"]) == (state["previous"], state["current"])
    assert run("predict", "tridigit", "--audio", SEVEN_WAV).exit_code == 0
    assert run("remove", f"local:{device}", "tridigit").exit_code == 0
    assert run("predict", "tridigit", "--text", "7").exit_code == 3


def test_a_recipe_with_a_mistake_exits_with_9(tmp_path: Path) -> None:
    """P3 from the command line: exit 9, the value and the difference in the message, no file."""
    recipe = changed_recipe(tmp_path, lambda text: text.replace("mean = [0.1307]", "mean = [0.5]", 1))
    result = run("package", recipe, "-o", tmp_path / "t.edgekit")
    assert result.exit_code == 9
    assert "pixel_values" in result.stderr
    assert not (tmp_path / "t.edgekit").exists()


def test_help_shows_examples() -> None:
    """Every verb has a help text; those that take something show an example."""
    listed = run("--help")
    assert listed.exit_code == 0
    for name, command in main.commands.items():
        text = run(name, "--help").stdout
        assert command.help
        if command.params and name not in ("targets", "models"):
            assert "edgekit" in text.split("Usage:")[1]
    assert run("completion", "bash").stdout.startswith("_edgekit_completion")
    assert "raspberry-pi-5" in run("targets").stdout
    assert "tridigit" in json.loads(run("models", "--json").stdout)


def documented() -> list[list[str]]:
    """Every command line that the README and the help texts show, as words after `edgekit`."""
    texts = [(ROOT / "README.md").read_text("utf-8")]
    waiting: list[click.Command] = [main]
    while waiting:
        command = waiting.pop()
        texts.append(command.help or "")
        waiting += command.commands.values() if isinstance(command, click.Group) else ()
    lines = [line.strip().removeprefix("$ ") for text in texts for line in text.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("edgekit ")]


def test_every_command_line_that_is_shown_is_one_that_is_understood() -> None:
    """README and help: each verb exists, each option too, and the arguments are as many as it takes."""
    lines = documented()
    assert len(lines) > 40
    for words in lines:
        command: click.Command = main
        while isinstance(command, click.Group) and words:
            assert words[0] in command.commands, words
            command, words = command.commands[words[0]], words[1:]
        given, left, _ = command.make_parser(click.Context(command)).parse_args(list(words))
        assert left == [], (command.name, words)
        missing = [p.name for p in command.params if isinstance(p, click.Argument) and p.required and not given[p.name]]
        assert missing == [], (command.name, words)
