"""Graphs as ONNX Runtime optimised them, kept on this machine: a second load maps its weights, packed, from a file.

    <cache>-onnxruntime-<version>-<cpu>/graph.onnx, graph.data

`cache` names the graph by the digest of its bytes. An entry is used only while its files are, by device, inode, size
and times, those that were written here; anything else is thrown away and made again. All entries together are bounded:
those that were not used for longest go first. Nothing here ever fails a load.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from edgekit import storage
from edgekit.container import identity
from edgekit.errors import EdgekitError
from edgekit.stamps import Identity, settle, stamp_holds, write_stamp

LEAST_BYTES = 1 << 18
"""Below this a graph is optimised as fast as it is looked up."""
ALL_BYTES = 4 << 30
"""What the entries of one folder may take together."""
OUTSIDE_BYTES = 1024
"""Weights from this size on lie in graph.data, which is mapped and not read."""

GRAPH, DATA = "graph.onnx", "graph.data"
_FORMAT = "1"

Open = Callable[[str, Any], Any]
"""(path, options) -> session; raises whatever the runtime raises."""


def entry_for(prefix: str, version: str) -> Path:
    """Where the optimised form of a graph lies: another runtime or processor has another place."""
    return Path(f"{prefix}-onnxruntime-{version}-{cpu_digest()}")


@cache
def cpu_digest() -> str:
    """This processor by its instructions and model; optimised layouts and packed weights fit no other."""
    wanted = ("flags", "features", "model name", "cpu part", "cpu implementer")
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            lines = sorted({line for line in stream if line.lower().startswith(wanted)})
    except OSError:
        lines = list(os.uname())  # not Linux
    return hashlib.sha256("\n".join([_FORMAT, *lines]).encode()).hexdigest()[:16]


def load_kept(entry: Path, options: Any, open_session: Open) -> Any:
    """The session over a kept graph, or None where there is none that holds; one that does not hold is removed."""
    facts = _facts(entry)
    if facts is None:
        return None
    try:
        if stamp_holds(str(entry), entry.name, facts):
            session = open_session(str(entry / GRAPH), options)
            if _facts(entry) == facts:
                with contextlib.suppress(OSError):  # a cache that may only be read
                    os.utime(entry)  # used now
                return session
    except Exception:  # whatever a damaged file makes the runtime say: the graph itself is still there
        pass
    _remove(entry)
    return None


def load_and_keep(entry: Path, files: Sequence[str], options: Any, open_session: Open) -> Any:
    """The session over the graph itself, its optimised form kept on the way; None where it is not to be or cannot be.

    files: the graph's, then that of its weights. What is kept is not used before `trust`.
    """
    try:
        size_bytes = sum(os.stat(name).st_size for name in files)
        if size_bytes < LEAST_BYTES:
            return None
        storage.make_folders(entry.parent)
        storage.sweep(entry.parent)
        storage.need_space(entry.parent, 3 * size_bytes)
        with storage.new_folder(entry) as folder:
            session = open_session(files[0], _saving(options, folder))
    except Exception:  # a full disk, a folder of somebody else, another process that was first, a graph that is refused
        return None
    return session


def trust(entry: Path) -> None:
    """Say that what an entry holds now was made of the graph that it is named after."""
    facts = _facts(entry)
    if facts is not None:
        settle(facts.values())
        write_stamp(str(entry), entry.name, facts)
        _remove_others(entry)
        _make_room(entry)


def _saving(options: Any, folder: Path) -> Any:
    options.optimized_model_filepath = str(folder / GRAPH)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", DATA)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", str(OUTSIDE_BYTES)
    )
    options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    return options


def _facts(entry: Path) -> dict[str, Identity] | None:
    """What the files of an entry are now; None where it is not there. A graph with small weights has no data."""
    found = {}
    for name in (GRAPH, DATA):
        try:
            found[name] = identity(os.lstat(entry / name))
        except OSError:
            if name == GRAPH:
                return None
    return found


def _remove(entry: Path) -> None:
    with contextlib.suppress(OSError, EdgekitError):
        storage.set_aside(entry)


def _remove_others(entry: Path) -> None:
    """The same graph for runtimes or processors that are gone."""
    graph = entry.name.split("-onnxruntime-")[0]
    for other in entry.parent.glob(f"{graph}-onnxruntime-*"):
        if other != entry:
            _remove(other)


def _make_room(newest: Path) -> None:
    """Remove what was not used for longest until all entries fit in ALL_BYTES; the newest one stays."""
    found = []
    with contextlib.suppress(OSError):  # another process may be tidying as well
        for entry in newest.parent.glob("*-onnxruntime-*"):
            size_bytes = sum(fact[2] for fact in (_facts(entry) or {}).values())
            found.append((entry != newest, -entry.stat().st_mtime_ns, size_bytes, entry))
    total_bytes = 0
    for other, _, size_bytes, entry in sorted(found):
        total_bytes += size_bytes
        if other and total_bytes > ALL_BYTES:
            _remove(entry)
