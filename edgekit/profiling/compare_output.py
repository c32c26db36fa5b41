"""A comparison for people, for Markdown and for a test report (JUnit XML)."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from edgekit.profiling.compare import Change, Comparison
from edgekit.profiling.text import mib, ms, table


def compared_text(found: Comparison) -> str:
    """Aligned columns, at most 80 wide."""
    rows = [(c.name, _value(c, c.old), _value(c, c.new), f"{c.ratio - 1:+.1%}", c.verdict) for c in found.changes]
    lines = [table((f"against {found.old_digest[:12]}", "old", "new", "change", "verdict"), rows)]
    lines += [f"  {change.name}: {change.because}" for change in found.changes if change.verdict != "same"]
    lines += [f"  {note}" for note in found.notes]
    return "\n".join(lines) + "\n"


def compared_markdown(found: Comparison) -> str:
    """A table for a pull request."""
    lines = [
        f"Profile of `{found.new_digest[:12]}` against `{found.old_digest[:12]}`, environment `{found.environment}`, "
        f"fails above {found.fail_above:.0%}",
        "",
        "| figure | old | new | change | 95 % interval | verdict |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for change in found.changes:
        interval = (
            "" if change.low is None or change.high is None else f"{change.low - 1:+.1%} to {change.high - 1:+.1%}"
        )
        name = change.name.replace("|", "\\|")
        lines.append(
            f"| {name} | {_value(change, change.old)} | {_value(change, change.new)} | {change.ratio - 1:+.1%} "
            f"| {interval} | {change.verdict} |"
        )
    lines += ["", *(f"- {note}" for note in found.notes)] if found.notes else []
    return "\n".join(lines) + "\n"


def compared_junit(found: Comparison) -> str:
    """One test case per figure: slower is a failure, inconclusive is an error, a stage alone is neither."""
    failures = sum(change.verdict == "slower" and change.gates for change in found.changes)
    errors = sum(change.verdict == "inconclusive" and change.gates for change in found.changes)
    cases = "".join(_case(change) for change in found.changes)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuite name="edgekit profile" tests="{len(found.changes)}" failures="{failures}" errors="{errors}">\n'
        f"{cases}</testsuite>\n"
    )


def _case(change: Change) -> str:
    kind = {"slower": "failure", "inconclusive": "error"}.get(change.verdict) if change.gates else None
    head = f'  <testcase classname="edgekit.profile" name={quoteattr(change.name)}'
    if kind is None:
        return f"{head}/>\n"
    told = f"{_value(change, change.old)} -> {_value(change, change.new)}: {change.because}"
    return f"{head}>\n    <{kind} message={quoteattr(change.because)}>{escape(told)}</{kind}>\n  </testcase>\n"


def _value(change: Change, value: float) -> str:
    if change.unit == "bytes":
        return f"{mib(value)} MiB"
    return f"{ms(value)} {change.unit}"
