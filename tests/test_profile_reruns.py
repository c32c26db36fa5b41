"""A verdict falls when two measurements agree; a baseline's bundle is measured in turn with the new one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence

import profile_reports as made
import pytest

from edgekit.errors import GateFailed, GateInconclusive
from edgekit.profiling.compare import Comparison, bounds, compare, gate
from edgekit.profiling.report import Report
from edgekit.profiling.reruns import NEW, OLD, confirmed, of_variant


def comparison(p50_ms: float, spread: float = 0.03, runs: int = 400, seed: int = 2) -> Comparison:
    """Against 20 ms in the baseline."""
    new = made.report(made.samples(runs, p50_ms=p50_ms, spread=spread, seed=seed))
    return compare(made.report(), new, bounds(0.10))


def verdict(first: Comparison, others: Sequence[Comparison] = ()) -> tuple[str, int]:
    """The whole's verdict, and how often was measured again."""
    left = list(others)
    found = confirmed(first, lambda: left.pop(0))
    return next(change.verdict for change in found.changes if change.name == "predict"), len(others) - len(left)


def test_what_is_fine_is_not_measured_again() -> None:
    assert verdict(comparison(20.0)) == ("same", 0)
    assert verdict(comparison(15.0)) == ("faster", 0)


def test_a_slower_profile_must_be_slower_twice() -> None:
    slow, fine = comparison(25.0), comparison(20.0, seed=3)
    assert verdict(slow, [slow, fine]) == ("slower", 1)
    assert verdict(slow, [fine, slow]) == ("slower", 2)
    assert verdict(slow, [fine, fine]) == ("same", 2)
    found = confirmed(slow, lambda: slow)
    assert any("measured 2 times" in note for note in found.notes)
    with pytest.raises(GateFailed):
        gate(found)


def test_measurements_that_never_agree_are_inconclusive() -> None:
    unclear = comparison(20.0, runs=10)
    found = confirmed(comparison(25.0), iter([unclear, comparison(20.0, seed=3)]).__next__)
    (change,) = [change for change in found.changes if change.name == "predict"]
    assert change.verdict == "inconclusive"
    assert "do not agree" in change.because
    with pytest.raises(GateInconclusive):
        gate(found)


def both(new_ms: float) -> Report:
    cells = [
        ("new", {"variant": NEW, "threads": "1"}, made.samples(p50_ms=new_ms)),
        ("old", {"variant": OLD, "threads": "1"}, made.samples(p50_ms=20.0, seed=5)),
    ]
    first = made.facts().subject.replace(variant=NEW)
    return made.report(
        cells=cells,
        subject=first,
        others=(first.replace(variant=OLD, bundle_digest="b" * 64),),
        cold_start=(made.cold_start(NEW), made.cold_start(OLD)),
        operators=tuple(made.operators().replace(variant=variant) for variant in (NEW, OLD)),
    )


def test_one_bundle_of_two_is_a_report_of_its_own() -> None:
    report = both(30.0)
    new, old = of_variant(report, NEW), of_variant(report, OLD)
    assert (new.subject.bundle_digest[0], old.subject.bundle_digest[0]) == ("a", "b")
    assert [cell.name for cell in (*new.cells, *old.cells)] == ["predict", "predict"]
    assert new.cells[0].settings == {"threads": "1"}
    assert len(new.cold_start) == len(new.operators) == 1
    found = compare(old, new, bounds(0.10))
    assert {change.name: change.verdict for change in found.changes}["predict"] == "slower"
    assert {change.name: change.verdict for change in compare(new, new, bounds(0.10)).changes}["predict"] == "same"


LINES = """
from edgekit.cli.terminal import LiveLine
with LiveLine() as note:
    note("load fp32")
    for runs in range(200):
        note(f"fp32: {runs} runs, 1.00 ms " + "x" * 200)
    note("operators")
"""


def test_a_terminal_sees_one_line_that_counts_and_a_log_few() -> None:
    done = subprocess.run((sys.executable, "-c", LINES), capture_output=True, check=True, timeout=60)
    assert done.stderr.decode().splitlines() == ["load fp32", "fp32: 0 runs, 1.00 ms " + "x" * 200, "operators"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen((sys.executable, "-c", LINES), stderr=theirs)
    os.close(theirs)
    seen = b""
    while chunk := _read(ours):
        seen += chunk
    process.wait(timeout=60)
    os.close(ours)
    first, counting, last, end = seen.decode().split("\r\n")
    assert (first, last, end) == ("load fp32", "operators", "")
    assert counting.startswith("\r\x1b[Kfp32: 0 runs")
    assert max(len(part) for part in counting.split("\r\x1b[K")) < 80  # a wrapped line could not be rewritten


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux ends a terminal whose other side is closed with EIO
        return b""
