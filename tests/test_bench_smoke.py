"""The benchmark's harness works: intervals, pairing, the table and its files. No time is asserted here."""

from __future__ import annotations

import json
import math
import random
import statistics
from pathlib import Path

import numpy as np
import pytest
from bench import measure, report
from bench.measure import Claim, Group


def test_the_interval_of_a_median_is_that_of_the_binomial() -> None:
    """n = 9: the 2nd and 8th of nine hold the median with 96 % (Conover, table A3: 1 - 2 x 10 / 512)."""
    values = [float(v) for v in range(9)]
    random.Random(0).shuffle(values)
    assert measure.median_interval(values) == (4.0, 1.0, 7.0)
    assert measure.median_interval([1.0, 2.0, 3.0]) == (2.0, 1.0, 3.0)


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    """500 seeded samples of a skewed distribution with a known median: at least 93 % are covered."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(500):
        found = measure.median_interval(rng.exponential(size=25).tolist())
        held += found.low <= math.log(2) <= found.high
    assert held >= 465


def test_every_variant_runs_in_every_round() -> None:
    """Interleaving: the same number of rounds for each, and calls beyond one where a call is short."""
    calls = {"a": 0, "b": 0}

    def call(name: str) -> None:
        calls[name] += 1

    times = measure.time_rounds({"a": lambda: call("a"), "b": lambda: call("b")}, budget_s=0.01)
    assert len(times["a"]) == len(times["b"]) >= measure.LEAST_ROUNDS
    assert min(calls.values()) > measure.LEAST_ROUNDS
    assert all(t > 0 for t in times["a"] + times["b"])


def finding(ratios: list[float], goal: float | None, gate: float | None, *, excess: bool = False) -> measure.Finding:
    claim = Claim("X1", "ours", "peer", goal, gate, excess=excess)
    group = Group("x", {}, [claim], lambda a, b: f"{a} | {b}", "ms")
    return measure.judge(group, {"ours": ratios, "peer": [1.0] * len(ratios)})[0]


def test_ratios_are_taken_within_rounds() -> None:
    """A slow round slows both: the ratio does not see it."""
    ours, peer = [1.0, 10.0, 2.0, 4.0, 3.0], [2.0, 20.0, 4.0, 8.0, 6.0]
    claim = Claim("X1", "ours", "peer", 0.5, 0.5)
    found = measure.judge(Group("x", {}, [claim]), {"ours": ours, "peer": peer})[0]
    assert found.ratio == (0.5, 0.5, 0.5)
    assert found.ours == statistics.median(ours) * 1e3
    assert found.verdict == "goal"


@pytest.mark.parametrize(
    ("goal", "gate", "verdict"),
    [
        (1.0, 2.0, "goal"),
        (1.0, 1.05, "goal, interval wide"),
        (0.5, 2.0, "gate"),
        (0.5, 1.0, "short"),
        (None, None, "shown"),
    ],
)
def test_the_upper_end_is_held_to_the_gate(goal: float | None, gate: float | None, verdict: str) -> None:
    assert finding([0.9, 1.0, 1.1], goal, gate).verdict == verdict


def test_an_excess_is_a_difference_in_the_groups_unit() -> None:
    found = finding([3.0, 4.0, 5.0], None, 5000.0, excess=True)
    assert found.ratio.middle == 3000.0
    assert report.cells(found)[6] == "+3000 [2000 to 4000] ms"


def test_the_table_the_json_and_the_page_say_the_same(tmp_path: Path) -> None:
    findings = [finding([0.9, 1.0, 1.1], 0.5, 0.6), finding([0.4, 0.5, 0.6], 0.5, 0.7)]
    machine = report.machine()
    report.write_json(tmp_path / "bench.json", findings, machine, machine)
    rows = json.loads((tmp_path / "bench.json").read_text("utf-8"))["rows"]
    assert [row["verdict"] for row in rows] == ["short", "goal"]
    assert rows[0]["samples"]["ours"] == [900.0, 1000.0, 1100.0]
    report.write_markdown(tmp_path / "page.md", findings, machine, machine, ["An extra line."], "## Notes\n\nOne.")
    page = (tmp_path / "page.md").read_text("utf-8")
    assert "2 comparisons, 1 short: X1." in page
    assert "An extra line." in page
    assert "ours / peer" in page  # a bar would end the table's cell
    assert page.count("\n| X1 |") == 2
    assert report.text(findings).splitlines()[0].startswith("row")


def test_one_row_runs_from_end_to_end() -> None:
    """A real row without peers: normalisation against plain numpy, with equal numbers."""
    from bench import rows_image

    (group,) = rows_image.stages()
    found = measure.measure(group, budget_s=0.0)
    assert [f.claim.row for f in found] == ["normalise", "normalise"]
    assert found[1].difference == "max 0.0e+00"
