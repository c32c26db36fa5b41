"""Names that a person gave to devices: `~/.config/edgekit/devices.toml`, lines `name = "address"`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from edgekit.devices.address import parse_address
from edgekit.errors import InputError
from edgekit.operations.listing import Listing
from edgekit.operations.output import write_output
from edgekit.storage import explain, make_folders, way_out
from edgekit.targets import load_toml

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")


def aliases_file() -> Path:
    """`$XDG_CONFIG_HOME/edgekit/devices.toml`, else the one in `~/.config`."""
    shared = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(shared) if os.path.isabs(shared) else Path.home() / ".config"  # XDG: a relative one is to be ignored
    return home / "edgekit" / "devices.toml"


def known_devices() -> Listing:
    """Every name with its address. Raises InputError for a file that says something else."""
    path = aliases_file()
    if not path.exists():
        return Listing()
    found = load_toml(path)
    for name, address in found.items():
        if not _NAME.fullmatch(name) or not isinstance(address, str):
            raise InputError(f"{path}: '{name}' is not a line like pi4 = \"pi@raspberrypi.local\"")
        _check_address(name, address)
    return Listing(found)


def address_of(device: str) -> str:
    """The address of a device that was named, or the address itself; `adb` is the only phone attached."""
    if not _NAME.fullmatch(device):
        return device
    known = known_devices()
    if device not in known and device == "adb":
        return device
    if device not in known:
        raise InputError(
            f"'{device}' is no device that has a name here",
            hint=f"edgekit devices add {device} ADDRESS (local:DIR, ssh:user@host, user@host or adb:SERIAL)",
        )
    return str(known[device])


def add_device(name: str, address: str) -> Listing:
    """Give a name to an address; a name that is taken is given anew."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{name[:80]!r} is no name for a device: letters, digits, - and _")
    _check_address(name, address)
    return _write({**known_devices(), name: _absolute(address)})


def remove_device(name: str) -> Listing:
    """Forget a name; nothing on the device changes."""
    known = known_devices()
    if name not in known:
        raise InputError(f"'{name}' is no device that has a name here", hint="`edgekit devices` lists them")
    return _write({n: a for n, a in known.items() if n != name})


def _check_address(name: str, address: str) -> None:
    try:
        parse_address(address)
    except InputError as error:
        raise InputError(f"device {name}: {error.message}", hint=error.hint) from None


def _absolute(address: str) -> str:
    """A folder means the same wherever the name is used later."""
    kind, _, folder = address.partition(":")
    return f"local:{os.path.abspath(os.path.expanduser(folder))}" if kind == "local" else address


def _write(known: dict[str, object]) -> Listing:
    path = aliases_file()
    # A JSON string without characters beyond ASCII is a TOML basic string.
    lines = [f"{name} = {json.dumps(address)}\n" for name, address in sorted(known.items())]
    try:
        make_folders(path.parent)
    except OSError as error:
        raise InputError(f"cannot make {explain(error, path.parent)}", hint=way_out(error)) from None
    write_output(path, "".join(lines).encode())
    return known_devices()
