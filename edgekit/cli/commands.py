"""The command line: parse, call operations, print. Data on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from edgekit import __version__
from edgekit.cli.devices import deploy, devices, doctor, remove, rollback, status
from edgekit.cli.lists import completion, export, models, targets
from edgekit.cli.options import answers_option as _answers
from edgekit.cli.options import files_option as _files
from edgekit.cli.options import json_option as _json
from edgekit.cli.options import numbers as _numbers
from edgekit.cli.options import offline_option as _offline
from edgekit.cli.options import on_option as _on
from edgekit.cli.options import print_answer as _print
from edgekit.cli.options import share as _share
from edgekit.cli.options import takes_inputs as _takes_inputs
from edgekit.cli.options import target_option as _target
from edgekit.cli.options import variant_option as _variant
from edgekit.cli.options import wheels_option as _wheels
from edgekit.cli.profile import profile
from edgekit.cli.terminal import ProgressLine, say
from edgekit.errors import EdgekitError


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


for _command in (deploy, status, rollback, remove, doctor, devices, profile, targets, models, export, completion):
    main.add_command(_command)


@main.command()
@click.argument("source")
@_target
@_variant
@_files
@_answers
@click.option("--task", metavar="TASK", help="Task of a hub folder, where its config.json does not say it.")
@click.option("--sample", type=click.Path(path_type=Path), metavar="FILE", help="Your own file as a golden sample.")
@click.option("--decode", type=click.Choice(["exact", "scaled"]), help="JPEG files whole, or reduced while decoding.")
@click.option(
    "--arithmetic",
    type=click.Choice(["pillow", "pillow_fused", "pillow_matrix", "matrix"]),
    help="How pictures are resized: to the bit, one level away, or for speed.",
)
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
    decode: str | None,
    arithmetic: str | None,
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
    edgekit package ./clip-vit-base-patch32 --decode scaled --arithmetic matrix
    """
    from edgekit.operations import package as operations

    chosen = operations.choose_target(target, say)
    with ProgressLine() as progress:
        given: dict[str, Any] = {"answers": answers, "task": task, "sample": sample}
        given |= {"decode": decode, "arithmetic": arithmetic}
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
