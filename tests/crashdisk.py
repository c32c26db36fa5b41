"""A disk that forgets: the states a power cut can leave, from what a deployment did and what it synced.

Recording: programs before the real ones on PATH copy the device's folder before and after each program, so the
operations are what really changed, whatever did it. Renames are known by name (`mv`), and so are syncs.

The model is the weakest one of ALICE (Pillai et al., OSDI 2014, "All file systems are not created equal"): between
two syncs every operation may be lost or kept on its own, and kept data may be torn: empty, half, or zeros of the
right length. A sync makes all before it durable; nothing else does.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.devices.transports import Completed, OnBytes
from edgekit.devices.transports.local import LocalTransport

PROGRAMS = ("mkdir", "mv", "cp", "rm", "ln", "sync", "tar", "chmod", "cat", "head", "tee")

_SHIM = """#!/bin/sh
name=${0##*/}
read -r n < "$EK_LOG/count"
n=$((n + 1))
echo $n > "$EK_LOG/count"
/usr/bin/cp -a "$EK_DEVICE" "$EK_LOG/$n.before"
/usr/bin/$name "$@"
code=$?
/usr/bin/cp -a "$EK_DEVICE" "$EK_LOG/$n.after"
printf '%s\\n' "$name" "$@" > "$EK_LOG/$n.words"
exit $code
"""

Tree = dict[str, tuple[str, bytes]]
"""Path -> ("folder", b""), ("file", content) or ("link", target)."""


@dataclass(frozen=True)
class Operation:
    """What changed: `folder`, `create`, `data`, `link`, `gone` (of a path), `rename` (path to other), or `sync`."""

    kind: str
    path: str = ""
    other: str = ""
    data: bytes = b""


class Recorder:
    """A transport to a local folder that records every operation on it."""

    def __init__(self, root: Path, log: Path) -> None:
        self.inner = LocalTransport()
        self.root = root
        self.log = log
        self.shims = log / "shims"
        self.shims.mkdir(parents=True)
        (log / "count").write_text("0\n")
        (self.shims / "shim").write_text(_SHIM)
        (self.shims / "shim").chmod(0o755)
        for name in PROGRAMS:
            (self.shims / name).symlink_to("shim")
        root.mkdir(exist_ok=True)
        self.before = read_tree(root)

    def run(self, argv: Sequence[str], *, stdin: bytes | None = None, timeout_s: float) -> Completed:
        path = f"PATH={self.shims}:{os.environ['PATH']}"
        words = ["env", path, f"EK_LOG={self.log}", f"EK_DEVICE={self.root}", *argv]
        return self.inner.run(words, stdin=stdin, timeout_s=timeout_s)

    def put(
        self,
        source: Path,
        target: str,
        *,
        start: int,
        size: int,
        append: bool,
        timeout_s: float,
        on_bytes: OnBytes | None = None,
    ) -> None:
        number = int((self.log / "count").read_text()) + 1
        shutil.copytree(self.root, self.log / f"{number}.before", symlinks=True)
        self.inner.put(source, target, start=start, size=size, append=append, timeout_s=timeout_s, on_bytes=on_bytes)
        shutil.copytree(self.root, self.log / f"{number}.after", symlinks=True)
        (self.log / f"{number}.words").write_text(f"put\n{target}\n")
        (self.log / "count").write_text(f"{number}\n")

    def get(self, source: str, target: Path, *, timeout_s: float) -> None:
        self.inner.get(source, target, timeout_s=timeout_s)

    def operations(self) -> list[Operation]:
        """Everything that happened to the folder, in order."""
        found: list[Operation] = []
        last = self.before
        for number in range(1, int((self.log / "count").read_text()) + 1):
            before = read_tree(self.log / f"{number}.before")
            after = read_tree(self.log / f"{number}.after")
            words = (self.log / f"{number}.words").read_text().splitlines()
            found += differences(last, before)
            if words[0] == "sync":
                found.append(Operation("sync"))
            elif words[0] == "mv":
                found += self._rename(words, before, after)
            else:
                found += differences(before, after)
            last = after
        return found + differences(last, read_tree(self.root))

    def _rename(self, words: list[str], before: Tree, after: Tree) -> list[Operation]:
        source, target = (os.path.relpath(w, self.root) for w in words[-2:])
        if before.get(target, ("", b""))[0] == "folder":
            target = f"{target}/{os.path.basename(source)}"
        rename = Operation("rename", source, target)
        expected = dict(before)
        apply(expected, rename)
        if expected != after:
            raise AssertionError(f"{words} is not a rename")
        return [rename]


def read_tree(root: Path) -> Tree:
    """Everything below a folder."""
    tree: Tree = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder) / name
            key = str(path.relative_to(root))
            if path.is_symlink():
                tree[key] = ("link", os.readlink(path).encode())
            elif path.is_dir():
                tree[key] = ("folder", b"")
            else:
                tree[key] = ("file", path.read_bytes())
    return tree


def write_tree(tree: Tree, root: Path) -> None:
    """Make a folder that holds this."""
    root.mkdir()
    for key, (kind, data) in sorted(tree.items()):
        path = root / key
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(data.decode())
        else:
            path.write_bytes(data)
            path.chmod(0o444 if "/bundle/" in key else 0o644)


def differences(before: Tree, after: Tree) -> list[Operation]:
    """The operations that lead from one tree to the other, folders before what is in them."""
    found = [Operation("gone", p) for p in sorted(before.keys() - after.keys(), reverse=True)]
    for path in sorted(after):
        kind, data = after[path]
        old = before.get(path)
        if old == after[path]:
            continue
        if kind == "folder":
            found.append(Operation("folder", path))
        elif kind == "link":
            found.append(Operation("link", path, data=data))
        else:
            if old is None:
                found.append(Operation("create", path))
            found.append(Operation("data", path, data=data))
    return found


def apply(tree: Tree, operation: Operation) -> None:
    """One operation on a tree; one whose ground is missing (a lost folder, a lost file) does nothing."""
    kind, path = operation.kind, operation.path
    if kind in ("folder", "create", "link", "data"):
        parent = os.path.dirname(path)
        if parent and tree.get(parent, ("", b""))[0] != "folder":
            return
    if kind == "folder":
        tree[path] = ("folder", b"")
    elif kind == "create":
        tree.setdefault(path, ("file", b""))
    elif kind == "link":
        tree[path] = ("link", operation.data)
    elif kind == "data" and path in tree:
        tree[path] = ("file", operation.data)
    elif kind == "gone":
        for key in [k for k in tree if k == path or k.startswith(path + "/")]:
            del tree[key]
    elif kind == "rename" and path in tree:
        parent = os.path.dirname(operation.other)
        if parent and parent not in tree:
            return
        moved = {k: v for k, v in tree.items() if k == path or k.startswith(path + "/")}
        for key in [k for k in tree if k == operation.other or k.startswith(operation.other + "/")]:
            del tree[key]
        for key, value in moved.items():
            del tree[key]
            tree[operation.other + key[len(path) :]] = value


def crash_states(start: Tree, operations: list[Operation], seed: int, *, samples: int = 40) -> Iterator[Tree]:
    """Trees that a power cut at any moment can leave; for each moment all subsets where they are few, else samples."""
    pick = random.Random(seed)
    durable = dict(start)
    pending: list[Operation] = []
    yield dict(durable)
    for operation in operations:
        if operation.kind == "sync":
            for one in pending:
                apply(durable, one)
            pending = []
            continue
        pending.append(operation)
        for kept in _subsets(len(pending), pick, samples):
            for tear in ("whole", "empty", "half", "zeros"):
                tree = dict(durable)
                for one, keep in zip(pending, kept):
                    if keep:
                        apply(tree, _torn(one, tear if tear == "whole" or pick.random() < 0.6 else "whole"))
                yield tree


def _subsets(count: int, pick: random.Random, samples: int) -> Iterator[tuple[bool, ...]]:
    if 2**count <= samples:
        yield from itertools.product((True, False), repeat=count)
        return
    yield (True,) * count
    yield (False,) * count
    for lost in range(count):
        yield tuple(n != lost for n in range(count))
        yield tuple(n == lost for n in range(count))
    for _ in range(samples):
        yield tuple(pick.random() < 0.5 for _ in range(count))


def _torn(operation: Operation, tear: str) -> Operation:
    if operation.kind != "data" or tear == "whole":
        return operation
    size = len(operation.data)
    data = {"empty": b"", "half": operation.data[: size // 2], "zeros": bytes(size)}[tear]
    return Operation("data", operation.path, data=data)


_HASHES: dict[bytes, str] = {}


def _sha256(data: bytes) -> str:
    if data not in _HASHES:
        _HASHES[data] = hashlib.sha256(data).hexdigest()
    return _HASHES[data]


def what_runs(tree: Tree, app: str) -> str | None:
    """The bundle of the current release, whole to the last byte; AssertionError when state or release is broken."""
    home = f"apps/{app}"
    if f"{home}/state.json" not in tree:
        return None
    state = json.loads(tree[f"{home}/state.json"][1])
    assert sorted(state) == ["bad", "current", "previous"]
    if state["current"] is None:
        return None
    folder = f"{home}/releases/{state['current']}"
    record = json.loads(tree[f"{folder}/release.json"][1])
    manifest = tree[f"{folder}/bundle/manifest.json"][1]
    assert _sha256(manifest) == record["bundle"]
    files = json.loads(manifest)["files"]
    found = {k[len(folder) + 8 :]: v for k, v in tree.items() if k.startswith(f"{folder}/bundle/") and v[0] != "folder"}
    assert found.keys() == files.keys() | {"manifest.json"}
    for name, fact in files.items():
        assert found[name][0] == "file"
        assert _sha256(found[name][1]) == fact["sha256"], name
    bundle: str = record["bundle"]
    return bundle
