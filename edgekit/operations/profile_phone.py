"""`profile --on` a device without Python: `benchmark_model` measures there, process by process, driven from here.

What a process told is here as soon as it ended, so a cut link costs the process that it cut; that one is repeated.
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import edgekit
from edgekit.devices import BUNDLE_FOLDER, Device, Facts, read_facts
from edgekit.devices import remove as remove_app
from edgekit.devices.device import run_script
from edgekit.errors import BackendError, EdgekitError, InputError, TargetError
from edgekit.manifest import MANIFEST_NAME, parse_manifest
from edgekit.operations.deploy import Source, bring, find_kind, wanted
from edgekit.operations.package import Note
from edgekit.operations.phone_graph import Fed, Phone, open_there
from edgekit.operations.placing import CUT_S, Answer, Placed, placed_app, refuse_to_bring, temporary_app, through_cuts
from edgekit.operations.runner import HINT, SHORT_S, Runner, install, refuse_other_graphs, usable_runner
from edgekit.predictor import Predictor
from edgekit.profiling.android_sensors import (
    NO_POWER,
    SCRIPT,
    PhoneReading,
    parse_reading,
    phone_environment,
    phone_snapshot,
)
from edgekit.profiling.assemble import Facts as ProfileFacts
from edgekit.profiling.assemble import Gathered, assemble
from edgekit.profiling.benchmark_model import NAME, BenchmarkLog, parse_log
from edgekit.profiling.benchmark_operators import CPU, operators_of, parse_operators
from edgekit.profiling.memory import MemoryPhase
from edgekit.profiling.operators import OperatorTable, no_operators
from edgekit.profiling.options import Options, options_for
from edgekit.profiling.phone_cells import (
    LIMIT_S,
    Block,
    Way,
    memory_of,
    nodes_by,
    placed,
    process_rules,
    samples_of,
    ways,
)
from edgekit.profiling.profile import subject_of
from edgekit.profiling.readings import unknown
from edgekit.profiling.report import Report
from edgekit.profiling.sampler import Measured, trace_of
from edgekit.profiling.workload import audio_seconds, given_workload, golden_workload, keywords
from edgekit.specs.audio import AudioSpec

PROCESS_S = 2 * LIMIT_S + 120.0
ASIDE_RUNS = 30
TAKEN = frozenset({"min_runs", "min_s", "threads", "operators", "cold_starts"})
PROFILE_FLAGS = frozenset({"op_profiling_output_mode", "op_profiling_output_file"})
NOTES = (
    f"a run is one {NAME} process: its median; p5, p95, mean and std over the runs of a process are among the details",
    "graphs only: pre- and postprocessing run in the app (the exported module's instrumented test times them)",
    "inputs are the tensors that preprocessing made of the workload, not random numbers",
    "sensors are read between processes, never while one measures",
)


def profile_phone(
    device: Device,
    name: str,
    facts: Facts,
    source: str,
    *,
    target: str | None,
    variants: Sequence[str],
    images: Sequence[str],
    audios: Sequence[str],
    texts: Sequence[str],
    changes: Mapping[str, Any],
    runner: Path | None,
    resume: bool,
    files: Sequence[Path],
    answers: Mapping[str, str],
    note: Note,
) -> Report:
    """The report of a source or an app measured on a phone. Raises what deploying raises, TargetError without a runner.

    What is not deployed there is brought under a name of its own, checked, and removed afterwards.
    """
    if resume:
        raise InputError("a phone's profile is driven from here and leaves nothing to resume", hint="start it again")
    refused = sorted(key for key, value in changes.items() if key not in TAKEN and value not in ((), None))
    if refused:
        raise InputError(f"{NAME} cannot do '{refused[0]}'; a phone's profile takes {', '.join(sorted(TAKEN))}")
    if len(variants) > 1:
        raise InputError("one variant at a time on a phone", hint="profile each, and --compare their reports")
    program = usable_runner(runner, name, facts)
    if program is None:
        raise TargetError(f"{name} has no Python, so a profile needs a runner there", hint=HINT)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-phone-")))
        if source in {a.app for a in facts.apps}:
            refuse_to_bring(source, variants, (*files, *answers))
            there = placed_app(facts.app(source), device.root)
            bundle = fetch_bundle(device, there, scratch)
        else:
            app = temporary_app(source, variants)
            stack.callback(_forget, device, app)
            variant = variants[0] if variants else None
            work = Source(source, variant=variant, files=files, answers=answers, progress=lambda *_: None, note=note)
            stack.enter_context(closing(work))
            bundle = _bring(device, name, facts, work, target, program, app, note)
            there = placed_app(read_facts(device).app(app), device.root)
        folder = f"{device.root}/profiles/{there.app}"
        run_script(device, 'rm -rf "$1"\nmkdir -p "$1"', folder, timeout_s=SHORT_S)
        stack.callback(_remove, device, folder)
        phone = Phone(install(device, program), folder, 0)
        with open_there(bundle, phone, there.folder) as predictor:
            refuse_other_graphs(name, predictor.manifest)
            phone.threads = predictor.manifest.run.threads
            workload = given_workload(images, audios, texts) or golden_workload(predictor.manifest)
            measuring = _Measuring(device, name, phone, predictor, options_for(bundle, **changes), note)
            return measuring.report(facts, there, workload)


def _bring(
    device: Device, name: str, facts: Facts, work: Source, target: str | None, program: Path, app: str, note: Note
) -> str:
    """Deploy the source under a name of its own, golden check included; gives its bundle here."""
    kind = find_kind(name, facts, target, note)
    note(f"{name}: bring it as a temporary app")
    bring(name, device, facts, work, kind, wanted(app=app, runner=str(program), allow_downgrade=True))
    return str(work.bundle(kind))


def fetch_bundle(device: Device, there: Placed, scratch: Path) -> str:
    """A copy of a deployed bundle in a folder here; whoever opens it checks every hash."""
    home = f"{there.folder}/{BUNDLE_FOLDER}"
    folder = scratch / "bundle"
    folder.mkdir()
    device.transport.get(f"{home}/{MANIFEST_NAME}", folder / MANIFEST_NAME, timeout_s=SHORT_S)
    for file, fact in parse_manifest((folder / MANIFEST_NAME).read_bytes()).files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        device.transport.get(f"{home}/{file}", folder / file, timeout_s=SHORT_S + fact.size / (64 << 10))
    return str(folder)


def _forget(device: Device, app: str) -> None:
    with suppress(EdgekitError):
        if app in {a.app for a in read_facts(device).apps}:
            remove_app(device, app)


def _remove(device: Device, folder: str) -> None:
    with suppress(EdgekitError):
        run_script(device, 'rm -rf "$1"', folder, timeout_s=SHORT_S)


class _Measuring:
    """One profile under way."""

    def __init__(
        self, device: Device, name: str, phone: Phone, predictor: Predictor, options: Options, note: Note
    ) -> None:
        self.device, self.name, self.phone, self.predictor = device, name, phone, predictor
        self.options, self.note = options, note
        self.readings: list[tuple[float, Sequence[Measured]]] = []
        self.blocks: dict[str, list[Block]] = {}
        self.placement: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.notes: list[str] = []
        self.began_s = time.perf_counter()

    @property
    def runner(self) -> Runner:
        """The program there."""
        return self.phone.runner

    def report(self, facts: Facts, there: Placed, workload: Any) -> Report:
        """Measure everything and put it together."""
        manifest = self.predictor.manifest
        feeds = self._feeds(workload.items[0])
        before = self._read()
        all_ways = ways(self.options.threads, manifest.run.threads)
        usable = self._probe(all_ways, feeds)
        self._measure(usable, feeds)
        tables, memory = self._aside(usable, feeds)
        after = self._read()
        system = _system(self.device)
        spec = manifest.inputs.get("audio")
        audio_s = unknown("there is no sound in the input")
        if isinstance(spec, AudioSpec):
            audio_s = audio_seconds(workload.items[0], self.predictor.read, float(spec.rate_hz))
        absent = {"cold_start": f"{NAME} tells init and first inference only: init_ms, first_ms in the details"}
        if not tables:
            absent["operators"] = "not asked for"
        made = assemble(
            Gathered(
                facts=ProfileFacts(
                    created_utc=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                    subject=subject_of(manifest, self.predictor.digest, variant=None, release=there.release),
                    others=(),
                    workload=workload,
                    environment=phone_environment(
                        after,
                        model=facts.phone or facts.board,
                        system=system,
                        kernel=facts.kernel,
                        abi=facts.abi or facts.machine,
                        cores=facts.cores,
                        cpu_parts=facts.cpu_parts,
                        ram_total_bytes=facts.ram_total_bytes,
                    ),
                    runtime_versions={"edgekit": edgekit.__version__, NAME: f"sha256 {self.runner.sha256[:16]}"},
                    battery=after.battery,
                    audio_s=audio_s,
                    is_sustained=False,
                ),
                complete=True,
                before=phone_snapshot(before, self.began_s),
                after=phone_snapshot(after, time.perf_counter()),
                cells=[
                    (
                        self.names.get(way.name, way.name),
                        self._settings(way),
                        samples_of(self.blocks[way.name]),
                    )
                    for way in usable
                ],
                cold_start=(),
                memory=tuple(memory),
                operators=tuple(tables),
                trace=trace_of(
                    self.readings,
                    rate_hz=len(self.readings) / max(time.perf_counter() - self.began_s, 1.0),
                    began_s=self.began_s,
                    missed=0,
                ),
                notes=(*self.notes, *NOTES),
                absent=absent,
            )
        )
        others = unknown(f"how much of it is {NAME}'s own is not told")
        return made.replace(
            conditions=made.conditions.replace(load_by_others=others),
            cells=tuple(c.replace(energy=c.energy.replace(power_w=unknown(NO_POWER))) for c in made.cells),
        )

    def _settings(self, way: Way) -> dict[str, str]:
        return {**way.settings(), "placement": self.placement[way.name], "sample": f"median of a {NAME} process"}

    def _feeds(self, item: Mapping[str, Any]) -> list[Fed]:
        """One predict through the device: the inputs of every graph that it runs stay there as files."""
        self.note(f"{self.name}: one predict, for the graphs' inputs")
        self.phone.fed.clear()
        self.predictor.predict(**keywords(item, self.predictor.read))
        return list(self.phone.fed.values())

    def _probe(self, all_ways: Sequence[Way], feeds: Sequence[Fed]) -> list[Way]:
        """The ways that this phone and this program have; who runs the graphs in each is said, a fallback loudly."""
        usable: list[Way] = []
        for way in all_ways:
            logs = {}
            try:
                for feed in feeds:
                    logs[feed.graph] = self._once(feed, way, {"num_runs": 1, "min_secs": 0, "warmup_min_secs": 0})
            except BackendError as error:
                self._say(f"{way.name}: not measured: {error.message}")
                continue
            usable.append(way)
            self.placement[way.name], loud = placed(way, logs)
            if any(line.startswith("FALLBACK") for line in loud):
                self.names[way.name] = f"{way.name}, fell back to the CPU"
            for line in loud:
                self._say(line)
        if not usable:
            raise BackendError(f"{self.name}: {NAME} runs these graphs in no way: {'; '.join(self.notes)}")
        return usable

    def _measure(self, usable: Sequence[Way], feeds: Sequence[Fed]) -> None:
        processes, flags = process_rules(self.options)
        for turn in range(processes):
            for way in usable[:: 1 if turn % 2 == 0 else -1]:
                at_s = time.perf_counter()
                logs = {feed.graph: (self._once(feed, way, flags), feed.runs) for feed in feeds}
                self.blocks.setdefault(way.name, []).append(Block(at_s, logs))
                self.note(f"{self.name}: {way.name}: {turn + 1} of {processes}")
            self._read()

    def _aside(self, usable: Sequence[Way], feeds: Sequence[Fed]) -> tuple[list[OperatorTable], list[MemoryPhase]]:
        """Memory and operators, each in processes of their own: both would disturb the times."""
        flags = {**process_rules(self.options)[1], "num_runs": ASIDE_RUNS, "min_secs": 0}
        tables: list[OperatorTable] = []
        memory = []
        for way in usable:
            self.note(f"{self.name}: {way.name}: memory{' and operators' if self.options.operators else ''}")
            told = [self._once(feed, way, {**flags, "report_peak_memory_footprint": True}) for feed in feeds]
            memory.append(memory_of(way, told))
            if self.options.operators:
                tables += [self._operators(feed, way, flags) for feed in feeds]
        return tables, memory

    def _operators(self, feed: Fed, way: Way, flags: Mapping[str, object]) -> OperatorTable:
        label = f"{feed.graph}, {way.name}"
        file = f"{self.phone.folder}/operators.csv"
        asked = {"enable_op_profiling": True, "op_profiling_output_mode": "csv", "op_profiling_output_file": file}
        try:
            ended = self._run(feed, way, {**flags, **asked})
            log = parse_log(ended[0], ended[1])
            unknown_flags = {flag.lstrip("-").partition("=")[0] for flag in log.unknown_flags}
            if unknown_flags - PROFILE_FLAGS:
                raise BackendError(f"this {NAME} does not know --{sorted(unknown_flags)[0]}")
            text = ended[0]
            if not unknown_flags:
                script = 'cat "$1"\nrm -f "$1"'
                text = "\n".join(self._through_cuts(lambda: run_script(self.device, script, file, timeout_s=SHORT_S)))
            blocks = [block.graphs[feed.graph][0].measured.mean for block in self.blocks[way.name]]
            means = [mean for mean in blocks if mean is not None]
            return operators_of(
                label,
                parse_operators(text),
                plain_ms=sum(means) / len(means) / 1e3 if means else None,
                placed=nodes_by(log, CPU),
                notes=(f"in a process of its own, {way.name}",),
            )
        except BackendError as error:
            return no_operators(label, "litert", error.message)

    def _once(self, feed: Fed, way: Way, flags: Mapping[str, object]) -> BenchmarkLog:
        """One process that ended well and knew every flag. Raises BackendError."""
        log = parse_log(*self._run(feed, way, flags))
        if log.unknown_flags:
            raise BackendError(f"this {NAME} does not know {', '.join(log.unknown_flags)}")
        return log

    def _run(self, feed: Fed, way: Way, flags: Mapping[str, object]) -> tuple[str, str]:
        words = {**feed.flags, **way.flags, **flags}
        ended = self._through_cuts(lambda: self.runner.run(self.phone.folder, words, timeout_s=PROCESS_S))
        if ended.code:
            raise self.runner.told(ended)
        return ended.stdout, ended.stderr

    def _read(self) -> PhoneReading:
        lines = self._through_cuts(lambda: run_script(self.device, SCRIPT, timeout_s=SHORT_S))
        reading = parse_reading(lines, self.name)
        self.readings.append((time.perf_counter() - self.began_s, reading.measured))
        return reading

    def _say(self, line: str) -> None:
        self.notes.append(line)
        self.note(f"{self.name}: {line}")

    def _through_cuts(self, attempt: Callable[[], Answer]) -> Answer:
        return through_cuts(self.name, attempt, self.note, CUT_S)


def _system(device: Device) -> str:
    script = 'printf "%s\\n" "$(getprop ro.build.version.release)" "$(getprop ro.build.version.sdk)"'
    release, sdk = [*run_script(device, script, timeout_s=SHORT_S), "", ""][:2]
    return f"Android {release or '?'} (SDK {sdk or '?'})"
