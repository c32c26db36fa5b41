"""The commands that change or ask devices: deploy, status, rollback, remove, doctor, devices."""

from __future__ import annotations

import sys
from typing import Any

import click

from edgekit.cli.options import (
    answers_option,
    files_option,
    json_option,
    offline_option,
    print_answer,
    runner_option,
    target_option,
    variant_option,
    wheels_option,
)
from edgekit.cli.terminal import ProgressLine, say


@click.command()
@click.argument("source")
@click.argument("devices", nargs=-1, required=True)
@click.option("--app", metavar="NAME", help="Name on the device; default: the bundle's.")
@target_option
@variant_option
@files_option
@answers_option
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("--restart", metavar="CMD", help="Run this on the device after the switch.")
@click.option("--service", metavar="CMD", help="Keep this running on the device (systemd), restarted after a switch.")
@click.option("--allow-downgrade", is_flag=True, help="Accept an older version than the one that runs.")
@click.option("--force", is_flag=True, help="Try again a release that failed its check before.")
@wheels_option
@offline_option
@runner_option
@click.option("--unverified", is_flag=True, help="Accept a device that cannot run the golden check.")
@json_option
def deploy(source: str, devices: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Put SOURCE (bundle, recipe or folder) on each of DEVICES, check it there, then switch to it.

    \b
    edgekit deploy tridigit.edgekit local:/tmp/device
    edgekit deploy tridigit pi@raspberrypi.local --target raspberry-pi-5
    edgekit deploy tridigit kitchen garage --service "python3 camera.py"
    edgekit deploy tridigit adb:SERIAL --runner benchmark_model
    """
    from edgekit.operations import deploy as operations

    with ProgressLine() as progress:
        outcome = operations.deploy(source, list(devices), progress=progress, note=say, **options)
    print_answer(outcome, as_json)
    if outcome.exit_code:
        sys.exit(outcome.exit_code)


@click.command()
@click.argument("device")
@click.argument("app", required=False)
@json_option
def status(device: str, app: str | None, as_json: bool) -> None:
    """Say what DEVICE runs: each app's release, the one before, and those that failed.

    \b
    edgekit status local:/tmp/device
    """
    from edgekit.operations import devices as operations

    print_answer(operations.status(device, app), as_json)


@click.command()
@click.argument("device")
@click.argument("app", required=False)
@json_option
def rollback(device: str, app: str | None, as_json: bool) -> None:
    """Switch APP (default: the only one) on DEVICE back to the release before.

    \b
    edgekit rollback local:/tmp/device tridigit
    """
    from edgekit.operations import devices as operations

    print_answer(operations.rollback(device, app), as_json)


@click.command()
@click.argument("device")
@click.argument("app", required=False)
@json_option
def remove(device: str, app: str | None, as_json: bool) -> None:
    """Take APP (default: the only one) and its releases off DEVICE.

    \b
    edgekit remove local:/tmp/device tridigit
    """
    from edgekit.operations import devices as operations

    print_answer(operations.remove(device, app), as_json)


@click.command()
@click.argument("device", required=False)
@json_option
def doctor(device: str | None, as_json: bool) -> None:
    """Say what DEVICE (default: this machine) is, and what stands in the way, with a line to copy for each finding.

    \b
    edgekit doctor pi@raspberrypi.local
    """
    from edgekit.operations import devices as operations

    print_answer(operations.doctor(device), as_json)


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def devices(ctx: click.Context, as_json: bool) -> None:
    """List the names that devices have here; they stand for the address wherever a DEVICE is expected.

    \b
    edgekit devices add kitchen pi@raspberrypi.local
    edgekit deploy tridigit kitchen
    """
    from edgekit.operations import aliases as operations

    if ctx.invoked_subcommand is None:
        print_answer(operations.known_devices(), as_json)


@devices.command()
@click.argument("name")
@click.argument("address")
@json_option
def add(name: str, address: str, as_json: bool) -> None:
    """Give NAME to ADDRESS (local:DIR, ssh:user@host, user@host or adb:SERIAL)."""
    from edgekit.operations import aliases as operations

    print_answer(operations.add_device(name, address), as_json)


@devices.command("remove")
@click.argument("name")
@json_option
def forget(name: str, as_json: bool) -> None:
    """Forget NAME; nothing on the device changes."""
    from edgekit.operations import aliases as operations

    print_answer(operations.remove_device(name), as_json)
