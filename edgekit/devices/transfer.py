"""Bytes to a device: what it has is copied there, small files go in batches, large ones in resumable blocks."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from edgekit.devices import scripts
from edgekit.devices.inventory import hash_timeout_s
from edgekit.devices.release import Content
from edgekit.devices.session import Session
from edgekit.devices.trees import Copy, Send, Tree
from edgekit.errors import InputError

SMALL_BYTES = 256 << 10
"""Files up to this size travel together; one round trip each would cost more than they do."""

BATCH_BYTES = 4 << 20
BLOCK_BYTES = 16 << 20
SLOWEST_LINK_BYTES_PER_S = 64 << 10
SLOWEST_START_S = 0.25
"""An emulated or busy device starts some ten processes in a second."""

WORDS_BYTES = 32 << 10
"""Names given to one process: a quarter of what the smallest of today's kernels takes."""


def transfer_timeout_s(size_bytes: int) -> float:
    """A deadline for sending that many bytes over a slow link."""
    return 30.0 + size_bytes / SLOWEST_LINK_BYTES_PER_S


def prepare(session: Session, tree: Tree) -> None:
    """Make the folder of the transfer and clear what is wrong in it."""
    anew = tree.clear == (".",)
    names = b"" if anew else _lines(tree.clear)
    session.run(scripts.PREPARE, tree.incoming, "anew" if anew else "on", stdin=names, timeout_s=60.0)


def copy_on_device(session: Session, tree: Tree) -> None:
    """Copy what the device has, never link: a release's files are its own."""
    if not tree.copies:
        return
    lines = copy_lines(tree.copies)
    timeout_s = hash_timeout_s(sum(c.size for c in tree.copies), len(tree.copies)) + SLOWEST_START_S * len(lines)
    session.run(scripts.COPY, tree.incoming, stdin=_lines(lines), timeout_s=timeout_s)


def copy_lines(copies: tuple[Copy, ...]) -> tuple[str, ...]:
    """Lines for `scripts.COPY`: files that keep their names and go to one folder are copied by one process."""
    folders = sorted({f"./{c.path.rpartition('/')[0]}" for c in copies if "/" in c.path})
    groups: dict[str, list[str]] = {}
    for copy in copies:
        folder, _, name = f"./{copy.path}".rpartition("/")
        keeps_name = copy.source.rpartition("/")[2] == name
        groups.setdefault(f"{folder}/" if keeps_name else f"./{copy.path}", []).append(copy.source)
    return (
        *(f"folders\t{words}" for words in _shares(folders)),
        *(f"copy\t{target}\t{words}" for target, sources in groups.items() for words in _shares(sources)),
    )


def _shares(words: list[str]) -> Iterator[str]:
    """Words between tabs, as many as one process is given."""
    share: list[str] = []
    size = 0
    for word in words:
        if share and size + len(word.encode()) > WORDS_BYTES:
            yield "\t".join(share)
            share, size = [], 0
        share.append(word)
        size += len(word.encode()) + 1
    if share:
        yield "\t".join(share)


def send(session: Session, incoming: str, sends: tuple[Send, ...]) -> None:
    """Send files into the folder of the transfer; what arrives before a cut stays and is not sent again."""
    small = [s.content for s in sends if _travels_with_others(s)]
    for batch in _batches(small):
        packed = _pack(batch)
        session.run(scripts.UNPACK, incoming, stdin=packed, timeout_s=transfer_timeout_s(len(packed)))
        session.count(sum(c.size for c in batch))
    for item in sends:
        if item.content.source is not None and not _travels_with_others(item):
            _send_blocks(session, incoming, item.content.source, item)


def _travels_with_others(item: Send) -> bool:
    """Small files do, and those whose bytes are made here; not what is gone on from."""
    return item.offset == 0 and (item.content.size <= SMALL_BYTES or item.content.source is None)


def _send_blocks(session: Session, incoming: str, source: str, item: Send) -> None:
    content, at = item.content, item.offset
    target = f"{incoming}/{content.path}"
    while at < content.size:
        size = min(BLOCK_BYTES, content.size - at)
        timeout_s = transfer_timeout_s(size)
        session.run(scripts.MAKE_PARENT, target, timeout_s=timeout_s)
        session.device.transport.put(
            Path(source),
            target,
            start=content.start + at,
            size=size,
            append=at > 0,
            timeout_s=timeout_s,
            on_bytes=session.count,
        )
        at += size


def _batches(contents: list[Content]) -> Iterator[list[Content]]:
    batch: list[Content] = []
    for content in contents:
        if batch and sum(c.size for c in batch) + content.size > BATCH_BYTES:
            yield batch
            batch = []
        batch.append(content)
    if batch:
        yield batch


def _pack(contents: list[Content]) -> bytes:
    """A plain tar: names and bytes, nothing of this machine in it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for content in contents:
            entry = tarfile.TarInfo(content.path)
            entry.size = content.size
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(_read(content)))
    return packed.getvalue()


def _read(content: Content) -> bytes:
    data = content.data
    if content.source is not None:
        try:
            with Path(content.source).open("rb") as file:
                file.seek(content.start)
                data = file.read(content.size)
        except OSError as error:
            raise InputError(f"cannot read {content.source}: {error.strerror}") from None
    if data is None or len(data) != content.size:
        raise InputError(f"{content.path} is shorter than it was when the plan was made")
    return data


def _lines(names: tuple[str, ...]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()
