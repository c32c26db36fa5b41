"""What folders on a device hold, file by file, with the hashes that the device computed."""

from __future__ import annotations

import re

from edgekit.devices import scripts
from edgekit.devices.device import Device, run_script
from edgekit.devices.facts import Facts
from edgekit.devices.release import Layer, incoming_folder, layer_folder, release_folder
from edgekit.errors import TransportError
from edgekit.records import Record

SLOWEST_HASH_BYTES_PER_S = 5 << 20
"""A Pi Zero 2 hashes some 60 MB/s from memory and reads some 20 MB/s from its card; a deadline needs room."""

SLOWEST_FILES_PER_S = 10
"""A layer is a thousand small files: on an emulated Pi 4 they, not their bytes, take the time."""

_SIZE = re.compile(r"\s*(\d+) \./(.+)")
_HASH = re.compile(r"([0-9a-f]{64}) [ *]\./(.+)")


class StoredFile(Record):
    """A plain file on the device."""

    size: int
    sha256: str


class Listing(Record):
    """A folder: its plain files by relative path, and whether there is anything else in it (links, sockets)."""

    files: dict[str, StoredFile]
    odd: bool


Inventory = dict[str, Listing | None]
"""By absolute folder; None for one that is not there."""


def hash_timeout_s(size_bytes: int, files: int) -> float:
    """A deadline for hashing, or copying, so much in so many files on a slow device."""
    return 30.0 + size_bytes / SLOWEST_HASH_BYTES_PER_S + files / SLOWEST_FILES_PER_S


def folders_to_inspect(facts: Facts, app: str, release: str, layer: Layer) -> tuple[str, ...]:
    """The folders that decide what must be sent: the release, its unfinished transfer; for a new layer, the others."""
    folders = [release_folder(facts.root, app, release)] if _installed(facts, app, release) else []
    folders += [incoming_folder(facts.root, d) for d in (release, layer.digest) if d in facts.incoming]
    if layer.contents and layer.digest not in facts.layers:
        folders += [layer_folder(facts.root, d) for d in facts.layers]
    return tuple(folders)


def _installed(facts: Facts, app: str, release: str) -> bool:
    return any(r.id == release for r in facts.app(app).releases)


def inspect(device: Device, folders: tuple[str, ...], *, timeout_s: float) -> Inventory:
    """Hash every file of the folders on the device, in one round trip; raises TransportError."""
    if not folders:
        return {}
    lines = run_script(device, scripts.WALK + scripts.INSPECT, *folders, timeout_s=timeout_s)
    return parse_inventory(lines, folders, device.name)


def parse_inventory(lines: list[str], folders: tuple[str, ...], name: str) -> Inventory:
    """The inventory that the script's lines stand for; raises TransportError naming the first odd one."""
    inventory: Inventory = {}
    for folder, block in zip(folders, _blocks(lines, len(folders), name)):
        inventory[folder] = _listing(block[1:], name) if block[:1] == ["there"] else None
        if block and inventory[folder] is None:
            raise TransportError(f"{name}: not an inventory: {block[0][:80]!r}")
    return inventory


def _blocks(lines: list[str], count: int, name: str) -> list[list[str]]:
    blocks: list[list[str]] = []
    for line in lines:
        if line == f"folder {len(blocks)}":
            blocks.append([])
        elif blocks:
            blocks[-1].append(line)
    if len(blocks) != count:
        raise TransportError(f"{name}: an inventory of {count} folders has {len(blocks)}")
    return blocks


def _listing(lines: list[str], name: str) -> Listing:
    sizes: dict[str, int] = {}
    hashes: dict[str, str] = {}
    odd = False
    for line in lines:
        if match := _SIZE.fullmatch(line):
            sizes[match[2]] = int(match[1])
        elif match := _HASH.fullmatch(line):
            hashes[match[2]] = match[1]
        elif line.startswith("odd ") or re.fullmatch(r"\\[0-9a-f]{64} .*", line):
            odd = True
        elif not re.fullmatch(r"\s*\d+ total", line):
            raise TransportError(f"{name}: not an inventory: {line[:80]!r}")
    if sizes.keys() != hashes.keys() and not odd:
        raise TransportError(f"{name}: an inventory with {len(sizes)} sizes and {len(hashes)} hashes")
    both = sizes.keys() & hashes.keys()
    return Listing(files={p: StoredFile(size=sizes[p], sha256=hashes[p]) for p in sorted(both)}, odd=odd)
