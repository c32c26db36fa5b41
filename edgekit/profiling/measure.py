"""Time a call: warm up until it settles, then run it for long enough, and keep every sample.

Works on any `call() -> {stage: milliseconds}`, so that the measuring itself can be measured on known sleeps.
A name with a dot, `generate.first_token`, is a detail of the stage before the dot and no stage of its own;
`total` is the call's own idea of the whole and is left aside: the whole is measured here.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from edgekit.errors import InputError
from edgekit.profiling.kept import KEPT_RUNS, Kept
from edgekit.profiling.statistics import percentile
from edgekit.records import Record

Call = Callable[[], Mapping[str, float]]
Scenario = Literal["default", "single-stream"]

SETTLE_WINDOW_RUNS = 5
SETTLE_MEDIANS = 3
SETTLE_SHARE = 0.05
STAGE_SUM_TOLERANCE = 0.02
STAGE_SUM_FLOOR_MS = 0.02
"""A call of 0.3 ms spends some 10 us on its arguments and its result, which belong to no stage."""


class Rules(Record):
    """How long to warm up and how long to measure; both a number of runs and a time, and both must be reached.

    warmup_limit_s: where warming up ends although the running median has not settled (said in the report).
    limit_s: where measuring ends although runs are missing, or null. pace_hz: runs per second, or null for back
    to back. batch: items in one call, for the throughput.
    """

    scenario: Scenario
    warmup_min_runs: int
    warmup_min_s: float
    warmup_limit_s: float
    min_runs: int
    min_s: float
    limit_s: float | None
    pace_hz: float | None
    batch: int

    def check(self) -> None:
        if self.min_runs < 1 or self.warmup_min_runs < 0 or self.batch < 1:
            raise InputError(
                f"measuring needs at least 1 run of 1 item, got min_runs={self.min_runs}, batch={self.batch}"
            )
        if self.pace_hz is not None and not self.pace_hz > 0:
            raise InputError(f"a pace is more than 0 runs per second, got {self.pace_hz}")


def rules_for(scenario: Scenario = "default", *, pace_hz: float | None = None, batch: int = 1) -> Rules:
    """The rules by their name.

    default: at least 100 runs and 10 s (MLPerf LoadGen's defaults). single-stream: MLPerf Mobile's, at least
    1,024 runs and 60 s, the next query only after the last one ended. Warm-up: at least 5 runs and 0.5 s.
    """
    runs, seconds = (1024, 60.0) if scenario == "single-stream" else (100, 10.0)
    return Rules(
        scenario=scenario,
        warmup_min_runs=5,
        warmup_min_s=0.5,
        warmup_limit_s=30.0,
        min_runs=runs,
        min_s=seconds,
        limit_s=None,
        pace_hz=pace_hz,
        batch=batch,
    )


class Warmup(Record):
    """What ran before the measuring, from `began_s` on; settled: the running median had stopped moving."""

    began_s: float
    runs: int
    duration_s: float
    first_ms: float | None
    settled: bool


class Slice(Record):
    """One uninterrupted stretch of measuring, in seconds after the sample's `began_s`.

    waited_s: how long was waited before it for the board to cool. cool: whether it had come back near its first
    temperature, null where nothing was waited for or no temperature is told.
    """

    from_s: float
    to_s: float
    waited_s: float
    cool: bool | None


class Samples(Record):
    """The runs that were measured, in order; times in milliseconds, start_s in seconds after `began_s`.

    runs: all of them; kept_every: 1 where each is here, k where memory allowed only every k-th. slowest_ms: of all.
    began_s: the machine's monotonic clock when measuring began, the clock that a Trace of sensors shares.
    slices: the stretches in which the runs lie, several where cells were measured in turn; duration_s is theirs.
    stages_ms, details: per name one value per run, null where that stage did not run in that call. late_runs:
    runs that began after their turn (pace only). cpu_ms_per_call: processor time of the whole process, all its
    threads and the waiting between paced runs included, the measuring itself left out, divided by the runs; null
    where the run was cut short.
    """

    rules: Rules
    threads: int
    warmup: Warmup
    runs: int
    kept_every: int
    slowest_ms: float
    began_s: float
    slices: tuple[Slice, ...]
    start_s: tuple[float, ...]
    total_ms: tuple[float, ...]
    stages_ms: dict[str, tuple[float | None, ...]]
    details: dict[str, tuple[float | None, ...]]
    duration_s: float
    cpu_ms_per_call: float | None
    late_runs: int
    stopped: str | None


class Run(Record):
    """One timed call that was kept, as it is handed to who writes it away; at_s on the machine's monotonic clock.

    index: its number among all runs of its slice. every: the step at which runs are kept from now on.
    """

    index: int
    every: int
    at_s: float
    total_ms: float
    parts: dict[str, float]


def measure(
    call: Call,
    rules: Rules,
    *,
    on_run: Callable[[Run], None] | None = None,
    on_warmup: Callable[[Warmup], None] | None = None,
    kept_runs: int = KEPT_RUNS,
    processor_s: Callable[[], float] = time.process_time,
) -> Samples:
    """Warm up, then time `call` until both the runs and the seconds of `rules` are reached.

    on_run is called between two runs, outside what is timed; on_warmup before the first. kept_runs: see Kept.
    processor_s: processor time of this process, without what samples beside it takes. What `call` raises ends the
    measuring and is raised.
    """
    warmup = warm_up(call, rules)
    if on_warmup is not None:
        on_warmup(warmup)
    gc.collect()
    clock, sleep = time.perf_counter, time.sleep
    kept = Kept(kept_runs)
    late, stopped, noting_s = 0, None, 0.0
    period_s = 1.0 / rules.pace_hz if rules.pace_hz else 0.0
    cpu_before, origin = processor_s(), clock()
    while True:
        elapsed_s = clock() - origin
        if kept.runs >= rules.min_runs and elapsed_s >= rules.min_s:
            break
        if rules.limit_s is not None and elapsed_s >= rules.limit_s and kept.runs:
            stopped = f"stopped after {elapsed_s:.1f} s with {kept.runs} of {rules.min_runs} runs"
            break
        if period_s:
            wait_s = kept.runs * period_s - elapsed_s
            if wait_s > 0:
                sleep(wait_s)
            else:
                late += kept.runs > 0
        before = clock()
        timings = call()
        after = clock()
        total_ms = (after - before) * 1e3
        if kept.add(before - origin, total_ms, timings) and on_run is not None:
            noting_from_s = time.thread_time()
            on_run(Run(index=kept.runs - 1, every=kept.every, at_s=before, total_ms=total_ms, parts=dict(timings)))
            noting_s += time.thread_time() - noting_from_s
    duration_s = clock() - origin
    cpu_ms = (processor_s() - cpu_before - noting_s) * 1e3 / kept.runs
    stages, details = columns(kept.parts)
    return Samples(
        rules=rules,
        threads=1,
        warmup=warmup,
        runs=kept.runs,
        kept_every=kept.every,
        slowest_ms=kept.slowest_ms,
        began_s=origin,
        slices=(Slice(from_s=0.0, to_s=duration_s, waited_s=0.0, cool=None),),
        start_s=tuple(kept.starts_s),
        total_ms=tuple(kept.totals_ms),
        stages_ms=stages,
        details=details,
        duration_s=duration_s,
        cpu_ms_per_call=cpu_ms,
        late_runs=late,
        stopped=stopped,
    )


def warm_up(call: Call, rules: Rules) -> Warmup:
    """Run until the minimum is reached and the running median of 5 runs stays within 5 % three times in a row."""
    clock = time.perf_counter
    origin = clock()
    totals: list[float] = []
    while True:
        elapsed_s = clock() - origin
        settled = has_settled(totals)
        enough = len(totals) >= rules.warmup_min_runs and elapsed_s >= rules.warmup_min_s
        if enough and (settled or elapsed_s >= rules.warmup_limit_s):
            first_ms = totals[0] if totals else None
            return Warmup(began_s=origin, runs=len(totals), duration_s=elapsed_s, first_ms=first_ms, settled=settled)
        before = clock()
        call()
        totals.append((clock() - before) * 1e3)


def has_settled(totals_ms: Sequence[float]) -> bool:
    """Whether the last three running medians over five runs lie within 5 % of each other."""
    if len(totals_ms) < SETTLE_WINDOW_RUNS + SETTLE_MEDIANS - 1:
        return False
    ends = [len(totals_ms) - k for k in range(SETTLE_MEDIANS)]
    medians = [percentile(totals_ms[end - SETTLE_WINDOW_RUNS : end], 0.5, "linear") for end in ends]
    return max(medians) - min(medians) <= SETTLE_SHARE * max(medians)


def columns(
    parts: Sequence[Mapping[str, float]],
) -> tuple[dict[str, tuple[float | None, ...]], dict[str, tuple[float | None, ...]]]:
    """Per-run mappings as one column per stage and per detail, null where a run lacks the name."""
    names: dict[str, None] = {}
    for part in parts:
        names.update(dict.fromkeys(part))
    table = {name: tuple(_number(part.get(name)) for part in parts) for name in names if name != "total"}
    stages = {name: column for name, column in table.items() if "." not in name}
    return stages, {name: column for name, column in table.items() if "." in name}


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def stage_sum_share(samples: Samples) -> float | None:
    """What the stages of a run add up to, as a share of its whole: the median over all runs; null without stages."""
    if not samples.stages_ms:
        return None
    sums = [sum(value for value in row if value is not None) for row in zip(*samples.stages_ms.values())]
    return percentile([parts / whole for parts, whole in zip(sums, samples.total_ms)], 0.5, "linear")


def adds_up(samples: Samples) -> bool | None:
    """Whether the stages make the whole within 2 %, or within what calling predict costs at all; null without."""
    share = stage_sum_share(samples)
    if share is None:
        return None
    whole_ms = percentile(samples.total_ms, 0.5, "linear")
    return abs(share - 1.0) <= max(STAGE_SUM_TOLERANCE, STAGE_SUM_FLOOR_MS / whole_ms)


def throughput_per_s(samples: Samples) -> float:
    """Items answered per second of wall time."""
    return samples.runs * samples.rules.batch / samples.duration_s


def measure_threads(
    call: Call, threads: int, rules: Rules, *, processor_s: Callable[[], float] = time.process_time
) -> Samples:
    """The same call from several threads at once: each sample is one call's own latency.

    Ends for all threads when their runs together and the time reach `rules`. Raises what any call raised.
    """
    if threads < 1:
        raise InputError(f"at least 1 thread is needed, got {threads}")
    if threads == 1:
        return measure(call, rules, processor_s=processor_s)
    warmup = warm_up(call, rules)
    gc.collect()
    clock = time.perf_counter
    done: list[tuple[float, float, Mapping[str, float]]] = []
    failures: list[BaseException] = []
    barrier = threading.Barrier(threads + 1)
    origin = [0.0]

    def work() -> None:
        barrier.wait()
        while not failures:
            before = clock()
            if len(done) >= rules.min_runs and before - origin[0] >= rules.min_s:
                return
            if rules.limit_s is not None and done and before - origin[0] >= rules.limit_s:
                return
            try:
                timings = call()
            except BaseException as error:
                failures.append(error)
                return
            done.append((before - origin[0], (clock() - before) * 1e3, timings))

    workers = [threading.Thread(target=work, name=f"edgekit-profile-{i}", daemon=True) for i in range(threads)]
    for worker in workers:
        worker.start()
    cpu_before, origin[0] = processor_s(), clock()
    barrier.wait()
    for worker in workers:
        worker.join()
    duration_s = clock() - origin[0]
    if failures:
        raise failures[0]
    done.sort(key=lambda sample: sample[0])
    stages, details = columns([timings for _, _, timings in done])
    short = f"stopped after {duration_s:.1f} s with {len(done)} of {rules.min_runs} runs"
    return Samples(
        rules=rules,
        threads=threads,
        warmup=warmup,
        runs=len(done),
        kept_every=1,
        slowest_ms=max(total for _, total, _ in done),
        began_s=origin[0],
        slices=(Slice(from_s=0.0, to_s=duration_s, waited_s=0.0, cool=None),),
        start_s=tuple(max(0.0, start) for start, _, _ in done),
        total_ms=tuple(total for _, total, _ in done),
        stages_ms=stages,
        details=details,
        duration_s=duration_s,
        cpu_ms_per_call=(processor_s() - cpu_before) * 1e3 / len(done),
        late_runs=0,
        stopped=short if len(done) < rules.min_runs else None,
    )
