"""What to profile and how: the document that is handed to the device."""

from __future__ import annotations

from typing import Any, NamedTuple

from edgekit.errors import InputError, ManifestError
from edgekit.profiling.measure import Rules, Scenario, rules_for
from edgekit.profiling.workload import Workload
from edgekit.records import Record, dump, load_json, parse

THROUGHPUT_MIN_RUNS = 64
THROUGHPUT_MIN_S = 3.0


class Options(Record):
    """What to profile and how.

    bundle: path. variant: its name beside other variants, or null. release: the id of the deployed release, or
    null. variants: further bundles by name, measured in turn with it. workload: null for the bundle's golden
    sample. threads: numbers of runtime threads to sweep, () for what the bundle's target says. callers: numbers of
    threads that call predict at once. batches: sizes of predict_batch. min_runs, min_s: null for the scenario's.
    sustained_s: null, or how long the course over time is followed. text_memory: null for none where only texts
    are given, else as load does.
    """

    bundle: str
    variant: str | None
    release: str | None
    variants: dict[str, str]
    workload: Workload | None
    scenario: Scenario
    min_runs: int | None
    min_s: float | None
    pace_hz: float | None
    threads: tuple[int, ...]
    callers: tuple[int, ...]
    batches: tuple[int, ...]
    sustained_s: float | None
    cold_starts: int
    operators: bool
    sensor_rate_hz: float
    text_memory: int | None


def options_for(bundle: str, **changes: Any) -> Options:
    """The usual options with some changed: golden sample, 100 runs and 10 s, 5 cold starts, operators, 2 Hz."""
    usual: dict[str, Any] = {
        "bundle": bundle,
        "variant": None,
        "release": None,
        "variants": {},
        "workload": None,
        "scenario": "default",
        "min_runs": None,
        "min_s": None,
        "pace_hz": None,
        "threads": (),
        "callers": (),
        "batches": (),
        "sustained_s": None,
        "cold_starts": 5,
        "operators": True,
        "sensor_rate_hz": 2.0,
        "text_memory": None,
    }
    unknown = sorted(changes.keys() - usual.keys())
    if unknown:
        raise InputError(f"profile has no option {unknown[0]!r}, it has {', '.join(usual)}")
    return Options(**{**usual, **changes})


def parse_options(data: bytes) -> Options:
    """The options that a document holds. Raises InputError."""
    try:
        return parse(Options, load_json(data))
    except ManifestError as error:
        raise InputError(f"profile options, key '{error.key}': {error.problem}") from None


class Plan(NamedTuple):
    """One cell that will be measured; variant null for one bundle alone, threads for what its target says."""

    name: str
    variant: str | None
    bundle: str
    threads: int | None


def bundles_of(options: Options) -> dict[str | None, str]:
    """Every bundle's path by its variant; null for one alone."""
    if not options.variants:
        return {None: options.bundle}
    found: dict[str | None, str] = {options.variant or "first": options.bundle}
    found.update(options.variants)
    return found


def plans_of(options: Options) -> list[Plan]:
    """Every bundle with every number of threads; one alone is called `predict`."""
    plans = []
    for variant, bundle in bundles_of(options).items():
        for threads in options.threads or (None,):
            words = [variant] if variant else []
            words += [f"threads={threads}"] if threads is not None else []
            plans.append(Plan(" ".join(words) or "predict", variant, bundle, threads))
    if options.sustained_s is not None and len(plans) > 1:
        names = ", ".join(plan.name for plan in plans)
        raise InputError(
            f"a sustained course follows one cell without a break, got {len(plans)}: {names}",
            hint="profile each variant and each number of threads on its own with --sustained",
        )
    return plans


def rules_of(options: Options) -> Rules:
    """The rules of the scenario with the options' own numbers; a sustained run lasts as long as it says."""
    rules = rules_for(options.scenario, pace_hz=options.pace_hz)
    if options.min_runs is not None:
        rules = rules.replace(min_runs=options.min_runs)
    if options.min_s is not None:
        rules = rules.replace(min_s=options.min_s)
    if options.sustained_s is not None:
        rules = rules.replace(min_s=options.sustained_s)
    return rules


def throughput_rules(rules: Rules, batch: int) -> Rules:
    """Shorter rules for callers and batches, never longer than the main ones."""
    return rules.replace(
        min_runs=min(rules.min_runs, THROUGHPUT_MIN_RUNS),
        min_s=min(rules.min_s, THROUGHPUT_MIN_S),
        pace_hz=None,
        batch=batch,
    )


def dump_options(options: Options) -> dict[str, Any]:
    """The document that `parse_options` reads."""
    document: dict[str, Any] = dump(options)
    return document
