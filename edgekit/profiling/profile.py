"""Profile a bundle on this machine, through the same predict that an app calls."""

from __future__ import annotations

import datetime
import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import edgekit
from edgekit.bundle import open_bundle
from edgekit.errors import EdgekitError
from edgekit.manifest import Manifest
from edgekit.predictor import Predictor, load
from edgekit.profiling.assemble import Facts, Gathered, assemble
from edgekit.profiling.coldstart import ColdStart, cold_starts
from edgekit.profiling.environment import installed_versions, this_environment
from edgekit.profiling.interleave import cool_down, measure_interleaved
from edgekit.profiling.journal import Journal
from edgekit.profiling.measure import Call, Run, Samples, Warmup, measure, measure_threads
from edgekit.profiling.memory import MemoryPhase, memory_phase, phase_between, read_status
from edgekit.profiling.operator_runs import operator_tables
from edgekit.profiling.operators import OperatorTable, slower_than_float
from edgekit.profiling.options import Options, plans_of, rules_of, throughput_rules
from edgekit.profiling.readings import Reading, unknown
from edgekit.profiling.report import Report, Subject
from edgekit.profiling.sampler import Sampler
from edgekit.profiling.sensors import LocalSensors, feed, primary_temperature, snapshot, total_power
from edgekit.profiling.statistics import percentile
from edgekit.profiling.workload import Workload, audio_seconds, golden_workload, keywords
from edgekit.records import dump
from edgekit.specs.audio import AudioSpec

IDLE_S = 2.0
PROGRESS_EVERY_S = 0.5
DEFAULT_TEXT_MEMORY = 1024
FLOAT_NAMES = ("fp32", "float32", "float")

Progress = Callable[[str], None]
Cells = list[tuple[str, dict[str, str], Samples]]


def profile(options: Options, *, journal: Journal | None = None, progress: Progress = lambda _: None) -> Report:
    """Measure everything that the options ask for. Raises what loading and predicting raise.

    journal: is given every piece as soon as it is measured. progress: is told what happens, a line at a time.
    """
    writer = journal or Journal(None)
    facts = facts_of(options)
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        sensors = stack.enter_context(LocalSensors())
        before = snapshot(sensors)
        writer.note("begin", facts=dump(facts), before=dump(before))
        cold = _cold_start(options, facts.workload, absent, progress)
        writer.note("cold_start", record=dump(cold), absent=absent)
        calls, memory = _load_all(options, facts.workload, stack, progress)
        writer.note("memory", records=dump(memory))
        settings = {plan.name: plan.settings() for plan in plans_of(options)}
        sampler = Sampler(sensors, rate_hz=options.sensor_rate_hz, on_reading=writer.sensors)
        with sampler:
            writer.note("sampler", rate_hz=options.sensor_rate_hz, began_s=sampler.began_s)
            if total_power(sensors())[0] is not None:
                progress("idle power")
                time.sleep(IDLE_S)
            writer.note("cells", settings=settings, rules=dump(rules_of(options)))
            measured, steady = memory_phase("measuring", lambda: _measure(options, calls, sensors, writer, progress))
            cells: Cells = [(name, settings[name], samples) for name, samples in measured.items()]
            cells += _throughput(options, facts.workload, calls, progress)
        writer.note("memory", records=dump((*memory, steady)))
        for name, how, samples in cells:
            columns: dict[str, Any] = (
                {"start_s": (), "total_ms": (), "stages_ms": {}, "details": {}} if name in measured else {}
            )
            writer.note("cell", name=name, settings=how, samples=dump(samples.replace(**columns)))
        after = snapshot(sensors)
        writer.note("after", after=dump(after))
        operators = _operators(options, facts, absent, progress)
        writer.note("operators", records=dump(operators), absent=absent)
        notes = [*_notes(options, facts.workload), *_variant_notes(options, cells, operators)]
        notes += [writer.problem] if writer.problem else []
        writer.note("end", notes=notes)
        return assemble(
            Gathered(
                facts=facts,
                complete=True,
                before=before,
                after=after,
                cells=cells,
                cold_start=cold,
                memory=(*memory, steady),
                operators=operators,
                trace=sampler.trace(),
                notes=tuple(notes),
                absent=absent,
            )
        )


def facts_of(options: Options) -> Facts:
    """What is known of the bundle and the machine before anything is measured."""
    with open_bundle(options.bundle) as bundle:
        manifest, digest = bundle.manifest, bundle.digest
        workload = options.workload or golden_workload(manifest)
        spec = manifest.inputs.get("audio")
        audio_s: Reading = unknown("there is no sound in the input")
        if isinstance(spec, AudioSpec):
            limit = manifest.limits.audio_bytes
            audio_s = audio_seconds(workload.items[0], lambda name: bundle.read(name, limit), float(spec.rate_hz))
    return Facts(
        created_utc=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        subject=subject_of(manifest, digest, options.release),
        workload=workload,
        environment=this_environment(),
        runtime_versions={"edgekit": edgekit.__version__, **installed_versions()},
        battery=feed(Path("/")),
        audio_s=audio_s,
        is_sustained=options.sustained_s is not None,
    )


def subject_of(manifest: Manifest, digest: str, release: str | None) -> Subject:
    """What is measured, by its manifest."""
    return Subject(
        name=manifest.name,
        version=manifest.version,
        task=manifest.task,
        bundle_digest=digest,
        release=release,
        graphs={graph.name: f"{graph.file}, {graph.runtime}, {graph.precision}" for graph in manifest.graphs},
    )


def call_for(predictor: Predictor, workload: Workload) -> Call:
    """The call that is measured: predict, with the workload's items in turn."""
    items = itertools.cycle([keywords(item, predictor.read) for item in workload.items])
    predict = predictor.predict

    def call() -> Mapping[str, float]:
        return predict(**next(items)).timings

    return call


def _batch_call(predictor: Predictor, workload: Workload, batch: int) -> Call:
    items = [keywords(item, predictor.read) for item in workload.items]
    given = list(itertools.islice(itertools.cycle(items), batch))

    def call() -> Mapping[str, float]:
        predictor.predict_batch(given)
        return {}

    return call


def _text_memory(options: Options, workload: Workload) -> int:
    """No memory where only texts are given: it would answer from the second run on, and no graph would run."""
    if options.text_memory is not None:
        return options.text_memory
    return 0 if all(item.keys() == {"text"} for item in workload.items) else DEFAULT_TEXT_MEMORY


def _load_all(
    options: Options, workload: Workload, stack: ExitStack, progress: Progress
) -> tuple[dict[str, tuple[Predictor, Call]], tuple[MemoryPhase, ...]]:
    """A predictor and its call per plan; the first one's memory, phase by phase."""
    text_memory = _text_memory(options, workload)
    phases = [phase_between("before loading", {}, read_status(), was_reset=True)]
    calls: dict[str, tuple[Predictor, Call]] = {}
    for plan in plans_of(options):
        progress(f"load {plan.name}")
        bundle, threads = plan.bundle, plan.threads

        def open_it(bundle: str = bundle, threads: int | None = threads) -> Predictor:
            return load(bundle, threads=threads, text_memory=text_memory)

        predictor, loaded = memory_phase("load", open_it)
        stack.enter_context(predictor)
        call = call_for(predictor, workload)
        _, first = memory_phase("first predict", call)
        if not calls:
            phases += [loaded, first]
        calls[plan.name] = (predictor, call)
    return calls, tuple(phases)


def _measure(
    options: Options,
    calls: Mapping[str, tuple[Predictor, Call]],
    sensors: LocalSensors,
    journal: Journal,
    progress: Progress,
) -> dict[str, Samples]:
    first = primary_temperature(sensors())
    first_c = first.value if first is not None else None
    told_s, runs = time.perf_counter(), 0

    def temperature_c() -> float | None:
        now = primary_temperature(sensors())
        return now.value if now is not None else None

    def wait_until_cool() -> None:
        if len(calls) > 1:
            cool_down(temperature_c, first_c)

    def on_run(name: str, run: Run) -> None:
        nonlocal told_s, runs
        runs += 1
        journal.run(name, run)
        if run.at_s - told_s >= PROGRESS_EVERY_S:
            told_s = run.at_s
            progress(f"{name}: {runs} runs, {run.at_s - began_s:.0f} s, {run.total_ms:.2f} ms")

    def on_warmup(name: str, warmup: Warmup) -> None:
        journal.note("warmup", cell=name, record=dump(warmup))

    began_s = time.perf_counter()
    only_calls = {name: call for name, (_, call) in calls.items()}
    samples = measure_interleaved(
        only_calls, rules_of(options), before_each=wait_until_cool, on_run=on_run, on_warmup=on_warmup
    )
    journal.flush()
    return samples


def _throughput(
    options: Options, workload: Workload, calls: Mapping[str, tuple[Predictor, Call]], progress: Progress
) -> Cells:
    """Several callers at once and several items in one call, on the first plan's predictor."""
    predictor, call = next(iter(calls.values()))
    cells: Cells = []
    for callers in options.callers:
        progress(f"{callers} callers")
        rules = throughput_rules(rules_of(options), 1)
        cells.append((f"callers={callers}", {"callers": str(callers)}, measure_threads(call, callers, rules)))
    for batch in options.batches:
        progress(f"batch {batch}")
        rules = throughput_rules(rules_of(options), batch)
        samples = measure(_batch_call(predictor, workload, batch), rules)
        cells.append((f"batch={batch}", {"batch": str(batch)}, samples))
    return cells


def _cold_start(options: Options, workload: Workload, absent: dict[str, str], progress: Progress) -> ColdStart | None:
    if not options.cold_starts:
        absent["cold_start"] = "not asked for"
        return None
    progress(f"cold start, {options.cold_starts} processes")
    threads = options.threads[0] if options.threads else None
    document = {"bundle": options.bundle, "threads": threads, "item": dump(workload.items[0])}
    try:
        return cold_starts(document, processes=options.cold_starts)
    except EdgekitError as error:
        absent["cold_start"] = error.message
        return None


def _operators(options: Options, facts: Facts, absent: dict[str, str], progress: Progress) -> tuple[OperatorTable, ...]:
    if not options.operators:
        absent["operators"] = "not asked for"
        return ()
    progress("operators")
    with open_bundle(options.bundle) as bundle:
        graphs = [(graph.name, graph.runtime) for graph in bundle.manifest.graphs]
    threads = options.threads[0] if options.threads else None
    return operator_tables(options.bundle, graphs, facts.workload.items[0], threads=threads)


def _notes(options: Options, workload: Workload) -> list[str]:
    notes = [
        "percentiles are of single runs; memory and processor time are those of the profiling process",
        "a graph's stage runs between the other stages, as in an app: alone, over and over, it finds warmer caches",
    ]
    if _text_memory(options, workload) == 0:
        notes.append("texts are encoded anew in each run: the predictor's memory of texts is off")
    elif any("text" in item for item in workload.items):
        notes.append("texts seen before are not encoded again, as in an app")
    return notes


def _variant_notes(options: Options, cells: Cells, operators: tuple[OperatorTable, ...]) -> list[str]:
    """Whether an int8 variant was slower than a float one that was measured in turn with it."""
    medians = {name: percentile(samples.total_ms, 0.5, "linear") for name, _, samples in cells}
    reasons = [reason for table in operators for reason in table.slow_because]
    said = []
    for plan in plans_of(options):
        precise = next((name for name in FLOAT_NAMES if plan.name.replace("int8", name) in medians), None)
        if plan.name.startswith("int8") and precise is not None:
            said.append(slower_than_float(medians[plan.name], medians[plan.name.replace("int8", precise)], reasons))
    return [sentence for sentence in said if sentence]
