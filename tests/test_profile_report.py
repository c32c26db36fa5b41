"""F1, F3, F6: a report without one of its conditions cannot be built; unstable and cut runs are marked; text, trace."""

from __future__ import annotations

import json
from pathlib import Path

import profile_reports as made
import pytest

from edgekit.errors import InputError
from edgekit.profiling.assemble import energy_of
from edgekit.profiling.measure import Slice
from edgekit.profiling.readings import Reading, Throttle, known, no_throttle_flags
from edgekit.profiling.report import Report, build_report, dump_report, load_report
from edgekit.profiling.sampler import Measured, trace_of
from edgekit.profiling.schema import report_schema
from edgekit.profiling.sustained import knee, still_rising, sustained
from edgekit.profiling.text import WIDTH, render, table
from edgekit.profiling.trace_file import dump_trace

SCHEMA_1 = Path(__file__).parents[1] / "docs" / "profile-schema-1.json"


def fields(report: Report) -> dict[str, object]:
    return {name: getattr(report, name) for name in Report.fields_ if name != "schema"}


def test_a_report_without_any_one_field_cannot_be_built() -> None:
    whole = fields(made.report())
    assert build_report(**whole) == made.report()
    for name in whole:
        with pytest.raises(InputError, match=name):
            build_report(**{key: value for key, value in whole.items() if key != name})


def _paths(document: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    found = []
    if isinstance(document, dict):
        for key, value in document.items():
            found += [(*path, key), *_paths(value, (*path, key))]
    elif isinstance(document, list) and document:
        found += _paths(document[0], (*path, 0))
    return found


FREE = {"stages_ms", "details", "absent", "settings", "graphs", "runtime_versions", "by_op", "placement", "items"}
"""Tables whose keys are names of stages and the like: another name is another fact, no missing key."""


def test_a_written_report_without_any_one_key_is_refused_at_any_depth() -> None:
    document = json.loads(dump_report(made.report()))
    refused = 0
    for path in _paths(document):
        if FREE & set(path[:-1]) or "parts_ms" in path[:-1]:
            continue
        copy = json.loads(json.dumps(document))
        inner = copy
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]
        with pytest.raises(InputError):
            load_report(json.dumps(copy).encode(), "copy")
        refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    "required",
    [
        "cells.samples.warmup.duration_s",
        "cells.samples.duration_s",
        "cells.latency_ms.n",
        "cells.latency_ms.method",
        "environment.governor",
        "environment.power_mode",
        "environment.id",
        "conditions.clock_before_mhz",
        "conditions.temperature_before_c",
        "conditions.temperature_after_c",
        "conditions.throttle_before",
        "conditions.throttle_after",
        "runtime_versions",
        "subject.bundle_digest",
    ],
)
def test_the_schema_requires_what_f1_names(required: str) -> None:
    schema = report_schema()
    node = schema
    for step in required.split("."):
        while "$ref" in node or node.get("type") == "array":
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node["items"]
        assert step in node["required"]
        assert node["additionalProperties"] is False
        node = node["properties"][step]


def test_the_published_schema_is_the_one_of_the_records() -> None:
    """docs/profile-schema-1.json; once it is released a changed key is a new number in a new file."""
    assert json.loads(SCHEMA_1.read_text()) == report_schema()


def test_another_implementation_of_json_schema_accepts_reports_and_refuses_changed_ones() -> None:
    import jsonschema

    schema = json.loads(SCHEMA_1.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    document = json.loads(dump_report(made.report(is_sustained=True, others=made.others())))
    assert list(validator.iter_errors(document)) == []
    for change in ({"schema": "1"}, {"surprise": 1}, {"cells": [{}]}, {"sensors": 3}):
        assert list(validator.iter_errors({**document, **change}))
    del document["environment"]["governor"]
    (error,) = validator.iter_errors(document)
    assert "governor" in error.message


def test_reading_and_writing_are_inverse() -> None:
    report = made.report(is_sustained=True)
    assert load_report(dump_report(report), "x") == report
    assert dump_report(load_report(dump_report(report), "x")) == dump_report(report)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b'{"schema": 2}', b'{"schema": 1}', b'{"schema": 1, "schema": 1}']
)
def test_what_is_no_report_is_refused_with_its_name(data: bytes) -> None:
    with pytest.raises(InputError, match=r"old\.json"):
        load_report(data, "old.json")


def test_a_part_that_is_missing_says_why() -> None:
    report = made.report(cold_start=(), absent={"cold_start": "not asked for"})
    assert report.absent["cold_start"] == "not asked for"
    whole = fields(report)
    with pytest.raises(InputError, match="cold_start"):
        build_report(**{**whole, "absent": {}})


def test_an_unknown_value_is_null_with_a_reason_and_not_a_number() -> None:
    document = json.loads(dump_report(made.report()))
    document["conditions"]["temperature_before_c"] = {"value": None, "reason": None}
    with pytest.raises(InputError):
        load_report(json.dumps(document).encode(), "x")


def test_stages_carry_their_share_and_the_sum_is_told() -> None:
    (cell,) = made.report().cells
    assert [stage.name for stage in cell.stages] == list(made.STAGES)
    assert [stage.share for stage in cell.stages] == pytest.approx(list(made.STAGES.values()))
    assert cell.stage_sum_share == pytest.approx(1.0)
    assert cell.adds_up is True
    assert made.report().stable


@pytest.mark.parametrize(("share", "adds_up"), [(0.985, True), (0.975, False), (1.015, True), (1.03, False)])
def test_stages_that_do_not_make_the_whole_within_2_percent_are_flagged(share: float, adds_up: bool) -> None:
    report = made.report(made.samples(shares={"graph:image": share}))
    assert report.cells[0].adds_up is adds_up
    assert report.stable is adds_up


def test_a_scattered_run_is_marked_unstable() -> None:
    assert not made.report(made.samples(spread=0.2)).stable
    assert "standard deviation" in made.report(made.samples(spread=0.2)).unstable_because[0]


def test_a_throttled_run_is_marked_unstable() -> None:
    report = made.report(trace=made.trace(8.0, knee_at=0.5, throttled=True))
    assert any("held back" in reason for reason in report.unstable_because)


def test_a_throttle_bit_that_appeared_while_measuring_marks_the_run() -> None:
    before, after = (
        made.snapshot().replace(throttle=Throttle(now=(), since_boot=bits, source="x", reason=None))
        for bits in ((), ("under-voltage",))
    )
    report = made.report(before=before, after=after)
    assert any("under-voltage" in reason for reason in report.unstable_because)
    assert made.report(before=after, after=after).stable  # it was there before: not this run's


def test_a_temperature_that_still_rises_marks_the_run() -> None:
    steps = [(float(i), [Measured("temp.cpu", "C", 40.0 + i, None, "x")]) for i in range(30)]
    report = made.report(trace=trace_of(steps, rate_hz=1.0, began_s=made.BEGAN_S, missed=0))
    assert any("still rising" in reason for reason in report.unstable_because)
    assert still_rising([40.0, 41.0]) is None
    assert still_rising([50.0] * 30) == 0.0


def test_a_temperature_that_never_moves_is_not_believed() -> None:
    steps = [(float(i), [Measured("temp.cpu", "C", 0.5, None, "x")]) for i in range(30)]
    report = made.report(trace=trace_of(steps, rate_hz=1.0, began_s=made.BEGAN_S, missed=0))
    assert any("cannot be trusted" in reason for reason in report.unstable_because)


def test_a_cut_profile_is_marked() -> None:
    report = made.report(complete=False)
    assert not report.stable
    assert "INCOMPLETE" in render(report)


def test_a_warm_up_that_did_not_settle_marks_the_run() -> None:
    first = made.samples()
    report = made.report(first.replace(warmup=first.warmup.replace(settled=False)))
    assert any("settled" in reason for reason in report.unstable_because)


def test_energy_is_power_times_time_by_runs() -> None:
    """6 W for all of 400 runs of about 20 ms: 120 mJ each; with 2 W of idle before, 80 mJ net."""
    first = made.samples(spread=0.001)
    energy = energy_of(made.trace(first.duration_s), first, first.warmup.began_s)
    assert energy.power_w.value == pytest.approx(6.0)
    assert energy.idle_w.value == pytest.approx(2.0)
    assert energy.per_run_mj.value == pytest.approx(120.0, rel=0.01)
    assert energy.net_per_run_mj.value == pytest.approx(80.0, rel=0.01)
    steps = [(0.5, [Measured("power", "W", None, "no sensor", "none")])]
    unknown = energy_of(trace_of(steps, rate_hz=1.0, began_s=made.BEGAN_S, missed=0), first, first.warmup.began_s)
    assert unknown.per_run_mj.value is None
    assert unknown.per_run_mj.reason == "no sensor"


def test_cells_in_turn_have_each_their_own_energy() -> None:
    """Two cells, ten seconds each in two slices: 4 W in the first one's, 8 W in the other's."""
    slices = {"a": ((0.0, 5.0), (15.0, 20.0)), "b": ((5.0, 10.0), (10.0, 15.0))}
    steps = [
        (t / 2, [Measured("power.VDD_IN", "W", 4.0 if t < 10 or t > 30 else 8.0, None, "/sys")])
        for t in range(41)
        if t not in (10, 30)
    ]
    trace = trace_of(steps, rate_hz=2.0, began_s=made.BEGAN_S, missed=0)
    for name, watts in (("a", 4.0), ("b", 8.0)):
        cells = tuple(Slice(from_s=low, to_s=high, waited_s=0.0, cool=None) for low, high in slices[name])
        measured = made.samples(runs=100).replace(slices=cells, duration_s=10.0)
        energy = energy_of(trace, measured, made.BEGAN_S)
        assert energy.power_w.value == pytest.approx(watts)
        assert energy.per_run_mj.value == pytest.approx(watts * 10.0 / 100 * 1e3)
        assert energy.idle_w.value is None


def test_the_knee_is_found_where_the_level_changes() -> None:
    first = made.samples(6000, knee_at=0.6, slower_after=1.45)
    course = sustained(first, made.trace(first.duration_s, knee_at=0.6), temperature="temp.cpu", clock="clock.policy0")
    assert course.knee_s == pytest.approx(6000 * 0.6 * 0.020, rel=0.1)
    assert course.slowdown == pytest.approx(1.45, rel=0.02)
    assert course.windows[0].clock_mhz == 2400.0
    assert course.windows[-1].clock_mhz == 1500.0
    assert course.windows[-1].temperature_c is not None


def test_there_is_no_knee_in_a_level_run_and_it_says_so() -> None:
    assert knee([10.0, 10.1, 9.9, 10.0, 10.1, 10.0]) == (None, "the latency's level changed by less than 5%")
    assert knee([10.0, 12.0])[0] is None
    assert knee([10.0] * 5 + [12.0] * 5) == (5, None)


def test_a_window_without_runs_is_null() -> None:
    first = made.samples(20, p50_ms=1000.0)
    slow = first.replace(total_ms=(*first.total_ms[:-1], 60_000.0), duration_s=80.0)
    course = sustained(slow, None, temperature=None, clock=None)
    assert any(window.p50_ms is None and window.runs == 0 for window in course.windows)


def test_the_text_fits_80_columns_and_names_every_part() -> None:
    text = render(made.report(is_sustained=True))
    assert max(map(len, text.splitlines())) <= WIDTH
    for word in (
        "aaaaaaaaaaaaaaaa; image: onnxruntime, float32",
        "1x3x224x224 -> 1x8x112x112",
        "float, ",
        "fresh process",
        "warm-up",
        "p90",
        "graph:image",
        "cold start",
        "peak",
        "mJ per run",
        "operators",
        "knee",
    ):
        assert word in text


def test_a_table_cuts_a_long_first_column_only() -> None:
    text = table(("name", "a"), [("x" * 200, "123")])
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert text.endswith("123")


def test_the_trace_is_in_the_form_that_perfetto_reads() -> None:
    document = json.loads(dump_trace(made.report()))
    events = document["traceEvents"]
    assert {event["ph"] for event in events} == {"X", "C", "M"}
    runs = [event for event in events if event["name"] == "run"]
    assert len(runs) == 400
    for event in events:
        if event["ph"] == "X":
            assert event["ts"] >= 0
            assert event["dur"] >= 0
    stages = [event for event in events if event["name"] in made.STAGES and event["ts"] < runs[1]["ts"] - 1]
    assert [event["name"] for event in stages] == list(made.STAGES)
    assert sum(event["dur"] for event in stages) == pytest.approx(runs[0]["dur"])


def test_a_long_trace_says_what_it_leaves_out() -> None:
    document = json.loads(dump_trace(made.report(made.samples(6000))))
    assert any("1000 more runs" in event["name"] for event in document["traceEvents"])


def test_the_real_time_factor_is_time_by_the_length_of_the_sound() -> None:
    report = made.report(audio_s=known(2.0))
    assert report.cells[0].real_time_factor.value == pytest.approx(0.010, rel=0.02)
    assert made.report().cells[0].real_time_factor == Reading(value=None, reason="there is no sound in the input")


def test_an_unknown_throttle_state_is_said_in_the_text() -> None:
    report = made.report(after=made.snapshot(58.0).replace(throttle=no_throttle_flags("no such firmware")))
    assert "no such firmware" in render(report)
