"""A folder to be on a device: what of it is there, what can be copied there, and what has to be sent."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgekit.devices.facts import Facts
from edgekit.devices.inventory import Inventory, Listing
from edgekit.devices.release import BUNDLE_FOLDER, Content, incoming_folder, layer_folder, release_folder
from edgekit.errors import InputError
from edgekit.records import Record

BLOCK_BYTES = 4096


class Copy(Record):
    """A file that the device has already: absolute source there, path in the new folder."""

    source: str
    path: str
    size: int


class Send(Record):
    """A file that goes over the wire, from byte `offset` on."""

    content: Content
    offset: int


class Tree(Record):
    """A folder to be on the device. present: it is there and right. clear: names to remove from the transfer first."""

    kind: str
    digest: str
    final: str
    incoming: str
    present: bool
    contents: tuple[Content, ...]
    clear: tuple[str, ...]
    copies: tuple[Copy, ...]
    sends: tuple[Send, ...]

    @property
    def send_bytes(self) -> int:
        """Payload bytes that go over the wire."""
        return sum(s.content.size - s.offset for s in self.sends)


Stored = dict[tuple[int, str], str]
"""(size, sha256) -> a path on the device that should hold these bytes."""


def stored_releases(facts: Facts) -> Stored:
    """Named by the records of installed releases; the copy is hashed, so a wrong record costs only time."""
    return {
        (fact.size, fact.sha256): f"{release_folder(facts.root, app.app, release.id)}/{BUNDLE_FOLDER}/{path}"
        for app in facts.apps
        for release in app.releases
        if release.record is not None
        for path, fact in release.record.files.items()
    }


def stored_layers(facts: Facts, inventory: Inventory) -> Stored:
    folders = [layer_folder(facts.root, digest) for digest in facts.layers]
    return {
        (file.size, file.sha256): f"{folder}/{path}"
        for folder in folders
        if (listing := inventory.get(folder))
        for path, file in listing.files.items()
        if "\t" not in path  # separates the names of a copy
    }


def plan_tree(
    kind: str,
    digest: str,
    final: str,
    contents: tuple[Content, ...],
    stored: Stored,
    facts: Facts,
    inventory: Inventory,
) -> Tree:
    incoming = incoming_folder(facts.root, digest)
    if kind == "layer":
        present = digest in facts.layers
    else:
        present = matches(inventory.get(final), contents)
    clear: tuple[str, ...] = ()
    copies: list[Copy] = []
    sends: list[Send] = []
    if not present:
        arrived = inventory.get(incoming)
        broken = f"{final}/"
        usable = {key: path for key, path in stored.items() if not path.startswith(broken)}
        offsets = {c.path: _arrived_bytes(c, arrived) for c in contents}
        clear = _litter(arrived, {path for path, offset in offsets.items() if offset})
        for content in contents:
            offset = offsets[content.path]
            if offset == content.size and offset:
                continue
            source = usable.get((content.size, content.sha256))
            if source and not offset:
                copies.append(Copy(source=source, path=content.path, size=content.size))
            else:
                sends.append(Send(content=content, offset=offset))
    return Tree(
        kind=kind,
        digest=digest,
        final=final,
        incoming=incoming,
        present=present,
        contents=contents,
        clear=clear,
        copies=tuple(copies),
        sends=tuple(sends),
    )


def matches(listing: Listing | None, contents: tuple[Content, ...]) -> bool:
    """Whether a folder holds exactly these files."""
    return not differences(listing, contents)


def differences(listing: Listing | None, contents: tuple[Content, ...]) -> list[str]:
    """The names of files that are missing, altered or too many; `.` when there is something else than files."""
    if listing is None:
        return ["."]
    wanted = {c.path: (c.size, c.sha256) for c in contents}
    found = {path: (file.size, file.sha256) for path, file in listing.files.items()}
    wrong = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
    return wrong or (["."] if listing.odd else [])


def _arrived_bytes(content: Content, arrived: Listing | None) -> int:
    """How many bytes of a file an earlier transfer left that are the right ones and are gone on from."""
    file = arrived.files.get(content.path) if arrived and not arrived.odd else None
    if file is None or file.size > content.size:
        return 0
    if file.size == content.size:
        return file.size if file.sha256 == content.sha256 else 0
    if content.source is None:  # it travels with others, and whole
        return 0
    return file.size if file.sha256 == _hash_start(content.source, content, file.size) else 0


def _hash_start(path: str, content: Content, size: int) -> str:
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            file.seek(content.start)
            while size and (chunk := file.read(min(size, 1 << 20))):
                digest.update(chunk)
                size -= len(chunk)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return digest.hexdigest()


def _litter(arrived: Listing | None, kept: set[str]) -> tuple[str, ...]:
    if arrived is None:
        return ()
    return (".",) if arrived.odd else tuple(path for path in arrived.files if path not in kept)


def new_bytes(tree: Tree, inventory: Inventory) -> int:
    if tree.present:
        return 0
    sizes = [c.size for c in tree.copies] + [s.content.size - s.offset for s in tree.sends]
    return sum(-(-size // BLOCK_BYTES) * BLOCK_BYTES + BLOCK_BYTES for size in sizes)
