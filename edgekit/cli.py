"""The command line: parse, call operations, print. Data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from edgekit import __version__
from edgekit.errors import EdgekitError
from edgekit.terminal import ProgressLine, say

Command = Callable[..., Any]


class _Edgekit(click.Group):
    """Maps edgekit's errors to their exit codes; anything else is a defect and says so."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EdgekitError as error:
            _fail(error)
        except BrokenPipeError:
            sys.exit(0)


def _fail(error: EdgekitError) -> NoReturn:
    say(f"error: {error}")
    sys.exit(error.exit_code)


def _print(value: Any, as_json: bool) -> None:
    click.echo(json.dumps(value.to_dict() if hasattr(value, "to_dict") else value) if as_json else str(value))


_target = click.option("--target", metavar="T", help="Kind of device (see `edgekit targets`); default: this machine's.")
_variant = click.option("--variant", metavar="V", help="Variant of the model, e.g. int8; default: the target's order.")
_files = click.option(
    "--files", multiple=True, type=click.Path(path_type=Path), help="Folder with files that the recipe does not hold."
)


def _read_answers(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [answer.partition("=") for answer in given]
    if not all(equals for _, equals, _ in pairs):
        raise click.BadParameter("expected KEY=VALUE")
    return {key: value for key, _, value in pairs}


_answers = click.option(
    "--set",
    "answers",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_read_answers,
    help="Answer what the source does not say (packaging names the keys).",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_inputs = (
    click.option("--image", metavar="FILE", help="Picture: JPEG, PNG, BMP or WebP."),
    click.option("--audio", metavar="FILE", help="Sound: WAV, FLAC, OGG or MP3."),
    click.option("--text", "texts", multiple=True, metavar="S", help="Text; several are candidates."),
)


def _takes_inputs(command: Command) -> Command:
    for option in reversed(_inputs):
        command = option(command)
    return command


def _numbers(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Whole numbers separated by commas."""
    if value is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,5}(,[1-9]\d{0,5})*", value):
        raise click.BadParameter(f"expected numbers from 1 like 1,2,4, got {value!r}")
    return tuple(int(part) for part in value.split(","))


def _duration(ctx: click.Context, option: click.Parameter, value: str | None) -> float | None:
    """Seconds, or a number with s, m or h."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value)
    if match is None:
        raise click.BadParameter(f"expected a time like 90, 30s, 10m or 1h, got {value!r}")
    return float(match[1]) * {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}[match[2]]


def _share(ctx: click.Context, option: click.Parameter, value: str) -> float:
    """A percentage as a share of 1."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", value)
    if match is None:
        raise click.BadParameter(f"expected a percentage like 10%, got {value!r}")
    return float(match[1]) / 100.0


@click.group(cls=_Edgekit, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgekit")
def main() -> None:
    """Package compressed models with their preprocessing, deploy them to edge devices, predict and profile there.

    \b
    edgekit package tridigit -o tridigit.edgekit
    edgekit deploy tridigit.edgekit local:/tmp/device
    edgekit predict tridigit.edgekit --image seven.png --text seven --text two
    edgekit profile tridigit.edgekit
    """


@main.command()
@click.argument("source")
@_target
@_variant
@_files
@_answers
@click.option("--task", metavar="TASK", help="Task of a hub folder, where its config.json does not say it.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Bundle to write; default: NAME.edgekit.")
@_json
def package(
    source: str,
    target: str | None,
    variant: str | None,
    task: str | None,
    files: tuple[Path, ...],
    answers: dict[str, str],
    output: Path | None,
    as_json: bool,
) -> None:
    """Make a bundle of SOURCE: a recipe's name or file, a Hugging Face folder or hf:owner/name, or a .tflite.

    \b
    edgekit package tridigit --target raspberry-pi-5 --variant int8
    edgekit package kws-mlperf --files models/mlperf-kws
    edgekit package yamnet.tflite
    edgekit package ./vit-base-patch16-224 --variant quantized
    edgekit package hf:Xenova/all-MiniLM-L6-v2
    """
    from edgekit.operations import package as operations

    chosen = operations.choose_target(target, say)
    with ProgressLine() as progress:
        packed = operations.package(
            source, chosen, variant, list(files), output, answers=answers, progress=progress, note=say, task=task
        )
    _print(packed, as_json)


@main.command()
@click.argument("bundle")
@_takes_inputs
@_json
def predict(bundle: str, image: str | None, audio: str | None, texts: tuple[str, ...], as_json: bool) -> None:
    """Answer one predict with BUNDLE (a file or a folder), or with an app of a device.

    \b
    edgekit predict tridigit.edgekit --image seven.png --text seven --text two
    edgekit predict kws.edgekit --audio clip.wav --json
    """
    from edgekit.operations import predict as operations

    operations.named_files(image, audio)
    _print(operations.predict(bundle, image=image, audio=audio, texts=texts), as_json)


@main.command()
@click.argument("source")
@click.argument("devices", nargs=-1, required=True)
@click.option("--app", metavar="NAME", help="Name on the device; default: the bundle's.")
@_target
@_variant
@_files
@_answers
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("--restart", metavar="CMD", help="Run this on the device after the switch.")
@click.option("--allow-downgrade", is_flag=True, help="Accept an older version than the one that runs.")
@click.option("--force", is_flag=True, help="Try again a release that failed its check before.")
@click.option(
    "--wheel", "wheels", multiple=True, type=click.Path(path_type=Path), help="Wheel for the layer (vendor builds)."
)
@click.option("--offline", type=click.Path(path_type=Path), help="Folder of wheels instead of the package index.")
@click.option("--unverified", is_flag=True, help="Accept a device that cannot run the golden check.")
@_json
def deploy(source: str, devices: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Put SOURCE (bundle, recipe or folder) on each of DEVICES, check it there, then switch to it.

    \b
    edgekit deploy tridigit.edgekit local:/tmp/device
    edgekit deploy tridigit pi@raspberrypi.local --target raspberry-pi-5
    """
    from edgekit.operations import deploy as operations

    with ProgressLine() as progress:
        outcome = operations.deploy(source, list(devices), progress=progress, note=say, **options)
    _print(outcome, as_json)
    if outcome.exit_code:
        sys.exit(outcome.exit_code)


@main.command()
@click.argument("device")
@click.argument("app", required=False)
@_json
def status(device: str, app: str | None, as_json: bool) -> None:
    """Say what DEVICE runs: each app's release, the one before, and those that failed.

    \b
    edgekit status local:/tmp/device
    """
    from edgekit.operations import deploy as operations

    _print(operations.status(device, app), as_json)


@main.command()
@click.argument("device")
@click.argument("app")
@_json
def rollback(device: str, app: str, as_json: bool) -> None:
    """Switch APP on DEVICE back to the release before.

    \b
    edgekit rollback local:/tmp/device tridigit
    """
    from edgekit.operations import deploy as operations

    _print(operations.rollback(device, app), as_json)


@main.command()
@click.argument("device")
@click.argument("app")
@_json
def remove(device: str, app: str, as_json: bool) -> None:
    """Take APP and its releases off DEVICE.

    \b
    edgekit remove local:/tmp/device tridigit
    """
    from edgekit.operations import deploy as operations

    _print(operations.remove(device, app), as_json)


@main.command()
@click.argument("source")
@click.option("--image", "images", multiple=True, metavar="FILE", help="Measure with this picture (repeatable).")
@click.option("--audio", "audios", multiple=True, metavar="FILE", help="Measure with this sound (repeatable).")
@click.option("--text", "texts", multiple=True, metavar="S", help="Measure with this text (repeatable).")
@click.option("--variant", "variants", multiple=True, metavar="V", help="Variant of a recipe; several in turn.")
@click.option("--threads", callback=_numbers, help="Runtime threads to sweep, e.g. 1,2,4.")
@click.option("--callers", callback=_numbers, help="Numbers of threads that call predict at once.")
@click.option("--batches", callback=_numbers, help="Sizes of predict_batch.")
@click.option("--runs", "min_runs", type=click.IntRange(1), help="At least so many runs [default: 100].")
@click.option("--seconds", "min_s", type=click.FloatRange(0), help="At least so long [default: 10].")
@click.option("--scenario", type=click.Choice(["default", "single-stream"]), help="single-stream: MLPerf's rules.")
@click.option("--pace", "pace_hz", type=click.FloatRange(0, min_open=True), help="Calls per second, instead of all.")
@click.option("--sustained", "sustained_s", callback=_duration, metavar="TIME", help="Follow it so long, e.g. 10m.")
@click.option("--cold-starts", type=click.IntRange(0), help="Fresh processes to start [default: 5].")
@click.option("--no-operators", is_flag=True, help="Leave out the operator table.")
@click.option("--json", "json_file", metavar="FILE", help="Write the report as JSON (- for stdout).")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write one HTML page.")
@click.option("--trace", "trace_file", type=click.Path(path_type=Path), help="Write a Perfetto trace.")
@click.option("--compare", "old", type=click.Path(path_type=Path), help="Report to compare with.")
@click.option("--fail-above", callback=_share, default="10%", help="Gate of --compare [default: 10%].")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the comparison as Markdown.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), help="Write the comparison as JUnit XML.")
def profile(
    source: str,
    images: tuple[str, ...],
    audios: tuple[str, ...],
    texts: tuple[str, ...],
    variants: tuple[str, ...],
    no_operators: bool,
    json_file: str | None,
    html_file: Path | None,
    trace_file: Path | None,
    old: Path | None,
    fail_above: float,
    markdown_file: Path | None,
    junit_file: Path | None,
    **given: Any,
) -> None:
    """Measure SOURCE (bundle, app or recipe) through the predict that an app calls: stages, memory, operators, heat.

    \b
    edgekit profile tridigit.edgekit
    edgekit profile tridigit --variant fp32 --variant int8 --threads 1,2
    edgekit profile app --json new.json --compare old.json --fail-above 10%
    """
    from edgekit.operations import profile as operations

    changes = {key: value for key, value in given.items() if value is not None}
    changes |= {"operators": False} if no_operators else {}
    report = operations.profile(
        source, variants=variants, images=images, audios=audios, texts=texts, changes=changes, note=say
    )
    operations.write_report(report, html_file, trace_file, None if json_file in (None, "-") else Path(str(json_file)))
    click.echo(operations.report_json(report) if json_file == "-" else operations.report_text(report))
    if old is not None:
        found = operations.compare_with(old, report, fail_above)
        say(operations.write_comparison(found, markdown_file, junit_file))
        operations.gate(found)


@main.command()
@click.argument("bundle")
@_json
def check(bundle: str, as_json: bool) -> None:
    """Run the golden samples of BUNDLE here; exit code 9 if one is not reproduced.

    \b
    edgekit check tridigit.edgekit
    """
    from edgekit.operations import package as operations

    report = operations.check(bundle)
    _print(report, as_json)
    if not report.passed:
        sys.exit(9)


@main.command()
@click.argument("source")
@click.option("--target", metavar="T", help="Say what this kind of device can use of it; default: this machine.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1x3x224x224", help="Size of an input with free axes.")
@_json
def inspect(source: str, target: str | None, shapes: tuple[str, ...], as_json: bool) -> None:
    """Show what SOURCE (model file, bundle or folder) contains: sizes, multiply-adds, and how it is compressed.

    \b
    edgekit inspect model.onnx --shape pixel_values=1x3x224x224
    edgekit inspect tridigit.edgekit --target raspberry-pi-5
    """
    from edgekit.operations import inspect as operations

    given = dict(operations.parse_shape(shape) for shape in shapes)
    _print(operations.inspect(source, target=target, shapes=given), as_json)


@main.command()
@click.argument("device", required=False)
@_json
def doctor(device: str | None, as_json: bool) -> None:
    """Say what DEVICE (default: this machine) is, and what stands in the way, with a line to copy for each finding.

    \b
    edgekit doctor pi@raspberrypi.local
    """
    from edgekit.operations import deploy as operations

    _print(operations.doctor(device), as_json)


@main.command()
@_json
def targets(as_json: bool) -> None:
    """List the kinds of device that bundles can be made for."""
    from edgekit.operations import listing as operations

    _print(operations.targets(), as_json)


@main.command()
@_json
def models(as_json: bool) -> None:
    """List the recipes that come with edgekit."""
    from edgekit.operations import listing as operations

    _print(operations.models(), as_json)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    eval "$(edgekit completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(main, {}, "edgekit", "_EDGEKIT_COMPLETE").source())
