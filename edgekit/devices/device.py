"""A device: a transport, the folder there, and scripts run in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgekit.devices import scripts
from edgekit.devices.address import Address, parse_address
from edgekit.devices.transports import Completed, Transport
from edgekit.devices.transports.process import demand
from edgekit.errors import TransportError
from edgekit.records import Record

if TYPE_CHECKING:
    from edgekit.devices.transports.adb import AdbTransport


class Device(Record):
    """One machine that is connected. name: for messages. root: edgekit's folder there."""

    name: str
    root: str
    transport: Any


@contextlib.contextmanager
def connect(address: Address | str) -> Iterator[Device]:
    """The device at an address, until the block ends; raises InputError and TransportError."""
    at = parse_address(address) if isinstance(address, str) else address
    with open_transport(at) as transport:
        yield Device(name=str(at), root=at.root, transport=transport)


@contextlib.contextmanager
def open_transport(address: Address) -> Iterator[Transport]:
    """The transport for an address; its connection is closed when the block ends."""
    if address.kind == "local":
        from edgekit.devices.transports.local import LocalTransport

        yield LocalTransport()
        return
    if address.kind == "ssh":
        from edgekit.devices.transports.ssh import SshTransport

        opened: SshTransport | AdbTransport = SshTransport(address)
    else:
        from edgekit.devices.transports.adb import AdbTransport

        opened = AdbTransport(address.where)
    with contextlib.closing(opened) as transport:
        yield transport


def run_script(device: Device, body: str, *arguments: str, stdin: bytes | None = None, timeout_s: float) -> list[str]:
    """The lines that a script on the device printed.

    Raises CommandFailed when it ended with an error, TransportError when there was no whole answer.
    """
    what = f"a command on {device.name}"
    script = f"{scripts.PRELUDE}echo {scripts.BEGIN}\n{body}\necho {scripts.END}\n"
    done = device.transport.run(["sh", "-c", script, "edgekit", *arguments], stdin=stdin, timeout_s=timeout_s)
    return read_reply(demand(done, what), what)


def read_reply(done: Completed, what: str) -> list[str]:
    """What stands between the two marks; raises TransportError when one is missing."""
    try:
        lines = done.stdout.decode("utf-8").split("\n")
        begin = lines.index(scripts.BEGIN)
        end = lines.index(scripts.END, begin)
    except ValueError:
        raise TransportError(f"{what} gave no whole answer: {done.stdout[-200:]!r}") from None
    if any(lines[end + 1 :]):
        raise TransportError(f"{what} said more than its answer: {done.stdout[-200:]!r}")
    return lines[begin + 1 : end]
