"""Several cells measured in turn, so that heat, clocks and neighbours fall on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from edgekit.errors import InputError
from edgekit.profiling.measure import Call, Rules, Run, Samples, Slice, Warmup, measure

ROUNDS = 5
COOLER_WITHIN_C = 3.0
COOLDOWN_LIMIT_S = 60.0
COOLDOWN_STEP_S = 1.0

OnRun = Callable[[str, Run], None]
OnWarmup = Callable[[str, Warmup], None]


class Cooldown(NamedTuple):
    """How long was waited before a slice, and whether the board was near its first temperature; null: it tells none."""

    waited_s: float
    cool: bool | None


NO_WAIT = Cooldown(0.0, None)


def cool_down(
    temperature_c: Callable[[], float | None],
    first_c: float | None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    limit_s: float = COOLDOWN_LIMIT_S,
) -> Cooldown:
    """Wait until the board is within 3 degrees of `first_c` again; no wait where it tells no temperature."""
    waited_s = 0.0
    while first_c is not None:
        now_c = temperature_c()
        if now_c is None:
            return Cooldown(waited_s, None)
        if now_c <= first_c + COOLER_WITHIN_C:
            return Cooldown(waited_s, True)
        if waited_s >= limit_s:
            return Cooldown(waited_s, False)
        sleep(COOLDOWN_STEP_S)
        waited_s += COOLDOWN_STEP_S
    return NO_WAIT


def measure_interleaved(
    calls: Mapping[str, Call],
    rules: Rules,
    *,
    rounds: int = ROUNDS,
    before_each: Callable[[str], Cooldown] = lambda name: NO_WAIT,
    on_run: OnRun = lambda name, run: None,
    on_warmup: OnWarmup = lambda name, warmup: None,
    processor_s: Callable[[], float] = time.process_time,
) -> dict[str, Samples]:
    """Each call's samples, taken in `rounds` slices in turn, every second round in the other direction.

    Together a call's slices reach `rules`; each slice warms up anew, after `before_each` let the board cool. One
    call alone is measured in one piece, at once.
    """
    if not calls:
        raise InputError("there is nothing to measure")

    def piece(name: str, rules: Rules) -> Samples:
        told_run, told_warmup = partial(on_run, name), partial(on_warmup, name)
        return measure(calls[name], rules, on_run=told_run, on_warmup=told_warmup, processor_s=processor_s)

    if len(calls) == 1:
        (name,) = calls
        return {name: piece(name, rules)}
    part = rules.replace(
        min_runs=-(-rules.min_runs // rounds),
        min_s=rules.min_s / rounds,
        limit_s=None if rules.limit_s is None else rules.limit_s / rounds,
    )
    slices: dict[str, list[Samples]] = {name: [] for name in calls}
    for round_ in range(rounds):
        order = list(calls)[:: 1 if round_ % 2 == 0 else -1]
        for name in order:
            waited = before_each(name)
            slices[name].append(cooled(piece(name, part), waited))
    return {name: merge(parts, rules) for name, parts in slices.items()}


def cooled(samples: Samples, before: Cooldown) -> Samples:
    """The sample of one slice, with what was waited before it."""
    (slice_,) = samples.slices
    return samples.replace(slices=(slice_.replace(waited_s=before.waited_s, cool=before.cool),))


def merge(parts: Sequence[Samples], rules: Rules) -> Samples:
    """The slices of one call as one sample; the pauses between slices count in no duration."""
    every = max(part.kept_every for part in parts)
    parts = [thinned(part, every) for part in parts]
    runs = sum(part.runs for part in parts)
    origin_s = parts[0].began_s
    cpu_ms = sum((part.cpu_ms_per_call or 0.0) * part.runs for part in parts) / runs
    counts = [len(part.total_ms) for part in parts]
    stopped = [part.stopped for part in parts if part.stopped]
    return Samples(
        rules=rules,
        threads=parts[0].threads,
        warmup=parts[0].warmup.replace(
            runs=sum(part.warmup.runs for part in parts),
            duration_s=sum(part.warmup.duration_s for part in parts),
            settled=all(part.warmup.settled for part in parts),
        ),
        runs=runs,
        kept_every=every,
        slowest_ms=max(part.slowest_ms for part in parts),
        began_s=origin_s,
        slices=tuple(_moved(slice_, part.began_s - origin_s) for part in parts for slice_ in part.slices),
        start_s=tuple(start + part.began_s - origin_s for part in parts for start in part.start_s),
        total_ms=tuple(total for part in parts for total in part.total_ms),
        stages_ms=_joined([part.stages_ms for part in parts], counts),
        details=_joined([part.details for part in parts], counts),
        duration_s=sum(part.duration_s for part in parts),
        cpu_ms_per_call=cpu_ms,
        late_runs=sum(part.late_runs for part in parts),
        stopped=stopped[0] if stopped else None,
    )


def thinned(samples: Samples, every: int) -> Samples:
    """The same sample with only every `every`-th of all runs, a multiple of the step at which it was kept."""
    step = every // samples.kept_every
    return samples.replace(
        kept_every=every,
        start_s=samples.start_s[::step],
        total_ms=samples.total_ms[::step],
        stages_ms={name: column[::step] for name, column in samples.stages_ms.items()},
        details={name: column[::step] for name, column in samples.details.items()},
    )


def _moved(slice_: Slice, by_s: float) -> Slice:
    return slice_.replace(from_s=slice_.from_s + by_s, to_s=slice_.to_s + by_s)


def _joined(
    tables: Sequence[Mapping[str, tuple[float | None, ...]]], runs: Sequence[int]
) -> dict[str, tuple[float | None, ...]]:
    names = dict.fromkeys(name for table in tables for name in table)
    return {
        name: tuple(value for table, count in zip(tables, runs) for value in table.get(name, (None,) * count))
        for name in names
    }
