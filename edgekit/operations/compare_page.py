"""A comparison as one HTML file that needs nothing else, with the front of size, latency and score drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from edgekit.compression.facts_text import count, size
from edgekit.operations.compare_records import Candidate, Compared
from edgekit.operations.compare_text import interval
from edgekit.profiling.html import STYLE
from edgekit.profiling.svg import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis, frame, svg

HEIGHT = 230
LABEL_STEPS = 6
OWN_STYLE = (
    "circle.on{fill:var(--line)}circle.off{fill:none;stroke:var(--soft);stroke-width:1.4}"
    ".whisker{stroke:var(--soft);stroke-width:1}.front{fill:none;stroke:var(--line);stroke-dasharray:4 3}"
)


def compared_page(found: Compared) -> str:
    """The page."""
    title = "Comparison of " + ", ".join(c.name for c in found.candidates)
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{found.samples} samples of {escape(found.data)}, {escape(found.created_utc)}, '
        f"environment {escape(found.environment)}; {escape(found.place())}</p>",
        _models(found),
        f'<div class="card">{"".join(_fronts(found))}</div>' if len(found.candidates) > 1 else "",
        *(_candidate(one, found) for one in found.candidates[1:]),
        _inputs(found),
        *(f'<p class="soft">{escape(note)}</p>' for note in found.notes),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}{OWN_STYLE}</style></head>\n'
        "<body><main>\n" + "\n".join(s for s in sections if s) + "\n</main></body></html>\n"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in header)}</tr></thead>"
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="card"><table>{head}<tbody>{body}</tbody></table></div>'


def _models(found: Compared) -> str:
    front = found.front()
    rows = []
    for one in found.candidates:
        rows.append(
            (
                one.name + (" *" if one.name in front and len(found.candidates) > 1 else ""),
                size(one.size_bytes),
                count(one.parameters),
                count(one.multiply_adds) if one.multiply_adds is not None else "-",
                f"{one.latency.p50_ms:.3f}" if one.latency else "-",
                f"{one.latency.ratio:.2f}" if one.latency else "-",
                size(one.peak_bytes) if one.peak_bytes else "-",
                interval(one.score),
            )
        )
    header = ("", "size", "parameters", "mult-adds", "p50 ms", "ratio", "peak", found.measure)
    return _table(header, rows) + '<p class="soft">*: no other model is smaller, faster and better at once</p>'


def _fronts(found: Compared) -> list[str]:
    plots = [_front(found, "Size and score", "MB", lambda c: c.size_bytes / 1e6)]
    if all(c.latency for c in found.candidates):
        plots.append(_front(found, "Latency and score", "ms", lambda c: c.latency.p50_ms if c.latency else 0.0))
    return plots


def _front(found: Compared, title: str, unit: str, cost: Callable[[Candidate], float]) -> str:
    """Cost to the right, score upwards with its interval; the line joins the models that none beats in these two."""
    costs = [cost(c) for c in found.candidates]
    low = min(c.score.low for c in found.candidates)
    high = max(c.score.high for c in found.candidates)
    margin = max((high - low) * 0.1, 0.002)
    x = Axis(0.0, max(costs) * 1.15 or 1.0, LEFT, WIDTH - RIGHT)
    y = Axis(max(0.0, low - margin), min(1.0, high + margin) + 1e-9, HEIGHT - BOTTOM, TOP)
    body = frame(title, found.measure, x, y, unit, HEIGHT)
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -found.candidates[i].score.value))
    best, front = -1.0, []
    for i in order:
        if found.candidates[i].score.value > best:
            best = found.candidates[i].score.value
            front.append(i)
    points = " ".join(f"{x.at(costs[i]):.1f},{y.at(found.candidates[i].score.value):.1f}" for i in front)
    body += f'<polyline class="front" points="{points}"/>'
    for i, one in enumerate(found.candidates):
        at, up = x.at(costs[i]), y.at(one.score.value)
        body += (
            f'<line class="whisker" x1="{at:.1f}" x2="{at:.1f}" y1="{y.at(one.score.low):.1f}" '
            f'y2="{y.at(one.score.high):.1f}"/>'
            f'<circle class="{"on" if i in front else "off"}" cx="{at:.1f}" cy="{up:.1f}" r="4"/>'
        )
        # Equal scores are common: names go down in steps, in the order of their dots.
        end, step = at > WIDTH * 0.6, order.index(i) % LABEL_STEPS
        down = up + 13 + 13 * step if up < HEIGHT / 2 else up - 8 - 13 * step
        anchor = 'text-anchor="end" ' if end else ""
        body += f'<text class="tick" {anchor}x="{at + (-5 if end else 5):.1f}" y="{down:.1f}">{escape(one.name)}</text>'
    return svg(body, HEIGHT, title)


def _candidate(one: Candidate, found: Compared) -> str:
    d = one.drop
    parts = [
        f"<h2>{escape(one.name)}</h2>",
        f"<p>{escape(', '.join(one.kinds) or 'no compression found')}; {escape(found.measure)} lost "
        f"{d.value:+.2%} ({d.low:+.2%} to {d.high:+.2%})</p>",
    ]
    if one.broken or one.doubts:
        listed = "".join(f"<li>{escape(text)}</li>" for text in (*one.broken, *one.doubts[:5]))
        parts.append(f'<div class="verdict bad"><b>Looks broken.</b><ul>{listed}</ul></div>')
    if one.stages:
        parts.append(_table(("value of the flow", "signal to noise"), [(s.value, _db(s.snr_db)) for s in one.stages]))
    for graph, noises in one.layers.items():
        rows = [(n.layer, n.op, _db(n.snr_db), f"{n.drop_db:+.1f} dB") for n in noises]
        parts.append(f"<h2>Layers of {escape(graph)}, {escape(one.name)}</h2>")
        parts.append(_table(("layer", "operator", "signal to noise", "lost"), rows))
    if one.worst:
        worst = [(w.sample, w.label or "", w.reference, w.answer, f"{w.score:.3f}") for w in one.worst]
        parts.append(_table(("worst sample", "label", "first", one.name, "score"), worst))
    return "\n".join(parts)


def _inputs(found: Compared) -> str:
    if not found.inputs:
        return ""
    rows = [
        (
            "as it is" if row.quality is None else str(row.quality),
            f"1/{row.scale}",
            f"{row.bytes:,.0f}",
            f"{row.decode_ms:.3f}",
            interval(row.score),
        )
        for row in found.inputs
    ]
    return "<h2>Compressed pictures</h2>" + _table(("JPEG quality", "scale", "bytes", "decode ms", found.measure), rows)


def _db(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f} dB"
