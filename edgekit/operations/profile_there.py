"""`profile --on DEVICE`: the agent measures there in a process of its own; a cut link costs nothing that was measured.

    <root>/profiles/<app>/     options, journal, progress and outcome of one profile, until its report was fetched

What is not deployed there is brought under a name of its own, which is removed afterwards; no other app is touched.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.devices import Device, Facts, read_facts, read_payload
from edgekit.devices import remove as remove_app
from edgekit.devices.device import run_script
from edgekit.errors import EdgekitError, InputError, ManifestError, TransportError
from edgekit.installed import BUNDLE_FOLDER
from edgekit.operations.deploy import Source, Wanted, bring, find_kind, manifest_of, wanted
from edgekit.operations.devices import is_local, opened
from edgekit.operations.package import Note
from edgekit.operations.placing import (
    CUT_S,
    POLL_S,
    Answer,
    Placed,
    placed_app,
    refuse_to_bring,
    temporary_app,
    through_cuts,
)
from edgekit.operations.remote import SHORT_S, ask, error_of, put_files, refuse_without_python
from edgekit.profiling.options import dump_options, options_for
from edgekit.profiling.report import Report, load_report
from edgekit.profiling.workload import Workload, given_workload
from edgekit.records import Record, load_json

STARTED_S = 120.0
FETCH_S = 600.0
POLL_ANSWER_S = 15.0

# folder: made anew.
_BEGIN = 'rm -rf "$1"\nmkdir -p "$1"'

# folder, bytes shown so far: whether it began, how it ended, whether its process is there, and what it said since.
_LOOK = """
look() {
  if [ ! -f "$1/agent.json" ]; then echo absent; return; fi
  cd "$1"
  if [ -f outcome.json ]; then
    printf 'over %s\\n' "$(cat outcome.json)"
  else
    pid=$(cat agent.json)
    pid=${pid#*'"pid": '}
    pid=${pid%%,*}
    printf 'agent %s\\n' "$(cat agent.json)"
    if [ -r "/proc/$pid/stat" ]; then printf 'stat %s\\n' "$(cat "/proc/$pid/stat")"; fi
    printf 'boot %s\\n' "$(cat /proc/sys/kernel/random/boot_id)"
  fi
  echo progress
  tail -c "+$(($2 + 1))" progress.txt
  echo
}
look "$@"
"""

_KEEP_LAYER = 'printf "%s\\n" "$2" > "$1/layer"'
_READ_LAYER = 'cat "$1/layer"'


class Look(Record):
    """A profile on a device as it is now. outcome: null while it runs. alive: whether its process is there."""

    outcome: dict[str, Any] | None
    alive: bool
    progress: str


def profile_there(
    source: str,
    name: str,
    *,
    target: str | None,
    variants: Sequence[str],
    images: Sequence[str],
    audios: Sequence[str],
    texts: Sequence[str],
    changes: Mapping[str, Any],
    resume: bool,
    note: Note,
    files: Sequence[Path] = (),
    answers: Mapping[str, str] | None = None,
    wheels: Sequence[Path] = (),
    offline: Path | None = None,
    runner: Path | None = None,
) -> tuple[Report, EdgekitError | None]:
    """The report of a source or an app measured on a device; with it why it is not whole, or None.

    A device without Python is measured with `runner`, see profile_phone.

    files, answers, wheels, offline: for packaging and the layer, as `deploy` takes them. resume: fetch what a
    profile of the same words measured before, and follow it where it still runs. Raises what
    deploying raises, TransportError where the link stays cut, and the error that ended the profile there.
    """
    deployed_as = temporary_app(source, variants)
    with opened(name) as device:
        facts = read_facts(device)
        device = device.replace(root=facts.root)
        if not facts.python and not is_local(name):
            from edgekit.operations.profile_phone import profile_phone

            if wheels or offline:
                raise InputError(f"{name} has no Python, so it takes no --wheel and no --offline")
            words: dict[str, Any] = {"target": target, "changes": changes, "runner": runner, "resume": resume}
            words |= {"variants": variants, "images": images, "audios": audios, "texts": texts}
            words |= {"files": files, "answers": answers or {}}
            return profile_phone(device, name, facts, source, note=note, **words), None
        if runner is not None:
            raise InputError(f"{name} has Python, --runner is for a phone")
        deployed = source in {a.app for a in facts.apps}
        key = source if deployed else deployed_as
        there = _There(device, name, source, key, note)
        if not resume:
            there.refuse_while_one_runs()
            if deployed:
                refuse_to_bring(source, variants, (*files, *(answers or ()), *wheels, *([offline] if offline else ())))
                bundles = {"": placed_app(facts.app(source), facts.root)}
            else:
                works = {
                    v or "": Source(source, variant=v, files=files, answers=answers, progress=_unseen, note=note)
                    for v in variants or (None,)
                }
                asked = wanted(
                    wheels=tuple(map(str, wheels)), offline=str(offline) if offline else None, allow_downgrade=True
                )
                bundles = _bring(there, facts, source, works, asked, target, deployed_as)
            there.start(bundles, given_workload(images, audios, texts), changes)
        outcome = there.follow()
        report = there.fetch()
        there.clean(deployed_as)
        return report, outcome


def measure_bundles(
    bundles: Mapping[str, Path],
    name: str,
    target: str,
    *,
    workload: Workload,
    changes: Mapping[str, Any],
    memory: Mapping[str, Any],
    asked: Wanted,
    note: Note,
) -> tuple[Report, dict[str, Report]]:
    """Bundles by name measured in turn on a device, then each alone, with these options; nothing of it stays there.

    The golden samples of each are checked there before. Raises what deploying raises, TransportError where the link
    stays cut or the measuring died, and the error that ended it there.
    """
    app = temporary_app("compare", list(bundles))
    works = {given: Source(str(path), progress=_unseen, note=note) for given, path in bundles.items()}
    with opened(name) as device:
        facts = read_facts(device)
        refuse_without_python(name, facts)
        there = _There(device.replace(root=facts.root), name, ", ".join(bundles), app, note, again="run it again")
        there.refuse_while_one_runs()
        try:
            placed = _bring(there, facts, "compare", works, asked, target, app)
            whole = there.measure(placed, workload, changes)
            alone = {given: there.measure({given: one}, workload, memory) for given, one in placed.items()}
        finally:
            there.clean(app)
        return whole, alone


def _unseen(what: str, done: int, total: int) -> None:
    """Progress of a profile is that of its runs."""


def _bring(
    there: _There, facts: Facts, source: str, works: dict[str, Source], asked: Wanted, target: str | None, app: str
) -> dict[str, Placed]:
    """Each variant under a temporary app, all with one layer; what each needs is known once it is packaged."""
    kind = find_kind(there.name, facts, target, there.note)
    with contextlib.ExitStack() as stack:
        for work in works.values():
            stack.enter_context(contextlib.closing(work))
        requires: dict[str, str] = {}
        for work in works.values():
            requires |= manifest_of(read_payload(work.bundle(kind))).requires
        for number, (variant, work) in enumerate(works.items()):
            there.note(f"{there.name}: bring {variant or source} as a temporary app")
            named = asked.replace(app=app if number == 0 else f"{app}-{number}", requires=requires)
            bring(there.name, there.device, facts, work, kind, named)
    facts = read_facts(there.device)
    names = [app if number == 0 else f"{app}-{number}" for number in range(len(works))]
    return {variant: placed_app(facts.app(n), facts.root) for variant, n in zip(works, names)}


class _There:
    """One profile on one device, followed through cuts of the link."""

    def __init__(
        self, device: Device, name: str, source: str, key: str, note: Note, *, again: str | None = None
    ) -> None:
        self.device = device
        self.name = name
        self.source = source
        self.again = again
        self.folder = f"{device.root}/profiles/{key}"
        self.note = note
        self._shown = 0

    def refuse_while_one_runs(self) -> None:
        """Raise InputError where a profile of the same source is being measured."""
        found = self._look()
        if found is not None and found.outcome is None and found.alive:
            raise InputError(f"{self.name}: {self.source} is being profiled there", hint=self._resume_hint())

    def measure(self, bundles: Mapping[str, Placed], workload: Workload | None, changes: Mapping[str, Any]) -> Report:
        """Begin, follow to the end and fetch. Raises the error that ended it, or left it not whole."""
        self.start(bundles, workload, changes)
        problem = self.follow()
        if problem is not None:
            raise problem
        return self.fetch()

    def start(self, bundles: Mapping[str, Placed], workload: Workload | None, changes: Mapping[str, Any]) -> None:
        """Send the inputs, files of this machine, and begin, in a process that no hang-up ends."""
        run_script(self.device, _BEGIN, self.folder, timeout_s=SHORT_S)
        self._shown = 0
        first_name, *others = bundles
        first = bundles[first_name]
        options = options_for(
            f"{first.folder}/{BUNDLE_FOLDER}",
            variant=first_name if others else None,
            release=first.release,
            variants={v: f"{bundles[v].folder}/{BUNDLE_FOLDER}" for v in others},
            workload=None if workload is None else self._sent(workload),
            **changes,
        )
        document = json.dumps(dump_options(options))
        run_script(self.device, _KEEP_LAYER, self.folder, first.layer or "", timeout_s=SHORT_S)
        try:
            self._agent("start", self.folder, document, timeout_s=STARTED_S)
        except TransportError as error:  # cut before the answer: it may have begun all the same
            self.note(f"{self.name}: {error.message}")
            if self._through_cuts(self._look) is None:
                self._agent("start", self.folder, document, timeout_s=STARTED_S)

    def follow(self) -> EdgekitError | None:
        """Show progress until it is over; gives why the report is not whole. Raises the error that ended it."""
        while True:
            found = self._through_cuts(self._look)
            if found is None:
                raise InputError(f"{self.name}: no profile of {self.source} there", hint="leave out --resume")
            for line in _latest(found.progress.splitlines()):
                self.note(f"{self.name}: {line}")
            if found.outcome is not None:
                code, message = int(found.outcome["exit_code"]), str(found.outcome["message"])
                if code:
                    raise error_of(code, f"{self.name}: {message}", found.outcome["hint"])
                return None
            if not found.alive:
                return TransportError(
                    f"{self.name}: the profile's process is gone (reboot, out of memory, killed); "
                    "the report holds what it measured until then"
                )
            time.sleep(POLL_S)

    def fetch(self) -> Report:
        """The report, of a profile that was cut what there is."""
        document = self._through_cuts(lambda: self._agent("fetch", self.folder, timeout_s=FETCH_S))
        return load_report(document.encode(), f"the report from {self.name}")

    def clean(self, app: str) -> None:
        """Take the profile, and what was brought for it, off the device."""
        with contextlib.suppress(EdgekitError):
            run_script(self.device, 'rm -rf "$1"', self.folder, timeout_s=SHORT_S)
            for installed in read_facts(self.device).apps:
                if installed.app == app or installed.app.startswith(f"{app}-"):
                    remove_app(self.device, installed.app)

    def _sent(self, workload: Workload) -> Workload:
        """The same calls with the files where they are on the device."""
        paths = {str(source["path"]): kw for item in workload.items for kw, source in item.items() if "path" in source}
        files = {f"{keyword}{i}": Path(path) for i, (path, keyword) in enumerate(paths.items())}
        there = put_files(self.device, self.folder, files)
        moved = dict(zip(paths, there.values()))
        items = tuple(
            {kw: {"path": moved[str(source["path"])]} if "path" in source else source for kw, source in item.items()}
            for item in workload.items
        )
        return workload.replace(items=items)

    def _agent(self, verb: str, *words: str, timeout_s: float) -> str:
        """Run the agent in the layer that the profile began in, or in this interpreter."""
        command = [sys.executable, "-m"]
        if not is_local(self.name):
            layer = run_script(self.device, _READ_LAYER, self.folder, timeout_s=SHORT_S)[0]
            command = ["env", f"PYTHONPATH={layer}", "PYTHONDONTWRITEBYTECODE=1", "python3", "-m"]
        done = ask(
            self.device,
            self.device.root,
            [*command, "edgekit.profiling.agent", verb, *words],
            timeout_s=timeout_s,
        )
        if done.code:
            message = done.said.strip().removeprefix("edgekit: ")
            raise error_of(done.code, f"{self.name}: {message[-2000:] or f'the agent ended with {done.code}'}")
        return done.output

    def _look(self) -> Look | None:
        """How the profile stands; None where there is none."""
        lines = run_script(self.device, _LOOK, self.folder, str(self._shown), timeout_s=POLL_ANSWER_S)
        if lines[:1] == ["absent"]:
            return None
        try:
            cut = lines.index("progress")
            facts = dict(line.split(" ", 1) for line in lines[:cut])
            outcome = load_json(facts["over"].encode()) if "over" in facts else None
            alive = outcome is not None or _is_alive(facts)
        except (ValueError, KeyError, ManifestError) as error:
            raise TransportError(f"{self.name}: not the state of a profile: {error}") from None
        progress = "\n".join(lines[cut + 1 :]).removesuffix("\n")
        whole = progress[: progress.rfind("\n") + 1]  # the last line may be half written
        self._shown += len(whole.encode())
        return Look(outcome=outcome, alive=alive, progress=whole)

    def _through_cuts(self, attempt: Callable[[], Answer]) -> Answer:
        """Try again while the link is cut, for a bounded time; says then how to go on."""
        try:
            return through_cuts(self.name, attempt, self.note, CUT_S)
        except TransportError as error:
            message = (
                error.message if self.again else f"{error.message}; the profile goes on there, nothing measured is lost"
            )
            raise TransportError(message, hint=self._resume_hint()) from None

    def _resume_hint(self) -> str:
        return (
            self.again or f"edgekit profile {self.source} --on {self.name} --resume follows it and fetches its report"
        )


def _latest(lines: Sequence[str]) -> list[str]:
    """Of lines that count on (`predict: 20 runs`, `predict: 31 runs`) the last one."""
    followers = [*lines[1:], ""]
    return [line for line, then in zip(lines, followers) if line.partition(":")[0] != then.partition(":")[0]]


def _is_alive(facts: Mapping[str, str]) -> bool:
    """Whether the process is the one that began the profile: its id alone may have been given to another one."""
    if "stat" not in facts:
        return False
    fields = facts["stat"].rpartition(")")[2].split()
    began = json.loads(facts["agent"])["began"]
    return fields[0] not in "ZX" and f"{facts['boot']} {fields[19]}" == began
