"""The commands that list, write out or print what edgekit has: targets, models, export, completion."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.options import json_option, print_answer


@click.command()
@json_option
def targets(as_json: bool) -> None:
    """List the kinds of device that bundles can be made for."""
    from edgekit.operations import listing as operations

    print_answer(operations.targets(), as_json)


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the recipes that come with edgekit."""
    from edgekit.operations import listing as operations

    print_answer(operations.models(), as_json)


@click.group()
def export() -> None:
    """Write a project for a platform without Python."""


@export.command()
@click.argument("bundle")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def android(bundle: str, folder: Path, as_json: bool) -> None:
    """Write BUNDLE as a Gradle library module into FOLDER: assets, a Java library, an instrumented test, a sample.

    \b
    edgekit package tridigit --target android-arm64
    edgekit export android tridigit.edgekit android/tridigit
    """
    from edgekit.operations import export as operations

    print_answer(operations.export_android(bundle, folder), as_json)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    eval "$(edgekit completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(ctx.find_root().command, {}, "edgekit", "_EDGEKIT_COMPLETE").source())
