"""A comparison as a table for people, at most 100 columns."""

from __future__ import annotations

import textwrap

from edgekit.compression.facts_text import WIDTH, count, size
from edgekit.compression.intervals import Interval
from edgekit.compression.signal import Noise
from edgekit.operations.compare_records import Candidate, Compared

LAYERS_SHOWN = 5
LOSS_SHOWN_DB = 1.0


def compared_text(found: Compared) -> str:
    """Models, then what is wrong with each, then compressed inputs."""
    lines = [f"{found.samples} samples of {found.data}; score: {found.measure} (95 % interval)"]
    if found.device is not None:
        lines += textwrap.wrap(found.place(), WIDTH)
    width = max(5, *(len(c.name) for c in found.candidates))
    width = min(width, 28)
    lines.append(
        f"{'model':<{width}} {'size':>9} {'params':>7} {'mult-add':>8} {'p50 ms':>8} {'ratio':>6} {'peak':>8}  score"
    )
    front = found.front() if len(found.candidates) > 1 else ()
    for one in found.candidates:
        mark = "*" if one.name in front else " "
        timed = f"{one.latency.p50_ms:8.3f} {one.latency.ratio:6.2f}" if one.latency else f"{'-':>8} {'-':>6}"
        work = count(one.multiply_adds) if one.multiply_adds is not None else "-"
        peak = size(one.peak_bytes).replace(" ", "") if one.peak_bytes else "-"
        lines.append(
            f"{_cut(one.name, width):<{width}} {size(one.size_bytes):>9} {count(one.parameters):>7} {work:>8} {timed} "
            f"{peak:>8} {mark}{interval(one.score)}"
        )
    if front:
        lines.append("* no other model is smaller, faster and better at once")
    for one in found.candidates[1:]:
        lines += ["", *_candidate(one, found)]
    if found.inputs:
        lines += ["", *_inputs(found)]
    for note in found.notes:
        lines += textwrap.wrap(f"note: {note}", WIDTH, subsequent_indent="  ")
    return "\n".join(lines)


def interval(found: Interval) -> str:
    """0.997 (0.991 to 0.999)."""
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[1 - width :]


def _candidate(one: Candidate, found: Compared) -> list[str]:
    d = one.drop
    kinds = ", ".join(one.kinds) or "no compression found"
    lines = textwrap.wrap(f"{one.name}: {kinds}", WIDTH)
    lines.append(f"  {found.measure} lost: {d.value:+.2%} ({d.low:+.2%} to {d.high:+.2%})")
    for broken in one.broken:
        lines += textwrap.wrap(f"broken at {broken}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    for doubt in one.doubts[:3]:
        lines += textwrap.wrap(f"doubt: {doubt}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    if one.stages:
        said = ", ".join(f"{s.value} {_db(s.snr_db)}" for s in one.stages)
        lines += textwrap.wrap(f"signal to noise: {said}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    for graph, noises in one.layers.items():
        worst = sorted((n for n in noises if n.drop_db >= LOSS_SHOWN_DB), key=lambda n: -n.drop_db)[:LAYERS_SHOWN]
        if worst:
            lines.append(f"  layers of {graph} that lose most:")
            lines += [_noise(n) for n in worst]
    for bad in one.worst:
        right = f"{bad.label}, " if bad.label is not None else ""
        text = f"{bad.sample}: {right}first {bad.reference}, this {bad.answer} (score {bad.score:.3f})"
        lines += textwrap.wrap(f"worst: {text}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    return lines


def _noise(n: Noise) -> str:
    return f"    {_cut(n.layer, 46):<46} {n.op[:20]:<20} {_db(n.snr_db):>9}, {n.drop_db:.1f} dB lost"


def _db(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f} dB"


def _inputs(found: Compared) -> list[str]:
    lines = [f"compressed pictures, {found.candidates[0].name}:"]
    lines.append(f"  {'quality':<9} {'scale':>5} {'bytes':>10} {'decode ms':>10}  score")
    for row in found.inputs:
        quality = "as it is" if row.quality is None else str(row.quality)
        scale = f"1/{row.scale}"
        figures = f"{row.bytes:>10,.0f} {row.decode_ms:>10.3f}"
        lines.append(f"  {quality:<9} {scale:>5} {figures}  {interval(row.score)}")
    return lines
