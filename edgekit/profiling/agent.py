"""The command that profiles on a device, and goes on when the link to it is cut.

    python -m edgekit.profiling.agent start FOLDER OPTIONS     begins in a process of its own, prints its id
    python -m edgekit.profiling.agent follow FOLDER            prints progress until it ends, then how it ended
    python -m edgekit.profiling.agent fetch FOLDER             prints the report, of a cut profile what there is
    python -m edgekit.profiling.agent run FOLDER               what `start` starts

OPTIONS is the JSON of options.Options. In FOLDER: options.json, journal.jsonl, progress.txt, agent.json (the
process), outcome.json (written last). `follow` and `fetch` may be called again and again, after any number of cuts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from edgekit.errors import EdgekitError, InputError
from edgekit.installed import RECORD_NAME
from edgekit.profiling.children import child_environment
from edgekit.profiling.options import Options, dump_options, parse_options
from edgekit.records import Json

OPTIONS, JOURNAL, PROGRESS, PROCESS, OUTCOME = (
    "options.json",
    "journal.jsonl",
    "progress.txt",
    "agent.json",
    "outcome.json",
)
FOLLOW_STEP_S = 0.2


def main(arguments: Sequence[str]) -> int:
    """The command; 0, or the exit code of the error whose message is printed to stderr."""
    verbs = {"start": 2, "follow": 1, "fetch": 1, "run": 1}
    if not arguments or verbs.get(arguments[0]) != len(arguments) - 1:
        print("usage: agent start FOLDER OPTIONS | follow FOLDER | fetch FOLDER | run FOLDER", file=sys.stderr)
        return 2
    verb, folder = arguments[0], Path(arguments[1])
    try:
        if verb == "start":
            print(start(folder, arguments[2].encode()))
        elif verb == "follow":
            return follow(folder)
        elif verb == "fetch":
            sys.stdout.buffer.write(fetch(folder))
        else:
            return run(folder)
    except EdgekitError as error:
        print(f"edgekit: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def start(folder: Path, document: bytes, *, python: str = sys.executable) -> int:
    """Begin a profile in a session of its own, so that no hang-up of the link ends it; gives its process id."""
    options = parse_options(document)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / JOURNAL).exists():
            raise InputError(f"{folder} holds a profile already", hint="fetch it, or take another folder")
        (folder / OPTIONS).write_text(json.dumps(dump_options(options)))
        with open(folder / PROGRESS, "wb") as progress:
            process = subprocess.Popen(
                (python, "-m", "edgekit.profiling.agent", "run", str(folder)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=progress,
                start_new_session=True,
                env=child_environment(),
            )
        _write(folder / PROCESS, {"pid": process.pid, "began": _process_start(process.pid)})
    except OSError as error:
        raise InputError(f"the profile cannot begin in {folder}: {error.strerror}") from None
    return process.pid


def run(folder: Path) -> int:
    """Profile as FOLDER's options say, write the journal, and the outcome when it is over."""
    from edgekit.profiling.journal import Journal
    from edgekit.profiling.profile import profile

    outcome: dict[str, Json]
    try:
        options = parse_options((folder / OPTIONS).read_bytes())
        with _held(options), Journal(folder / JOURNAL) as journal:
            profile(options, journal=journal, progress=_say)
        outcome = {"exit_code": 0, "message": "", "hint": None}
    except EdgekitError as error:
        outcome = {"exit_code": error.exit_code, "message": error.message, "hint": error.hint}
    except MemoryError:
        outcome = {"exit_code": 5, "message": "the device ran out of memory", "hint": None}
    except Exception as error:
        outcome = {"exit_code": 1, "message": f"{type(error).__name__}: {error}", "hint": None}
    _write(folder / OUTCOME, outcome)
    return int(outcome["exit_code"])


@contextmanager
def _held(options: Options) -> Iterator[None]:
    """Nobody collects the releases that are measured, whatever is deployed meanwhile."""
    from edgekit.releases import Held

    with ExitStack() as stack:
        for bundle in (options.bundle, *options.variants.values()):
            if (Path(bundle).parent / RECORD_NAME).is_file():
                stack.enter_context(Held(Path(bundle).parent))
        yield


def _say(line: str) -> None:
    """A line of progress; a full disk must not end the measuring."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def follow(folder: Path) -> int:
    """Print the progress until the profile is over; gives its exit code, 7 where its process is gone without one."""
    shown = 0
    while True:
        over = (folder / OUTCOME).is_file()
        alive = over or is_alive(folder)
        try:
            text = (folder / PROGRESS).read_bytes()
        except OSError:
            raise InputError(f"there is no profile in {folder}") from None
        sys.stdout.write(text[shown:].decode("utf-8", "replace"))
        sys.stdout.flush()
        shown = len(text)
        if over:
            return report_outcome(folder)
        if not alive:
            print("edgekit: the profile's process is gone (reboot, out of memory, killed)", file=sys.stderr)
            return 7
        time.sleep(FOLLOW_STEP_S)


def report_outcome(folder: Path) -> int:
    """The exit code of a profile that is over; its message goes to stderr."""
    outcome = json.loads((folder / OUTCOME).read_bytes())
    if outcome["message"]:
        print(f"edgekit: {outcome['message']}", file=sys.stderr)
    return int(outcome["exit_code"])


def fetch(folder: Path) -> bytes:
    """The report as JSON, marked incomplete where the profile did not come to its end. Raises InputError."""
    from edgekit.profiling.report import dump_report
    from edgekit.profiling.resume import resume

    return dump_report(resume(folder / JOURNAL))


def is_alive(folder: Path) -> bool:
    """Whether the process that profiles is still there: its id alone may have been given to another one."""
    try:
        told = json.loads((folder / PROCESS).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(_process_start(int(told["pid"])) == told["began"] and told["began"] is not None)


def _process_start(pid: int) -> str | None:
    """When a process began, in the kernel's ticks with the boot's id; null where there is none (proc(5), field 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] == "Z" else f"{boot} {fields[19]}"


def _write(path: Path, document: Json) -> None:
    """Write a file whole or not at all."""
    part = path.with_suffix(".part")
    with open(part, "w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
