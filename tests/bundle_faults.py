"""Writes or opens a bundle with a fault at each system call in turn; run by test_bundle_faults.py, one JSON line out.

Usage: bundle_faults.py write|open FOLDER. Each trial is a forked child whose k-th call of the functions below
is killed before it, killed half way through a write, fails with ENOSPC or EIO, or fails and goes on failing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from build_manifest import build_bundle, build_files

from edgekit.bundle import open_bundle, verify
from edgekit.errors import BundleError

WRITES = ("write", "pwrite")
CALLS = (
    *WRITES,
    "open",
    "fchmod",
    "chmod",
    "fsync",
    "replace",
    "rename",
    "mkdir",
    "close",
    "unlink",
    "rmdir",
    "listdir",
)
LASTING = (*WRITES, "fsync", "mkdir")
FAULTS = ("kill", "tear", "ENOSPC", "EIO", "lasting ENOSPC", "short")
FILES, NEW_FILES = build_files(1), build_files(2)


def install(at: int, fault: str, trace: list[str]) -> None:
    """Make the `at`-th call fail."""

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            trace.append(name)
            now = len(trace) - 1
            if fault == "lasting ENOSPC" and now >= at and name in LASTING:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if now != at:
                return real(*arguments, **named)
            if fault in ("tear", "short") and name in WRITES:
                written = real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2 or 1], *arguments[2:])
                if fault == "short":
                    return written
            if fault in ("kill", "tear"):
                os.kill(os.getpid(), signal.SIGKILL)
            if fault in ("ENOSPC", "EIO"):
                if name == "close":
                    real(*arguments)  # the descriptor is gone even when close fails
                raise OSError(getattr(errno, fault), os.strerror(getattr(errno, fault)))
            return real(*arguments, **named)

        return call

    for name in CALLS:
        setattr(os, name, wrap(name, getattr(os, name)))
    fcntl.flock = wrap("flock", fcntl.flock)


def fork(action: Callable[[], None], at: int, fault: str) -> tuple[str, list[str]]:
    """What became of the action, and the calls it made (known only when it was not killed)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        trace: list[str] = []
        real_write, real_exit = os.write, os._exit
        install(at, fault, trace)
        try:
            action()
            outcome = "done"
        except BundleError as error:
            outcome = f"BundleError {error}"
        except BaseException as error:
            outcome = f"WRONG {error!r}"
        real_write(writer, json.dumps([outcome, trace]).encode())
        real_exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    if not answer:
        return "killed", []
    outcome, calls = json.loads(answer)
    return outcome, calls


def parts(folder: Path) -> list[str]:
    return [str(p) for p in folder.rglob(".*.part")]


def trial_write(folder: Path, at: int, fault: str, tally: dict[str, Any]) -> list[str]:
    """Replace an old bundle by a new one."""
    path = folder / "b.edgekit"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    build_bundle(path, FILES)
    old = path.read_bytes()
    build_bundle(folder / "new", NEW_FILES)
    new = (folder / "new").read_bytes()
    (folder / "new").unlink()
    outcome, calls = fork(lambda: build_bundle(path, NEW_FILES) and None, at, fault)
    found = path.read_bytes()
    if found not in (old, new) or outcome.startswith("WRONG") or (outcome == "done" and found != new):
        tally["torn"].append([at, fault, outcome])
    if outcome != "killed" and set(os.listdir(folder)) != {"b.edgekit"}:
        tally["left"].append([at, fault, outcome, os.listdir(folder)])
    if outcome.startswith("BundleError") and str(path) not in outcome:
        tally["unnamed"].append([at, fault, outcome])
    tally["outcomes"][outcome.split()[0]] = tally["outcomes"].get(outcome.split()[0], 0) + 1
    tally["old" if found == old else "new"] += 1
    build_bundle(path, NEW_FILES)
    if set(os.listdir(folder)) != {"b.edgekit"} or path.read_bytes() != new:
        tally["left"].append([at, fault, "after the next writer", os.listdir(folder)])
    return calls


def trial_open(folder: Path, at: int, fault: str, tally: dict[str, Any]) -> list[str]:
    """Open a bundle file with an empty cache."""
    path, cache = folder / "b.edgekit", folder / "cache"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    build_bundle(path, FILES)
    os.environ["EDGEKIT_CACHE"] = str(cache)

    def action() -> None:
        with open_bundle(path) as opened:
            for name, data in FILES.items():
                if opened.read(name, 1000) != data:
                    raise RuntimeError(name)

    outcome, calls = fork(action, at, fault)
    entries = list((cache / "bundles").glob("[!.]*"))
    for entry in entries:
        try:
            open_bundle(entry, verify="full").close()
        except BundleError as error:
            tally["torn"].append([at, fault, outcome, str(error)])
    if outcome.startswith("WRONG"):
        tally["torn"].append([at, fault, outcome])
    if outcome != "killed" and (parts(folder) or set(os.listdir(folder)) - {"b.edgekit", "cache"}):
        tally["left"].append([at, fault, outcome, parts(folder)])
    tally["outcomes"][outcome.split()[0]] = tally["outcomes"].get(outcome.split()[0], 0) + 1
    tally["new" if entries else "old"] += 1
    action()
    if entries:
        shutil.rmtree(entries[0])
        action()
    if parts(cache / "bundles"):
        tally["left"].append([at, fault, "after the next reader", parts(folder)])
    verify(path)
    return calls


def main() -> None:
    trial = {"write": trial_write, "open": trial_open}[sys.argv[1]]
    folder = Path(sys.argv[2])
    time.sleep = lambda seconds: None  # fresh files are waited for; nobody swaps them here
    tally: dict[str, Any] = {"torn": [], "left": [], "unnamed": [], "outcomes": {}, "old": 0, "new": 0}
    calls = trial(folder, -1, "none", tally)
    for at in range(len(calls)):
        for fault in FAULTS:
            if fault in ("tear", "short") and calls[at] not in WRITES:
                continue
            trial(folder, at, fault, tally)
    print(json.dumps({**tally, "calls": calls}))


main()
