"""A regression needs a share, a floor and a sure interval; other environments are refused; exit codes 9 and 10."""

from __future__ import annotations

from xml.etree import ElementTree

import profile_reports as made
import pytest

from edgekit.errors import GateFailed, GateInconclusive
from edgekit.profiling.compare import bounds, compare, gate, judge, ratio_interval
from edgekit.profiling.compare_output import compared_junit, compared_markdown, compared_text
from edgekit.profiling.report import Report


def reports(factor: float, **changes: object) -> tuple[Report, Report]:
    spread = float(changes.pop("spread", 0.03))  # type: ignore[arg-type]
    runs = int(changes.pop("runs", 400))  # type: ignore[call-overload]
    old = made.report(made.samples(runs, spread=spread, seed=1))
    new = made.report(made.samples(runs, p50_ms=20.0 * factor, spread=spread, seed=2), **changes)
    return old, new


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "same"), (1.05, "same"), (1.2, "slower"), (0.8, "faster"), (1.5, "slower")]
)
def test_the_verdict_follows_the_median(factor: float, verdict: str) -> None:
    found = compare(*reports(factor), bounds(0.10))
    assert found.changes[0].verdict == verdict
    assert found.changes[0].ratio == pytest.approx(factor, rel=0.02)


def test_what_cannot_be_told_is_inconclusive_and_not_a_guess() -> None:
    with pytest.raises(GateInconclusive) as caught:
        gate(compare(*reports(1.10, spread=0.25, runs=120), bounds(0.10)))
    assert caught.value.exit_code == 10


def test_too_few_runs_are_inconclusive() -> None:
    old, new = reports(1.5, runs=19)
    assert compare(old, new, bounds(0.1)).changes[0].verdict == "inconclusive"


def test_a_slower_profile_fails_the_gate_with_exit_code_9() -> None:
    with pytest.raises(GateFailed, match="predict") as caught:
        gate(compare(*reports(1.3), bounds(0.10)))
    assert caught.value.exit_code == 9
    gate(compare(*reports(1.0), bounds(0.10)))


def test_a_large_share_of_nearly_nothing_is_below_the_floor() -> None:
    old = made.report(made.samples(p50_ms=0.5, seed=1))
    new = made.report(made.samples(p50_ms=0.9, seed=2))
    found = compare(old, new, bounds(0.10))
    assert found.changes[0].ratio > 1.7
    assert found.changes[0].verdict == "same"  # 0.4 ms is below the floor of 0.5 ms
    assert compare(old, new, bounds(0.10, latency_floor_ms=0.1)).changes[0].verdict == "slower"


def test_no_false_alarm_between_two_samples_of_one_source() -> None:
    """Fifty pairs drawn alike: none may fail, and at most three may be undecided."""
    verdicts = []
    for seed in range(50):
        old = made.report(made.samples(200, spread=0.05, seed=seed))
        new = made.report(made.samples(200, spread=0.05, seed=seed + 1000))
        verdicts.append(compare(old, new, bounds(0.05)).changes[0].verdict)
    assert verdicts.count("slower") == 0
    assert verdicts.count("inconclusive") <= 3


def test_a_known_regression_is_always_found() -> None:
    verdicts = []
    for seed in range(30):
        old = made.report(made.samples(200, spread=0.05, seed=seed))
        new = made.report(made.samples(200, p50_ms=23.0, spread=0.05, seed=seed + 1000))
        verdicts.append(compare(old, new, bounds(0.10)).changes[0].verdict)
    assert verdicts.count("slower") >= 28
    assert "same" not in verdicts


def test_the_interval_of_a_ratio_holds_it() -> None:
    old, new = made.samples(300, seed=1).total_ms, made.samples(300, p50_ms=24.0, seed=2).total_ms
    low, high = ratio_interval(old, new)
    assert low < 1.2 < high
    assert high - low < 0.05
    assert ratio_interval(old, new) == (low, high)  # seeded


def test_another_environment_is_refused_and_named() -> None:
    old, new = reports(1.0, environment=made.environment(id="fedcba9876543210", kernel="6.1.0", board="Pi 4"))
    with pytest.raises(GateInconclusive, match="kernel") as caught:
        compare(old, new, bounds(0.1))
    assert "Pi 4" in caught.value.message
    assert caught.value.exit_code == 10


def test_other_inputs_another_pace_and_a_cut_profile_are_refused() -> None:
    other = made.facts().workload.replace(described="golden sample 'dog'")
    for changes in ({"workload": other}, {"complete": False}):
        with pytest.raises(GateInconclusive):
            compare(*reports(1.0, **changes), bounds(0.1))
    old, _ = reports(1.0)
    paced = made.samples()
    paced = paced.replace(rules=paced.rules.replace(pace_hz=20.0))
    with pytest.raises(GateInconclusive, match="pace_hz"):
        compare(old, made.report(paced), bounds(0.1))
    with pytest.raises(GateInconclusive, match="settings"):
        compare(old, made.report(cells=[("predict", {"threads": "4"}, made.samples())]), bounds(0.1))
    with pytest.raises(GateInconclusive, match="in common"):
        compare(old, made.report(cells=[("int8", {"threads": "1"}, made.samples())]), bounds(0.1))


def test_memory_and_power_have_floors_of_their_own() -> None:
    old, new = made.report(), made.report()
    grown = tuple(phase.replace(peak_bytes=(phase.peak_bytes or 0) + (40 << 20)) for phase in new.memory)
    found = {change.name: change.verdict for change in compare(old, made.report(memory=grown), bounds(0.1)).changes}
    assert found["peak memory, load"] == "slower"
    little = tuple(phase.replace(peak_bytes=(phase.peak_bytes or 0) + (10 << 20)) for phase in new.memory)
    found = {change.name: change.verdict for change in compare(old, made.report(memory=little), bounds(0.05)).changes}
    assert found["peak memory, measuring"] == "same"  # 10 MiB are below the floor of 16
    warm = made.report(trace=made.trace(8.0, watts=9.0))
    assert {c.name: c.verdict for c in compare(old, warm, bounds(0.1)).changes}["predict power"] == "slower"
    fat = made.report(cold_start=(made.cold_start().replace(peak_bytes=(10**9, 10**9, None)),))
    verdicts = {c.name: c.verdict for c in compare(old, fat, bounds(0.1)).changes}
    assert verdicts["peak memory, fresh process"] == "slower"


def test_a_stage_is_shown_and_the_whole_decides() -> None:
    shares = {"decode": 0.45, "preprocess": 0.12, "graph:image": 0.33, "postprocess": 0.10}
    found = compare(made.report(), made.report(made.samples(seed=2, shares=shares)), bounds(0.1))
    by_name = {change.name: change for change in found.changes}
    assert by_name["predict decode"].verdict == "slower"
    assert by_name["predict"].verdict == "same"
    gate(found)


def test_other_versions_and_operators_are_noted() -> None:
    old = made.report()
    new = made.report(
        runtime_versions={"edgekit": "0.1.0", "onnxruntime": "1.33.0"},
        operators=(made.operators(kinds={"Conv": 900.0, "DequantizeLinear": 300.0}),),
    )
    notes = " ".join(compare(old, new, bounds(0.1)).notes)
    assert "onnxruntime was 1.32.0 and is 1.33.0" in notes
    assert "DequantizeLinear" in notes


@pytest.mark.parametrize(
    ("old", "new", "interval", "verdict"),
    [
        (10.0, 12.0, (1.15, 1.25), "slower"),
        (10.0, 12.0, (1.05, 1.30), "inconclusive"),
        (10.0, 10.5, (0.95, 1.20), "inconclusive"),
        (10.0, 10.5, (1.02, 1.08), "same"),
        (10.0, 8.0, (0.75, 0.85), "faster"),
        (10.0, 8.0, (0.75, 1.05), "same"),
        (1.0, 1.3, (1.25, 1.35), "same"),
    ],
)
def test_the_judgement_over_medians_and_interval(
    old: float, new: float, interval: tuple[float, float], verdict: str
) -> None:
    assert judge(old, new, interval, 0.10, 0.5)[0] == verdict


def test_junit_counts_failures_and_errors() -> None:
    found = compare(*reports(1.3), bounds(0.10))
    suite = ElementTree.fromstring(compared_junit(found))
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase")) == len(found.changes)
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) == 1
    assert suite.attrib["errors"] == "0"


def test_markdown_and_text_show_every_figure() -> None:
    found = compare(*reports(1.3), bounds(0.10))
    for change in found.changes:
        assert change.name in compared_markdown(found)
        assert change.name in compared_text(found)
    assert max(map(len, compared_text(found).splitlines())) <= 130
    assert "| predict |" in compared_markdown(found)
