"""Profile a bundle on this machine, through the same predict that an app calls."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import edgekit
from edgekit.bundle import open_bundle
from edgekit.errors import EdgekitError
from edgekit.manifest import Manifest
from edgekit.profiling.assemble import Facts, Gathered, assemble
from edgekit.profiling.cells import Cells, Gate, Loaded, Progress, load_all, measure_cells, measure_throughput
from edgekit.profiling.cells import text_memory as text_memory_of
from edgekit.profiling.coldstart import ColdStart, cold_starts
from edgekit.profiling.compare import ratio_interval
from edgekit.profiling.environment import installed_versions, this_environment
from edgekit.profiling.journal import Journal
from edgekit.profiling.measure import Samples
from edgekit.profiling.memory import memory_phase
from edgekit.profiling.operator_runs import operator_tables
from edgekit.profiling.operators import OperatorTable, slower_than_float
from edgekit.profiling.options import Options, bundles_of, plans_of, rules_of
from edgekit.profiling.readings import Reading, unknown
from edgekit.profiling.report import Report, Subject
from edgekit.profiling.sampler import Sampler
from edgekit.profiling.sensors import LocalSensors, feed, snapshot, total_power
from edgekit.profiling.statistics import percentile
from edgekit.profiling.workload import Workload, audio_seconds, golden_workload
from edgekit.records import dump
from edgekit.specs.audio import AudioSpec

IDLE_S = 2.0
QUANTISED = ("int8", "int4")


def profile(options: Options, *, journal: Journal | None = None, progress: Progress = lambda _: None) -> Report:
    """Measure everything that the options ask for. Raises what loading and predicting raise.

    journal: is given every piece as soon as it is measured. progress: is told what happens, a line at a time.
    """
    writer = journal or Journal(None)
    plans_of(options)  # what cannot be measured is refused before any time is spent
    facts = facts_of(options)
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        sensors = stack.enter_context(LocalSensors())
        before = snapshot(sensors)
        writer.note("begin", facts=dump(facts), before=dump(before))
        cold = _cold_starts(options, facts.workload, absent, progress)
        writer.note("cold_start", records=dump(cold), absent=absent)
        loaded, memory = load_all(options, facts.workload, stack, progress)
        writer.note("memory", records=dump(memory))
        gate = Gate(sensors, progress)
        sampler = Sampler(sensors, rate_hz=options.sensor_rate_hz, on_reading=writer.sensors)

        def processor_s() -> float:
            return time.process_time() - sampler.processor_s

        def measure_all() -> dict[str, Samples]:
            return measure_cells(options, loaded, gate, writer, progress, processor_s)

        with sampler:
            writer.note("sampler", rate_hz=options.sensor_rate_hz, began_s=sampler.began_s)
            if total_power(sensors())[0] is not None:
                progress("idle power")
                time.sleep(IDLE_S)
            settings = {name: cell.settings for name, cell in loaded.items()}
            writer.note("cells", settings=settings, rules=dump(rules_of(options)))
            measured, steady = memory_phase("measuring", measure_all)
            cells: Cells = [(name, settings[name], samples) for name, samples in measured.items()]
            first = next(iter(loaded.values()))
            cells += measure_throughput(options, facts.workload, first, gate, progress, processor_s)
        writer.note("memory", records=dump((*memory, steady)))
        for name, how, samples in cells:
            columns: dict[str, Any] = (
                {"start_s": (), "total_ms": (), "stages_ms": {}, "details": {}} if name in measured else {}
            )
            writer.note("cell", name=name, settings=how, samples=dump(samples.replace(**columns)))
        after = snapshot(sensors)
        writer.note("after", after=dump(after))
        operators = _operators(options, facts.workload, loaded, absent, progress)
        writer.note("operators", records=dump(operators), absent=absent)
        notes = [*_notes(options, facts.workload), *_quantised_notes(loaded, measured, operators)]
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
    """What is known of the bundles and the machine before anything is measured."""
    (first, path), *others = bundles_of(options).items()
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        subject = subject_of(manifest, bundle.digest, variant=first, release=options.release)
        workload = options.workload or golden_workload(manifest)
        spec = manifest.inputs.get("audio")
        audio_s: Reading = unknown("there is no sound in the input")
        if isinstance(spec, AudioSpec):
            limit = manifest.limits.audio_bytes
            audio_s = audio_seconds(workload.items[0], lambda name: bundle.read(name, limit), float(spec.rate_hz))
    return Facts(
        created_utc=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        subject=subject,
        others=tuple(_subject_at(path, variant) for variant, path in others),
        workload=workload,
        environment=this_environment(),
        runtime_versions={"edgekit": edgekit.__version__, **installed_versions()},
        battery=feed(Path("/")),
        audio_s=audio_s,
        is_sustained=options.sustained_s is not None,
    )


def subject_of(manifest: Manifest, digest: str, *, variant: str | None, release: str | None) -> Subject:
    """What is measured, by its manifest."""
    return Subject(
        variant=variant,
        name=manifest.name,
        version=manifest.version,
        task=manifest.task,
        bundle_digest=digest,
        release=release,
        graphs={graph.name: f"{graph.file}, {graph.runtime}, {graph.precision}" for graph in manifest.graphs},
    )


def _subject_at(path: str, variant: str | None) -> Subject:
    with open_bundle(path) as bundle:
        return subject_of(bundle.manifest, bundle.digest, variant=variant, release=None)


def _cold_starts(
    options: Options, workload: Workload, absent: dict[str, str], progress: Progress
) -> tuple[ColdStart, ...]:
    """Of each bundle in fresh processes; the first that fails ends it, and says why."""
    if not options.cold_starts:
        absent["cold_start"] = "not asked for"
        return ()
    threads = options.threads[0] if options.threads else None
    found = []
    for variant, path in bundles_of(options).items():
        progress(f"cold start{'' if variant is None else f' of {variant}'}, {options.cold_starts} processes")
        document = {"bundle": path, "threads": threads, "item": dump(workload.items[0])}
        try:
            found.append(cold_starts(document, processes=options.cold_starts).replace(variant=variant))
        except EdgekitError as error:
            absent["cold_start"] = error.message
            return ()
    return tuple(found)


def _operators(
    options: Options, workload: Workload, loaded: Mapping[str, Loaded], absent: dict[str, str], progress: Progress
) -> tuple[OperatorTable, ...]:
    """Of each bundle, with the first number of threads."""
    if not options.operators:
        absent["operators"] = "not asked for"
        return ()
    firsts = {cell.plan.variant: cell for cell in reversed(list(loaded.values()))}
    found: list[OperatorTable] = []
    for variant, path in bundles_of(options).items():
        progress(f"operators{'' if variant is None else f' of {variant}'}")
        plan, predictor = firsts[variant].plan, firsts[variant].predictor
        graphs = [(graph.name, graph.runtime) for graph in predictor.manifest.graphs]
        threads = predictor.manifest.run.threads if plan.threads is None else plan.threads
        tables = operator_tables(path, graphs, workload.items[0], threads=threads)
        found += [table.replace(variant=variant) for table in tables]
    return tuple(found)


def _notes(options: Options, workload: Workload) -> list[str]:
    notes = [
        "percentiles are of single runs; memory and processor time are those of the profiling process",
        "a graph's stage runs between the other stages, as in an app: alone, over and over, it finds warmer caches",
    ]
    if text_memory_of(options, workload) == 0:
        notes.append("texts are encoded anew in each run: the predictor's memory of texts is off")
    elif any("text" in item for item in workload.items):
        notes.append("texts seen before are not encoded again, as in an app")
    return notes


def _quantised_notes(
    loaded: Mapping[str, Loaded], measured: Mapping[str, Samples], operators: tuple[OperatorTable, ...]
) -> list[str]:
    """Where a quantised bundle was surely slower than a float one with as many threads, and why."""
    said = []
    for name, cell in loaded.items():
        if not any(graph.precision in QUANTISED for graph in cell.predictor.manifest.graphs):
            continue
        partner = _float_partner(cell, loaded)
        if partner is None or ratio_interval(measured[partner].total_ms, measured[name].total_ms)[0] <= 1.0:
            continue
        medians = [percentile(measured[which].total_ms, 0.5, "linear") for which in (name, partner)]
        tables = [table for table in operators if table.variant == cell.plan.variant]
        reasons = list(dict.fromkeys(reason for table in tables for reason in table.slow_because))
        said.append(slower_than_float(name, medians[0], partner, medians[1], reasons))
    return said


def _float_partner(cell: Loaded, loaded: Mapping[str, Loaded]) -> str | None:
    """The cell of a float bundle with as many threads, of the same runtime where there is one."""
    runtimes = {graph.runtime for graph in cell.predictor.manifest.graphs}
    found: dict[bool, str] = {}
    for name, other in loaded.items():
        graphs = other.predictor.manifest.graphs
        if other.plan.threads == cell.plan.threads and not any(graph.precision in QUANTISED for graph in graphs):
            found.setdefault({graph.runtime for graph in graphs} == runtimes, name)
    return found.get(True, found.get(False))
