"""Devices to deploy to in tests: a folder with a transport, faults on the way, and an eye of its own on the result."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle import write_bundle
from edgekit.devices import NO_LAYER, Checks, Device, Layer, Outcome, Payload, Request, deploy, read_payload
from edgekit.devices.lock import Owner
from edgekit.devices.transports import Completed, OnBytes
from edgekit.devices.transports.local import LocalTransport
from edgekit.errors import TransportError
from edgekit.manifest import FORMAT, FileFact, Limits, Manifest, RunSettings
from edgekit.specs.post import Raw

APP = "everything"
LARGE_BYTES = 300 << 10  # more than travels in a batch, so that it goes by put

# The first line of labels.txt says how the check of that bundle goes.
CHECK = """
IFS= read -r line < "$1/bundle/labels.txt"
case $line in
  fail) echo '{"passed": false}'; exit 9 ;;
  exit*) exit "${line#exit }" ;;
  hang) sleep 30 ;;
  signal*) kill -"${line#signal }" $$ ;;
  full-memory) ulimit -v 20000; x=x; while :; do x=$x$x; done ;;
  *) test -s "$1/bundle/manifest.json" && test -s "$1/release.json" && echo '{"passed": true}' ;;
esac
"""


def checks(timeout_s: float = 20.0) -> Checks:
    return Checks(
        golden=lambda folder: ["sh", "-c", CHECK, "check", folder],
        golden_timeout_s=timeout_s,
        warm=None,
        warm_timeout_s=1,
    )


def build_files() -> dict[str, bytes]:
    """The files of a bundle; nothing here is run, so the graphs are random bytes."""
    pick = random.Random(3)
    return {
        "audio.tflite": pick.randbytes(300),
        "golden/audio.bin": pick.randbytes(24),
        "image.onnx": pick.randbytes(500),
        "image.onnx.data": pick.randbytes(700),
        "text/tokenizer.json": b"{}",
    }


def build_manifest(files: dict[str, bytes], version: str) -> Manifest:
    """The smallest manifest over these files."""
    facts = {n: FileFact(size=len(d), sha256=hashlib.sha256(d).hexdigest()) for n, d in files.items()}
    limits = {
        name: 1.0 if kind == "float" else 1 for name, kind in Limits.__annotations__.items() if name in Limits.fields_
    }
    fields: dict[str, Any] = dict.fromkeys(Manifest.fields_)  # what only some models have stays null
    fields.update(
        format=FORMAT,
        name=APP,
        version=version,
        task="feature-extraction",
        license="Apache-2.0",
        source="made for tests",
        inputs={},
        graphs=(),
        postprocess=Raw(task="raw", values=()),
        generation=None,
        golden=(),
        limits=Limits(**limits),
        target="linux-x86_64",
        run=RunSettings(threads=1, spinning=False, providers=(), fallback=False),
        requires={},
        files=facts,
    )
    return Manifest(**fields)


def make_bundle(
    folder: Path, version: str, *, labels: bytes = b"cat\ndog\n", large: int = LARGE_BYTES, **files: bytes
) -> Payload:
    """A real bundle; versions differ in one graph, and the large file is the same in all."""
    contents = {**build_files(), "labels.txt": labels, "golden/large.bin": random.Random(7).randbytes(large)}
    contents["image.onnx"] = version.encode() * 50
    contents.update({name.replace("__", "."): data for name, data in files.items()})
    path = folder / f"{version}-{hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:8]}.edgekit"
    if not path.exists():
        write_bundle(path, build_manifest(contents, version), lambda name: io.BytesIO(contents[name]))
    return read_payload(path)


def make_request(payload: Payload, **changes: Any) -> Request:
    fields: dict[str, Any] = {
        "app": APP,
        "payload": payload,
        "layer": Layer(digest=NO_LAYER, contents=()),
        "settings": {},
        "restart": None,
        "disk_floor_bytes": 1 << 20,
        "machines": (),
        "ram_bytes": None,
        "allow_downgrade": False,
        "force": False,
    }
    return Request(**{**fields, **changes})


def local_device(root: Path, transport: Any = None) -> Device:
    return Device(name="the device", root=str(root), transport=transport or LocalTransport())


def dead_owner(seed: int) -> Owner:
    """A deployer on this machine, in this boot, whose process is gone."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Owner(host_boot=boot, pid=0x7FFFFFFF, started=1, token=f"{seed:016x}")


def install(root: Path, payload: Payload, **changes: Any) -> Outcome:
    return deploy(local_device(root), make_request(payload, **changes), checks())


def what_runs(root: Path, app: str = APP) -> str | None:
    """The bundle digest of the current release, after a look at every byte of it; AssertionError when it is broken."""
    state_path = root / "apps" / app / "state.json"
    if not state_path.exists():
        return None
    state = json.loads(state_path.read_bytes())
    assert sorted(state) == ["bad", "current", "previous"]
    for release in {state["current"], state["previous"]} - {None}:
        check_release(root / "apps" / app / "releases" / release)
    if state["current"] is None:
        return None
    record = json.loads((root / "apps" / app / "releases" / state["current"] / "release.json").read_bytes())
    digest: str = record["bundle"]
    return digest


def check_release(folder: Path) -> None:
    """A release folder is whole: plain files only, exactly those of the manifest, with its hashes, under its id."""
    record = json.loads((folder / "release.json").read_bytes())
    three = {key: record[key] for key in ("bundle", "layer", "settings")}
    canonical = json.dumps(three, sort_keys=True, separators=(",", ":")).encode()
    assert hashlib.sha256(canonical).hexdigest() == folder.name
    manifest_bytes = (folder / "bundle" / "manifest.json").read_bytes()
    assert hashlib.sha256(manifest_bytes).hexdigest() == record["bundle"]
    files = json.loads(manifest_bytes)["files"]
    found = {str(p.relative_to(folder / "bundle")): p for p in (folder / "bundle").rglob("*") if not p.is_dir()}
    assert found.keys() == files.keys() | {"manifest.json"}
    for name, fact in files.items():
        mode = found[name].lstat().st_mode
        assert stat.S_ISREG(mode), f"{name} is not a plain file"
        assert not mode & 0o222, f"{name} can be written"
        assert found[name].lstat().st_nlink == 1, f"{name} is linked"
        assert hashlib.sha256(found[name].read_bytes()).hexdigest() == fact["sha256"], f"{name} is altered"


class HostKilled(BaseException):
    """The deploying process is gone: nothing after this point runs."""


@dataclass(frozen=True)
class Fault:
    """`at`: the number of the call, or of the device's command, that it strikes. when: before, after, or a variant."""

    kind: str
    at: int
    when: str = "before"


CALL_FAULTS = (
    *(("host killed", when) for when in ("before", "after", "half")),
    *(("device killed", when) for when in ("before", "after")),
    *(("link cut", when) for when in ("before", "after", "half")),
    *(("garbage reply", when) for when in ("empty", "half", "noise", "code")),
    ("clock jump", "before"),
)
COMMAND_FAULTS = ("device killed", "device gone", "no space", "i/o error", "read-only")

SHIM = """#!/bin/sh
name=${0##*/}
read -r n < "$EK_FAULT/count"
n=$((n + 1))
echo $n > "$EK_FAULT/count"
fail() { echo "$name: $1" >&2; exit 1; }
torn() {  # of the files that a cp was to copy the first is there, the second in part; of a tar's each is in part
  if [ $name = tar ]; then
    /usr/bin/tar -v "$@" | while read -r file; do
      if [ -f "$file" ]; then /usr/bin/head -c 5 "$file" > .part; /usr/bin/mv .part "$file"; fi
    done
  fi
  if [ $name != cp ]; then return; fi
  for last; do :; done
  if [ $# -gt 2 ]; then /usr/bin/cp "$1" "$last"; shift; fi
  if [ -d "$last" ]; then last=$last/${1##*/}; fi
  /usr/bin/head -c 5 "$1" > "$last"
}
if [ $name = date ]; then echo 2000000000; exit 0; fi
if [ $n -ge $EK_AT ]; then
  case $EK_KIND-$name in
    no\\ space-mkdir|no\\ space-cp|no\\ space-tar|no\\ space-ln|no\\ space-cat|no\\ space-tee)
      torn "$@"
      fail "write error: No space left on device" ;;
    read-only-mkdir|read-only-cp|read-only-tar|read-only-ln|read-only-mv|read-only-rm|read-only-chmod)
      fail "Read-only file system" ;;
  esac
fi
if [ $n -eq $EK_AT ]; then
  case $EK_KIND in
    device\\ killed|device\\ gone) torn "$@"; kill -9 0 ;;
    i/o\\ error) torn "$@"; fail "Input/output error" ;;
  esac
fi
exec /usr/bin/$name "$@"
"""
SHIMMED = (
    "mkdir",
    "mv",
    "cp",
    "rm",
    "ln",
    "sync",
    "tar",
    "chmod",
    "wc",
    "sha256sum",
    "cat",
    "readlink",
    "date",
    "timeout",
    "flock",
    "head",
)


def make_shims(folder: Path) -> Path:
    """Programs that stand before the real ones on PATH, count their calls, and fail when it is their turn."""
    folder.mkdir()
    (folder / "shim").write_text(SHIM)
    (folder / "shim").chmod(0o755)
    for name in SHIMMED:
        (folder / name).symlink_to("shim")
    return folder


class FaultTransport:
    """A transport to which one fault happens."""

    def __init__(self, fault: Fault, shims: Path, scratch: Path, *, by_command: bool, seed: int = 0) -> None:
        self.inner = LocalTransport()
        self.fault = fault
        self.shims = shims
        self.scratch = scratch
        self.by_command = by_command
        self.random = random.Random(seed)
        self.calls = 0
        self.payload_bytes = 0
        self.struck = False
        scratch.mkdir(parents=True, exist_ok=True)
        (scratch / "count").write_text("0\n")

    @property
    def commands(self) -> int:
        """How many shimmed programs ran."""
        return int((self.scratch / "count").read_text() or 0)

    def run(self, argv: Sequence[str], *, stdin: bytes | None = None, timeout_s: float) -> Completed:
        if self.by_command:
            self._gone()
            return self._through(argv, stdin, timeout_s, self.fault.kind, self.fault.at)
        self.calls += 1
        mine = self._strike(lambda: self._plain(argv, stdin, timeout_s))
        done = self._plain(argv, stdin, timeout_s)
        return self._after(mine, done)

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
        def part(share: int) -> None:
            self.inner.put(
                source, target, start=start, size=share, append=append, timeout_s=timeout_s, on_bytes=on_bytes
            )

        if self.by_command:
            self._gone()
            if self.fault.kind == "no space" and 0 < self.fault.at <= self.commands:
                part(size // 3)
                raise TransportError("cat: write error: No space left on device")
            part(size)
            return
        self.calls += 1
        mine = self._strike(lambda: part(size // 2))
        part(size)
        self._after(mine, Completed(returncode=0, stdout=b"", stderr=b""))

    def get(self, source: str, target: Path, *, timeout_s: float) -> None:
        self.inner.get(source, target, timeout_s=timeout_s)

    def _gone(self) -> None:
        if self.fault.kind == "device gone" and self.commands >= self.fault.at:
            raise TransportError("the device is gone")

    def _plain(self, argv: Sequence[str], stdin: bytes | None, timeout_s: float) -> Completed:
        if self.fault.kind == "clock jump" and self.calls >= self.fault.at:
            self.struck = True
            return self._through(argv, stdin, timeout_s, "none", 10**9)
        return self.inner.run(argv, stdin=stdin, timeout_s=timeout_s)

    def _through(self, argv: Sequence[str], stdin: bytes | None, timeout_s: float, kind: str, at: int) -> Completed:
        path = f"{self.shims}:{os.environ['PATH']}"
        if kind != "none" and at <= self.commands:
            self.struck = True
        words = ["env", f"PATH={path}", f"EK_FAULT={self.scratch}", f"EK_AT={at}", f"EK_KIND={kind}", *argv]
        return self.inner.run(words, stdin=stdin, timeout_s=timeout_s)

    def _strike(self, half: Any) -> bool:
        """What happens instead of a call; True when this call's answer is to be spoiled."""
        kind, when = self.fault.kind, self.fault.when
        if self.struck and kind == "host killed":
            raise HostKilled
        if self.struck and kind == "link cut":
            raise TransportError("the link is down")
        if self.calls != self.fault.at or kind == "clock jump":
            return False
        self.struck = True
        if when == "half" and kind in ("host killed", "link cut"):
            half()
        if when in ("before", "half"):
            if kind == "host killed":
                raise HostKilled
            if kind == "link cut":
                raise TransportError("the link went down")
            if kind == "device killed":
                raise TransportError("the device's command was killed by signal 9")
        return True

    def _after(self, mine: bool, done: Completed) -> Completed:
        if not mine:
            return done
        kind, when = self.fault.kind, self.fault.when
        if kind == "host killed":
            raise HostKilled
        if kind == "link cut":
            raise TransportError("the link went down")
        if kind == "device killed":
            return Completed(returncode=-9, stdout=b"", stderr=b"")
        noise = {
            "empty": b"",
            "half": done.stdout[: len(done.stdout) // 2],
            "noise": self.random.randbytes(300),
            "code": done.stdout,
        }[when]
        return Completed(returncode=7 if when == "code" else 0, stdout=noise, stderr=b"")


def memory_folder(fallback: Path) -> Path:
    """A folder in memory where there is one: thousands of syncs of a busy disk would take hours and prove nothing."""
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="edgekit-", dir=shm)) if os.access(shm, os.W_OK) else fallback


def copy_device(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, symlinks=True)
    return target
