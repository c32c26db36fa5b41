"""What several commands share: options, how their words are read, and how an answer is printed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]


def print_answer(value: Any, as_json: bool) -> None:
    """The answer on stdout: for people, or as JSON."""
    click.echo(json.dumps(value.to_dict() if hasattr(value, "to_dict") else value) if as_json else str(value))


def _read_answers(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [answer.partition("=") for answer in given]
    if not all(equals for _, equals, _ in pairs):
        raise click.BadParameter("expected KEY=VALUE")
    return {key: value for key, _, value in pairs}


target_option = click.option(
    "--target", metavar="T", help="Kind of device (see `edgekit targets`); default: this machine's."
)
variant_option = click.option(
    "--variant", metavar="V", help="Variant of the model, e.g. int8; default: the target's order."
)
files_option = click.option(
    "--files",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with files that the recipe does not hold.",
)
answers_option = click.option(
    "--set",
    "answers",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_read_answers,
    help="Answer what the source does not say (packaging names the keys).",
)
wheels_option = click.option(
    "--wheel",
    "wheels",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Wheel for the device's layer (vendor builds).",
)
offline_option = click.option(
    "--offline", type=click.Path(path_type=Path), help="Folder of wheels instead of the package index."
)
runner_option = click.option(
    "--runner",
    type=click.Path(path_type=Path),
    help="TensorFlow Lite's benchmark_model for a phone; default: beside the Android SDK, or on PATH.",
)
on_option = click.option("--on", "device", metavar="DEVICE", help="Do it on this device.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_inputs = (
    click.option("--image", metavar="FILE", help="Picture: JPEG, PNG, BMP or WebP."),
    click.option("--audio", metavar="FILE", help="Sound: WAV, FLAC, OGG or MP3."),
    click.option("--text", "texts", multiple=True, metavar="S", help="Text; several are candidates."),
)


def takes_inputs(command: Command) -> Command:
    """Add the inputs of one predict."""
    for option in reversed(_inputs):
        command = option(command)
    return command


def numbers(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Whole numbers separated by commas."""
    if value is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,5}(,[1-9]\d{0,5})*", value):
        raise click.BadParameter(f"expected numbers from 1 like 1,2,4, got {value!r}")
    return tuple(int(part) for part in value.split(","))


def duration(ctx: click.Context, option: click.Parameter, value: str | None) -> float | None:
    """Seconds, or a number with s, m or h."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value)
    if match is None:
        raise click.BadParameter(f"expected a time like 90, 30s, 10m or 1h, got {value!r}")
    return float(match[1]) * {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}[match[2]]


def share(ctx: click.Context, option: click.Parameter, value: str) -> float:
    """A percentage as a share of 1."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", value)
    if match is None:
        raise click.BadParameter(f"expected a percentage like 10%, got {value!r}")
    return float(match[1]) / 100.0
