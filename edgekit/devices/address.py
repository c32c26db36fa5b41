"""How a user names a device: `local:DIR`, `ssh:user@host[:port]`, `user@host`, `adb:SERIAL`, `adb` (the only one)."""

from __future__ import annotations

import os
import re
from typing import Literal

from edgekit.errors import InputError
from edgekit.records import Record

SSH_ROOT = ".local/share/edgekit"
ADB_ROOT = "/data/local/tmp/edgekit"

_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?(?:[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.%a-z]+\])")
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_FORMS = "use local:DIR, ssh:user@host, user@host, adb:SERIAL or adb"


class Address(Record):
    """One machine.

    where: folder, `user@host`, or serial, empty for the only one that is attached. port: of ssh, null for the user's
    own configuration.

    root: edgekit's folder there; relative to the login folder over ssh.
    """

    kind: Literal["local", "ssh", "adb"]
    where: str
    port: int | None
    root: str

    def __str__(self) -> str:
        return self.kind + (f":{self.where}" if self.where else "") + (f":{self.port}" if self.port else "")


def parse_address(text: str) -> Address:
    """The address that a text names; raises InputError."""
    kind, colon, rest = text.partition(":")
    if colon and kind == "local":
        if not rest or "\0" in rest or "\n" in rest:
            raise InputError(f"{text[:80]!r} names no folder", hint="for example local:./device")
        folder = os.path.abspath(os.path.expanduser(rest))
        return Address(kind="local", where=folder, port=None, root=folder)
    if text == "adb":
        return Address(kind="adb", where="", port=None, root=ADB_ROOT)
    if colon and kind == "adb":
        if not _SERIAL.fullmatch(rest):
            raise InputError(f"{text[:80]!r} names no adb device", hint="`adb devices` lists the serials")
        return Address(kind="adb", where=rest, port=None, root=ADB_ROOT)
    if colon and kind == "ssh":
        return _parse_ssh(rest, text)
    if "@" in text:
        return _parse_ssh(text, text)
    raise InputError(f"{text[:80]!r} is not a device", hint=_FORMS)


def _parse_ssh(rest: str, text: str) -> Address:
    host, port = rest, None
    match = re.fullmatch(r"(.*[^:]):([0-9]{1,5})", rest)
    if match:
        host, port = match[1], int(match[2])
    if not _HOST.fullmatch(host) or (port is not None and not 0 < port < 65536):
        raise InputError(f"{text[:80]!r} is not an ssh address", hint=_FORMS)
    return Address(kind="ssh", where=host, port=port, root=SSH_ROOT)
