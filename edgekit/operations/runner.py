"""The user's `benchmark_model` on a device without Python: found, brought there once, and run step by step.

<root>/runners/<sha256>/benchmark_model     shared by every app, hashed on the device
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from edgekit.devices import Device, Facts
from edgekit.devices.command_scripts import LIMITED
from edgekit.devices.device import run_script
from edgekit.devices.transfer import transfer_timeout_s
from edgekit.errors import BackendError, InputError, TargetError, TransportError
from edgekit.manifest import Manifest
from edgekit.profiling.benchmark_model import NAME, arguments, complaints

PREBUILT = "android_aarch64_benchmark_model"
"""What TensorFlow calls its own build for arm64 phones."""

HINT = (
    "give TensorFlow Lite's benchmark_model for arm64 Android: --runner FILE, or put it beside the SDK (ANDROID_HOME)"
)
SHORT_S = 60.0
ANSWER_S = 30.0

_ELF_MACHINES = {"aarch64": 183, "armv8l": 183, "x86_64": 62}
"""e_machine of the ELF specification: EM_AARCH64, EM_X86_64."""

_HAVE = """
if [ -x "$1" ] && [ "$(sha256sum < "$1" | head -c 64)" = "$2" ]; then echo yes; else echo no; fi
mkdir -p "${1%/*}"
"""

# new file, its place, its hash
_ACCEPT = """
if [ "$(sha256sum < "$1" | head -c 64)" != "$3" ]; then rm -f "$1"; echo altered; exit 0; fi
chmod 755 "$1"
mv -f "$1" "$2"
echo fine
"""

# folder seconds program flags...: both outputs and how it ended. See LIMITED for why the code has a file.
_RUN = """
cd "$1"
limit=$2
shift 2
rm -f code
set +e
limited "$limit" sh -c '"$@"; echo $? > code' sh "$@" > stdout 2> stderr < /dev/null
ended=$?
set -e
if [ -f code ]; then ended=$(cat code); fi
echo "edgekit:code $ended"
cat stdout
echo
echo edgekit:stderr
cat stderr
echo
"""


class Shell(Protocol):
    """How scripts run on the device: plainly, or under a deployment's lock."""

    def __call__(self, body: str, *arguments: str, timeout_s: float) -> list[str]:
        """The lines that a script printed."""


class Ended(NamedTuple):
    """How the program ended."""

    code: int
    stdout: str
    stderr: str


class Runner(NamedTuple):
    """A `benchmark_model` in its place on a device. sha256: of its bytes, the only version it has."""

    device: Device
    path: str
    sha256: str
    shell: Shell

    def run(self, folder: str, flags: Mapping[str, object], *, timeout_s: float) -> Ended:
        """Run it in a folder of the device. Raises TargetError where it cannot start, TransportError."""
        words = [folder, str(max(1, int(timeout_s))), self.path, *arguments(flags)]
        lines = self.shell(LIMITED + _RUN, *words, timeout_s=timeout_s + ANSWER_S)
        mark = len(lines) - 1 - lines[::-1].index("edgekit:stderr") if "edgekit:stderr" in lines else -1
        code = lines[0].removeprefix("edgekit:code ") if lines else ""
        if mark < 0 or not code.isdigit():
            raise TransportError(f"{self.device.name}: {NAME} ended without saying how: {lines[:1]!r}")
        ended = Ended(int(code), "\n".join(lines[1:mark]), "\n".join(lines[mark + 1 :]))
        if ended.code in (126, 127):
            raise TargetError(
                f"{self.device.name}: the runner cannot be started there: {complaints('', ended.stderr)}", hint=HINT
            )
        return ended

    def told(self, ended: Ended) -> BackendError:
        """The error of a run that failed."""
        how = {124: "did not end in time"}.get(ended.code, f"ended with {ended.code}")
        if ended.code > 128:
            how = f"was killed by signal {ended.code - 128}"
        return BackendError(f"{self.device.name}: {NAME} {how}: {complaints(ended.stdout, ended.stderr)}")


def find_runner(named: Path | None) -> Path | None:
    """The program that was named, or one found beside the Android SDK or on PATH; null where there is none.

    Raises InputError where the named one is no file.
    """
    if named is not None:
        if not named.is_file():
            raise InputError(f"--runner: there is no file {named}", hint=HINT)
        return named
    folders = [Path(os.environ[key]) for key in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if os.environ.get(key)]
    places = [folder / part for folder in folders for part in ("", "platform-tools", "..")]
    beside = [place / name for place in places for name in (PREBUILT, NAME)]
    found = next((path for path in beside if path.is_file()), None)
    on_path = shutil.which(PREBUILT) or shutil.which(NAME)
    return found or (Path(on_path) if on_path else None)


def usable_runner(named: Path | None, name: str, facts: Facts) -> Path | None:
    """As find_runner; a program for another processor is refused where it was named, else passed over."""
    path = find_runner(named)
    if path is None:
        return None
    with path.open("rb") as file:
        head = file.read(20)
    wanted = _ELF_MACHINES.get(facts.machine)
    machine = int.from_bytes(head[18:20], "little") if head[:4] == b"\x7fELF" else wanted
    if machine == wanted:
        return path
    if named is None:
        return None
    raise TargetError(
        f"{name}: {path} is for another processor (ELF machine {machine}), {facts.machine} needs {wanted}"
    )


def demand_runner(name: str, facts: Facts, named: str | None, *, unverified: bool) -> Path | None:
    """The program that checks a deployment; null only where the person does without the check."""
    runner = usable_runner(None if named is None else Path(named), name, facts)
    if runner is None and not unverified:
        raise TargetError(
            f"{name} has no Python, so the golden check needs a runner there",
            hint=f"{HINT}; or --unverified deploys without the check, and status says so",
        )
    return None if unverified and named is None else runner


def refuse_other_graphs(name: str, manifest: Manifest) -> None:
    """Raise TargetError where `benchmark_model` cannot run a graph of the bundle."""
    others = [graph.file for graph in manifest.graphs if graph.runtime != "litert"]
    if others:
        raise TargetError(
            f"{name}: the runner runs TFLite graphs, {others[0]} is none", hint="package for --target android-arm64"
        )


def install(device: Device, path: Path, shell: Shell | None = None) -> Runner:
    """Bring the program to its place on the device, unless it is there. Raises InputError, TransportError."""

    def plain(body: str, *words: str, timeout_s: float) -> list[str]:
        return run_script(device, body, *words, timeout_s=timeout_s)

    run = shell or plain
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    digest = hashlib.sha256(data).hexdigest()
    place = f"{device.root}/runners/{digest}/{NAME}"
    if run(_HAVE, place, digest, timeout_s=SHORT_S) != ["yes"]:
        timeout_s = transfer_timeout_s(len(data))
        device.transport.put(path, f"{place}.new", start=0, size=len(data), append=False, timeout_s=timeout_s)
        if run(_ACCEPT, f"{place}.new", place, digest, timeout_s=SHORT_S) != ["fine"]:
            raise TransportError(f"{device.name}: the runner arrived altered", hint="try again")
    return Runner(device=device, path=place, sha256=digest, shell=run)
