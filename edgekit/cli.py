"""The command line: parse, call operations, print. Data on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from edgekit import __version__
from edgekit.cli_devices import deploy, devices, doctor, remove, rollback, status
from edgekit.cli_lists import completion, export, models, targets
from edgekit.cli_options import answers_option as _answers
from edgekit.cli_options import duration as _duration
from edgekit.cli_options import files_option as _files
from edgekit.cli_options import json_option as _json
from edgekit.cli_options import numbers as _numbers
from edgekit.cli_options import offline_option as _offline
from edgekit.cli_options import on_option as _on
from edgekit.cli_options import print_answer as _print
from edgekit.cli_options import runner_option as _runner
from edgekit.cli_options import share as _share
from edgekit.cli_options import takes_inputs as _takes_inputs
from edgekit.cli_options import target_option as _target
from edgekit.cli_options import variant_option as _variant
from edgekit.cli_options import wheels_option as _wheels
from edgekit.errors import EdgekitError
from edgekit.terminal import LiveLine, ProgressLine, say


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


def _optional_share(ctx: click.Context, option: click.Parameter, value: str | None) -> float | None:
    """As _share; None stays None."""
    return None if value is None else _share(ctx, option, value)


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


for _command in (deploy, status, rollback, remove, doctor, devices, targets, models, export, completion):
    main.add_command(_command)


@main.command()
@click.argument("source")
@_target
@_variant
@_files
@_answers
@click.option("--task", metavar="TASK", help="Task of a hub folder, where its config.json does not say it.")
@click.option("--sample", type=click.Path(path_type=Path), metavar="FILE", help="Your own file as a golden sample.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Bundle to write; default: NAME.edgekit.")
@_json
def package(
    source: str,
    target: str | None,
    variant: str | None,
    task: str | None,
    files: tuple[Path, ...],
    answers: dict[str, str],
    sample: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Make a bundle of SOURCE: a recipe's name or file, a Hugging Face folder or hf:owner/name, a .tflite or .onnx.

    \b
    edgekit package tridigit --target raspberry-pi-5 --variant int8
    edgekit package kws-mlperf --files models/mlperf-kws
    edgekit package yamnet.tflite
    edgekit package ./vit-base-patch16-224 --variant quantized
    edgekit package hf:Xenova/all-MiniLM-L6-v2
    edgekit package model.onnx --set license=MIT --sample input.npy
    """
    from edgekit.operations import package as operations

    chosen = operations.choose_target(target, say)
    with ProgressLine() as progress:
        given: dict[str, Any] = {"answers": answers, "task": task, "sample": sample}
        packed = operations.package(source, chosen, variant, list(files), output, progress=progress, note=say, **given)
    _print(packed, as_json)


@main.command()
@click.argument("bundle")
@_on
@_takes_inputs
@_json
def predict(
    bundle: str, device: str | None, image: str | None, audio: str | None, texts: tuple[str, ...], as_json: bool
) -> None:
    """Answer one predict with BUNDLE (a file or a folder), or with an app of this machine or of a device.

    \b
    edgekit predict tridigit.edgekit --image seven.png --text seven --text two
    edgekit predict kws.edgekit --audio clip.wav --json
    edgekit predict tridigit --on pi@raspberrypi.local --image seven.png
    """
    from edgekit.operations import predict as operations

    operations.named_files(image, audio)
    if device is not None:
        from edgekit.operations.remote import predict_there

        click.echo(predict_there(bundle, device, image=image, audio=audio, texts=texts, as_json=as_json))
        return
    _print(operations.predict(bundle, image=image, audio=audio, texts=texts), as_json)


@main.command()
@click.argument("source")
@_on
@click.option("--resume", is_flag=True, help="With --on: follow and fetch what was begun there before.")
@_runner
@_target
@_files
@_answers
@_wheels
@_offline
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
@click.option("--compare", "old", type=click.Path(path_type=Path), help="Report (JSON) or bundle to compare with.")
@click.option("--fail-above", callback=_share, default="10%", help="Gate of --compare [default: 10%].")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the comparison as Markdown.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), help="Write the comparison as JUnit XML.")
def profile(
    source: str,
    device: str | None,
    resume: bool,
    runner: Path | None,
    target: str | None,
    files: tuple[Path, ...],
    answers: dict[str, str],
    wheels: tuple[Path, ...],
    offline: Path | None,
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
    edgekit profile tridigit --on pi@raspberrypi.local --sustained 10m --html heat.html
    edgekit profile tridigit --on adb:SERIAL --runner benchmark_model --threads 1,4
    edgekit profile app --json new.json --compare old.json --fail-above 10%
    """
    from edgekit.operations import profile as operations

    changes = {key: value for key, value in given.items() if value is not None}
    changes |= {"operators": False} if no_operators else {}
    chosen: dict[str, Any] = {"variants": variants, "images": images, "audios": audios, "texts": texts}
    chosen |= {"files": files, "answers": answers, "wheels": wheels, "offline": offline}
    json_path = None if json_file in (None, "-") else Path(str(json_file))
    operations.check_outputs(html_file, trace_file, json_path, markdown_file, junit_file)
    before = None if old is None else operations.read_baseline(old)
    chosen |= {"target": target, "runner": runner, "baseline": before if isinstance(before, Path) else None}

    def measured(resume: bool, changes: dict[str, Any]) -> tuple[Any, Any]:
        with LiveLine() as note:
            return operations.profile(source, device, resume=resume, changes=changes, note=note, **chosen)

    def again() -> Any:
        say("not settled yet: measured again")
        return measured(False, {**changes, "operators": False})[0]

    report, problem = measured(resume, changes)
    click.echo(operations.report_json(report) if json_file == "-" else operations.report_text(report))
    operations.write_report(report, html_file, trace_file, json_path)
    if before is not None:
        found = operations.compare_with(before, report, fail_above, again)
        say(operations.write_comparison(found, markdown_file, junit_file))
        operations.gate(found)
    if problem is not None:
        raise problem


@main.command()
@click.argument("bundle")
@_json
def check(bundle: str, as_json: bool) -> None:
    """Run the golden samples of BUNDLE (or an app of this machine) here; exit code 9 if one is not reproduced.

    \b
    edgekit check tridigit.edgekit
    edgekit check tridigit
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
@click.argument("sources", nargs=-1, required=True)
@click.option("--on", "device", metavar="DEVICE", help="Measure latency and memory there; scores are made here.")
@_target
@_wheels
@_offline
@click.option("--data", type=click.Path(path_type=Path), help="DIR/<label>/files or a CSV; default: golden samples.")
@click.option("--limit", type=click.IntRange(1), help="At most so many samples, evenly spread.")
@click.option("--runs", type=click.IntRange(1), default=100, show_default=True, help="Timed runs of each, at least.")
@click.option("--seconds", type=click.FloatRange(0), default=3.0, show_default=True, help="Time of each, at least.")
@click.option("--no-latency", is_flag=True, help="Leave out latency and memory.")
@click.option("--input-quality", "qualities", callback=_numbers, help="JPEG qualities of pictures to try, e.g. 95,75.")
@click.option("--input-scale", "scales", callback=_numbers, help="Scaled decoding to try: 1,2,4,8.")
@click.option("--max-drop", callback=_optional_share, help="Gate: fail where a model loses more, e.g. 1%.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write one HTML page.")
@_json
def compare(
    sources: tuple[str, ...],
    data: Path | None,
    no_latency: bool,
    qualities: tuple[int, ...] | None,
    scales: tuple[int, ...] | None,
    max_drop: float | None,
    html_file: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Compare SOURCES (bundles, or recipe@variant) with the first: size, latency, memory, accuracy, noise by layer.

    \b
    edgekit compare tridigit@fp32 tridigit@int8 --data digits/ --max-drop 1%
    edgekit compare tridigit@fp32 tridigit@int8 --data digits/ --on pi@raspberrypi.local --html front.html
    edgekit compare tridigit.edgekit --data digits/ --input-quality 95,75,50 --input-scale 1,2,4
    """
    from edgekit.operations import compare as operations

    operations.check_outputs(html_file)
    found = operations.compare(
        sources,
        data=data,
        latency=not no_latency,
        qualities=qualities or (),
        scales=scales or (),
        note=say,
        **given,
    )
    operations.write_page(found, html_file)
    _print(found if as_json else operations.compared_text(found), as_json)
    if max_drop is not None:
        operations.gate(found, max_drop)


@main.command()
@click.argument("source")
@click.argument("methods", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="New folder for the recipe.")
@click.option(
    "--data", multiple=True, type=click.Path(path_type=Path), help="To calibrate and compare on (repeatable)."
)
@click.option("--runs", type=click.IntRange(1), default=100, show_default=True, help="Timed runs of each, at least.")
@click.option("--seconds", type=click.FloatRange(0), default=3.0, show_default=True, help="Time of each, at least.")
@click.option("--no-latency", is_flag=True, help="Leave out latency and memory.")
@_json
def compress(source: str, methods: tuple[str, ...], no_latency: bool, as_json: bool, **given: Any) -> None:
    """Put the graphs of SOURCE (recipe or recipe@variant) through METHODS in order, and compare the result.

    \b
    Methods: fp16, int8-dynamic, int8-static, int4 (ONNX, and one of them on TFLite);
    of ONNX also prune:SHARE, prune-channels:SHARE, mask-channels:SHARE, low-rank:ENERGY, cluster:VALUES
    edgekit compress tridigit int8-static --data digits/ --data recordings/ -o tridigit-int8
    edgekit compress tridigit@tflite-fp32 int8-static --data digits/ --data recordings/ -o tridigit-tflite-int8
    edgekit compress tridigit prune:0.5 cluster:16 -o tridigit-small
    """
    from edgekit.operations import compare
    from edgekit.operations import compress as operations

    found = operations.compress(source, methods, latency=not no_latency, note=say, **given)
    _print(found if as_json else compare.compared_text(found), as_json)


@main.command()
@click.argument("source")
@click.option("--target", metavar="T", help="Kind of device (see `edgekit targets`); default: this machine's.")
@click.option("--data", type=click.Path(path_type=Path), help="Also compare the variants on it (see `compare`).")
@click.option("--measure", is_flag=True, help="Measure latency here, where the target is this machine.")
@_json
def advise(source: str, target: str | None, data: Path | None, measure: bool, as_json: bool) -> None:
    """Say which variant of SOURCE (recipe or folder of models) fits a target best, and on what grounds.

    \b
    edgekit advise tridigit --target raspberry-pi-5
    edgekit advise tridigit --measure
    """
    from edgekit.operations import advise as operations

    _print(operations.advise(source, target=target, data=data, measure=measure, note=say), as_json)
