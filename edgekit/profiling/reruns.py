"""Measuring again before a verdict falls: in turn with the baseline's bundle, or after a doubtful comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgekit.profiling.compare import Change, Comparison, Verdict
from edgekit.profiling.report import Cell, Report

OLD, NEW = "old", "new"
"""The variants of a profile that measures a baseline's bundle in turn with the new one."""

MOST_RUNS = 3


def of_variant(report: Report, variant: str) -> Report:
    """What a profile of several bundles says of one of them, as a profile of that one alone.

    The measuring process's memory is left out, since both bundles share it; a fresh process's stays.
    """
    subject = next(s for s in (report.subject, *report.others) if s.variant == variant)
    theirs = [cell for cell in report.cells if cell.settings.get("variant") == variant]
    others = [cell.name for cell in report.cells if cell not in theirs]
    doubts = tuple(text for text in report.unstable_because if text.partition(": ")[0] not in others)
    return report.replace(
        subject=subject.replace(variant=None),
        others=(),
        cells=tuple(_alone(cell, variant) for cell in theirs),
        cold_start=tuple(c.replace(variant=None) for c in report.cold_start if c.variant == variant),
        memory=(),
        operators=tuple(t.replace(variant=None) for t in report.operators if t.variant == variant),
        stable=not doubts,
        unstable_because=doubts,
        absent={**report.absent, "memory": "both bundles share the process", **_not_there(report, variant)},
    )


def _not_there(report: Report, variant: str) -> dict[str, str]:
    pieces = {"cold_start": report.cold_start, "operators": report.operators}
    return {
        name: report.absent.get(name, "none of this bundle")
        for name, found in pieces.items()
        if not any(piece.variant == variant for piece in found)  # type: ignore[attr-defined]
    }


def _alone(cell: Cell, variant: str) -> Cell:
    name = cell.name.removeprefix(variant).strip() or "predict"
    return cell.replace(name=name, settings={k: v for k, v in cell.settings.items() if k != "variant"})


def confirmed(first: Comparison, again: Callable[[], Comparison]) -> Comparison:
    """The comparison, measured again where it finds something slower or cannot tell: two measurements must agree.

    At most three are made; where no two agree the verdict is inconclusive.
    """
    found = [first]
    while len(found) < MOST_RUNS and not _is_settled(found):
        found.append(again())
    return first if len(found) == 1 else agreed(found)


def _is_settled(found: Sequence[Comparison]) -> bool:
    gated = [change.name for change in found[0].changes if change.gates]
    groups = [[_group(change.verdict) for change in _votes(found, name)] for name in gated]
    if len(found) == 1:
        return all(group == ["same"] for group in groups)
    return all(_majority(group) is not None for group in groups)


def agreed(found: Sequence[Comparison]) -> Comparison:
    """One comparison of several: each figure as at least two of them judge it, with the last of these's numbers."""
    changes = tuple(_agreed_change(_votes(found, change.name)) for change in found[0].changes)
    note = f"measured {len(found)} times: a verdict is what two measurements agree on"
    return found[0].replace(changes=changes, notes=(*found[0].notes, note))


def _votes(found: Sequence[Comparison], name: str) -> list[Change]:
    return [change for one in found for change in one.changes if change.name == name]


def _agreed_change(votes: Sequence[Change]) -> Change:
    if len(votes) == 1:
        return votes[0]
    verdict = _majority([_group(vote.verdict) for vote in votes])
    if verdict is None:
        said = ", ".join(f"{vote.ratio - 1:+.1%}" for vote in votes)
        return votes[-1].replace(verdict="inconclusive", because=f"the measurements do not agree: {said}")
    return [vote for vote in votes if _group(vote.verdict) == verdict][-1]


def _majority(groups: Sequence[Verdict]) -> Verdict | None:
    """What at least two measurements say; one alone decides where only one has the figure."""
    needed = min(2, len(groups))
    return next((group for group in groups if groups.count(group) >= needed), None)


def _group(verdict: Verdict) -> Verdict:
    return "same" if verdict == "faster" else verdict
