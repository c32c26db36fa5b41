"""Asking an app on a device: files go there, its own edgekit answers, the files go away again."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgekit import errors
from edgekit.devices import Device, Facts, read_facts
from edgekit.devices.device import read_reply, run_script
from edgekit.devices.release import incoming_folder
from edgekit.devices.scripts import BEGIN, END, PRELUDE
from edgekit.devices.transfer import transfer_timeout_s
from edgekit.devices.transports.process import demand
from edgekit.errors import BundleError, EdgekitError, InputError, TargetError, TransportError
from edgekit.installed import check_app
from edgekit.operations.devices import edgekit_command, is_local, opened
from edgekit.records import Record

ANSWER_S = 600.0
SHORT_S = 60.0
SWEPT_TRIES = 3
"""A deployment that ends meanwhile sweeps `incoming`, inputs included; then they are sent again."""

_MAKE = 'mkdir -p "$1"'
_REMOVE = 'rm -rf "$1"'

# folder root command...: runs it there; the folder goes whatever happens, also when nobody listens any more.
_ASK = f"""
folder=$1 root=$2
shift 2
if [ "$folder" ]; then trap 'rm -rf "$folder"' EXIT; fi
cd "$root"
echo {BEGIN}
code=0
EDGEKIT_ROOT=$root "$@" < /dev/null || code=$?
if [ "$folder" ] && [ ! -d "$folder" ]; then swept=yes; else swept=no; fi
printf '\\nedgekit:code %s %s\\n' $code $swept
echo {END}
"""

_CODE = re.compile(r"edgekit:code (\d+) (yes|no)")
_KINDS: dict[int, type[EdgekitError]] = {
    kind.exit_code: kind
    for kind in (
        *(errors.BundleError, errors.InputError, errors.BackendError, errors.TargetError, errors.TransportError),
        *(errors.DeployError, errors.GateFailed, errors.GateInconclusive),
    )
}


class Answer(Record):
    """How a command of the device's edgekit ended. swept: its input files were taken away meanwhile."""

    code: int
    output: str
    said: str
    swept: bool


def error_of(code: int, message: str, hint: str | None = None) -> EdgekitError:
    """The error that ended a command of the device with this exit code."""
    return _KINDS.get(code, EdgekitError)(message, hint=hint)


def predict_there(
    app: str, name: str, *, image: str | None, audio: str | None, texts: Sequence[str], as_json: bool
) -> str:
    """What the device's edgekit prints for one predict of an app; raises the error that it ended with."""
    check_app(app)
    files = {kind: Path(path) for kind, path in (("image", image), ("audio", audio)) if path is not None}
    with opened(name) as device:
        facts = read_facts(device)
        refuse_without_python(name, facts)
        if app not in {a.app for a in facts.apps}:
            raise BundleError(f"no app '{app}' on {name}", hint=f"edgekit deploy SOURCE {name} --app {app}")
        command = [*edgekit_command(is_local(name), facts.root), "predict", app, *(["--json"] if as_json else [])]
        command += [f"--text={text}" for text in texts]
        for _ in range(SWEPT_TRIES):
            with sent(device.replace(root=facts.root), files) as (folder, there):
                options = [f"--{kind}={path}" for kind, path in there.items()]
                answer = ask(device, facts.root, [*command, *options], folder=folder, timeout_s=ANSWER_S)
            if not answer.swept:
                break
    _raise_unless_fine(answer, name, {path: str(files[kind]) for kind, path in there.items()})
    return answer.output


def refuse_without_python(name: str, facts: Facts) -> None:
    """Raise TargetError where edgekit cannot run on the device itself."""
    if not facts.python:
        raise TargetError(f"{name} has no Python, so edgekit does not run there", hint="an app in Java predicts there")


def _raise_unless_fine(answer: Answer, name: str, names: Mapping[str, str]) -> None:
    if answer.code == 0:
        return
    said = answer.said.strip()
    for there, here in names.items():
        said = said.replace(there, here)
    message, _, hint = said.removeprefix("error: ").partition("\nhint: ")
    raise error_of(answer.code, f"{name}: {message[-2000:] or f'ended with {answer.code}'}", hint or None)


@contextlib.contextmanager
def sent(device: Device, files: Mapping[str, Path]) -> Iterator[tuple[str, dict[str, str]]]:
    """A folder on the device with these files, and their paths there by key; gone when the block ends."""
    if not files:
        yield "", {}
        return
    folder = incoming_folder(device.root, f"input-{secrets.token_hex(8)}")
    try:
        run_script(device, _MAKE, folder, timeout_s=SHORT_S)
        yield folder, put_files(device, folder, files)
    finally:
        with contextlib.suppress(EdgekitError):
            run_script(device, _REMOVE, folder, timeout_s=SHORT_S)


def put_files(device: Device, folder: str, files: Mapping[str, Path]) -> dict[str, str]:
    """Send files into a folder of the device under names of its own; gives their paths there by key."""
    there = {}
    for key, path in files.items():
        suffix = path.suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", path.suffix) else ""
        try:
            size = path.stat().st_size
        except OSError as error:
            raise InputError(f"{key}: cannot read {path}: {error.strerror}") from None
        there[key] = f"{folder}/{key}{suffix}"
        device.transport.put(path, there[key], start=0, size=size, append=False, timeout_s=transfer_timeout_s(size))
    return there


def ask(device: Device, root: str, command: Sequence[str], *, folder: str = "", timeout_s: float) -> Answer:
    """Run a command on the device in edgekit's folder there; `folder` is removed when it ends.

    Raises TransportError when it cannot be reached or does not end in time.
    """
    what = f"a command on {device.name}"
    words = ["sh", "-c", PRELUDE + _ASK, "edgekit", folder, root, *command]
    done = device.transport.run(words, timeout_s=timeout_s)
    lines = read_reply(demand(done, what), what)
    match = _CODE.fullmatch(lines[-1]) if lines else None
    if match is None:
        raise TransportError(f"{what} ended without saying how: {lines[-1:]!r}")
    output = "\n".join(lines[:-1]).removesuffix("\n")
    said = done.stderr.decode("utf-8", "replace")
    return Answer(code=int(match[1]), output=output, said=said, swept=match[2] == "yes")
