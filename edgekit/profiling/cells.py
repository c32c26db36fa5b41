"""The cells of a profile: what is called in each of them, and how they are measured in turn."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from edgekit.predictor import Predictor, load
from edgekit.profiling.interleave import Cooldown, cool_down, cooled, measure_interleaved
from edgekit.profiling.journal import Journal
from edgekit.profiling.measure import Call, Rules, Run, Samples, Warmup, measure, measure_threads
from edgekit.profiling.memory import MemoryPhase, memory_phase, phase_between, read_status
from edgekit.profiling.options import Options, Plan, plans_of, rules_of, throughput_rules
from edgekit.profiling.sensors import LocalSensors, primary_temperature
from edgekit.profiling.workload import Workload, keywords
from edgekit.records import dump

PROGRESS_EVERY_S = 0.2
DEFAULT_TEXT_MEMORY = 1024

Progress = Callable[[str], None]
Cells = list[tuple[str, dict[str, str], Samples]]


class Loaded(NamedTuple):
    """A plan that can be measured: its predictor, and the call that is timed. settings: as words for the report."""

    plan: Plan
    predictor: Predictor
    call: Call
    settings: dict[str, str]


def load_all(
    options: Options, workload: Workload, stack: ExitStack, progress: Progress
) -> tuple[dict[str, Loaded], tuple[MemoryPhase, ...]]:
    """Every plan by its name, loaded and called once; the first one's memory, phase by phase."""
    memory = text_memory(options, workload)
    phases = [phase_between("before loading", {}, read_status(), was_reset=True)]
    loaded: dict[str, Loaded] = {}
    for plan in plans_of(options):
        progress(f"load {plan.name}")
        opener = partial(load, plan.bundle, threads=plan.threads, text_memory=memory)
        predictor, loading = memory_phase("load", opener)
        stack.enter_context(predictor)
        call = call_for(predictor, workload)
        _, first = memory_phase("first predict", call)
        if not loaded:
            phases += [loading, first]
        loaded[plan.name] = Loaded(plan, predictor, call, settings_of(plan, predictor))
    return loaded, tuple(phases)


def text_memory(options: Options, workload: Workload) -> int:
    """No memory where only texts are given: it would answer from the second run on, and no graph would run."""
    if options.text_memory is not None:
        return options.text_memory
    return 0 if all(item.keys() == {"text"} for item in workload.items) else DEFAULT_TEXT_MEMORY


def settings_of(plan: Plan, predictor: Predictor) -> dict[str, str]:
    """What tells this cell from others, as words; threads are those that the graphs really get."""
    threads = predictor.manifest.run.threads if plan.threads is None else plan.threads
    told = {"threads": str(threads) if threads else "the runtime's choice"}
    return told if plan.variant is None else {"variant": plan.variant, **told}


def call_for(predictor: Predictor, workload: Workload) -> Call:
    """The call that is measured: predict, with the workload's items in turn.

    A stage `call` is what handing over arguments and result takes, which predict's own clock does not see: some
    microseconds, and fifty after a pause that left the caches to others.
    """
    items = itertools.cycle([keywords(item, predictor.read) for item in workload.items])
    predict, clock = predictor.predict, time.perf_counter

    def call() -> Mapping[str, float]:
        before = clock()
        timings = predict(**next(items)).timings
        return {**timings, "call": (clock() - before) * 1e3 - timings["total"]}

    return call


def batch_call(predictor: Predictor, workload: Workload, batch: int) -> Call:
    """predict_batch with so many of the workload's items."""
    items = [keywords(item, predictor.read) for item in workload.items]
    given = list(itertools.islice(itertools.cycle(items), batch))

    def call() -> Mapping[str, float]:
        predictor.predict_batch(given)
        return {}

    return call


class Gate:
    """Lets the board come back near its first temperature before a cell, and says that it waits."""

    def __init__(self, sensors: LocalSensors, progress: Progress) -> None:
        self._sensors, self._progress = sensors, progress
        self._first_c = self._temperature_c()

    def _temperature_c(self) -> float | None:
        now = primary_temperature(self._sensors())
        return now.value if now is not None else None

    def __call__(self, name: str) -> Cooldown:
        def sleep(seconds: float) -> None:
            self._progress(f"{name}: waits until the board has cooled down")
            time.sleep(seconds)

        return cool_down(self._temperature_c, self._first_c, sleep=sleep)


class Counter:
    """Tells how far the measuring is, a few times a second."""

    def __init__(self, names: list[str], rules: Rules, progress: Progress) -> None:
        self._rules, self._progress = rules, progress
        self._runs = dict.fromkeys(names, 0)
        self._busy_s = dict.fromkeys(names, 0.0)
        self._told_s = time.perf_counter()

    def __call__(self, name: str, run: Run) -> None:
        """One more run of a cell."""
        pace_hz = self._rules.pace_hz
        self._runs[name] += run.every
        self._busy_s[name] += run.every * (1.0 / pace_hz if pace_hz else run.total_ms / 1e3)
        if run.at_s - self._told_s >= PROGRESS_EVERY_S:
            self._told_s = run.at_s
            self._progress(f"{name}: {self._runs[name]} runs, {self._done():.0%} measured, {run.total_ms:.2f} ms")

    def _done(self) -> float:
        rules, shares = self._rules, []
        for name, runs in self._runs.items():
            in_time = self._busy_s[name] / rules.min_s if rules.min_s > 0 else 1.0
            shares.append(min(1.0, runs / rules.min_runs, in_time))
        return sum(shares) / len(shares)


def measure_cells(
    options: Options,
    loaded: Mapping[str, Loaded],
    gate: Gate,
    journal: Journal,
    progress: Progress,
    processor_s: Callable[[], float],
) -> dict[str, Samples]:
    """The samples of every plan, taken in turn; each run is given to the journal."""
    rules = rules_of(options)
    counter = Counter(list(loaded), rules, progress)

    def on_run(name: str, run: Run) -> None:
        journal.run(name, run)
        counter(name, run)

    def on_warmup(name: str, warmup: Warmup) -> None:
        journal.note("warmup", cell=name, record=dump(warmup))

    calls = {name: cell.call for name, cell in loaded.items()}
    samples = measure_interleaved(
        calls, rules, before_each=gate, on_run=on_run, on_warmup=on_warmup, processor_s=processor_s
    )
    journal.flush()
    return samples


def measure_throughput(
    options: Options,
    workload: Workload,
    first: Loaded,
    gate: Gate,
    progress: Progress,
    processor_s: Callable[[], float],
) -> Cells:
    """Several callers at once and several items in one call, on the first plan's predictor."""
    rules = rules_of(options)
    cells: Cells = []
    for callers in options.callers:
        name = f"callers={callers}"
        progress(f"{callers} callers at once")
        waited = gate(name)
        samples = measure_threads(first.call, callers, throughput_rules(rules, 1), processor_s=processor_s)
        cells.append((name, {**first.settings, "callers": str(callers)}, cooled(samples, waited)))
    for batch in options.batches:
        name = f"batch={batch}"
        progress(f"{batch} items in one call")
        waited = gate(name)
        call = batch_call(first.predictor, workload, batch)
        samples = measure(call, throughput_rules(rules, batch), processor_s=processor_s)
        cells.append((name, {**first.settings, "batch": str(batch)}, cooled(samples, waited)))
    return cells
