"""Small plots as SVG text: drawn for 400 units, which a phone shows at about its own size. Colours by CSS class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH = 400
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 18, 32
PANEL_HEIGHT = 160
POINTS_SHOWN = 1500


class Axis(NamedTuple):
    """A linear axis: values from low to high on the screen from begin to end."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        """Where a value lies on the screen."""
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) from low to high, about `count` of them."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1.0, 2.0, 5.0, 10.0) if f * power >= raw)
    first = math.ceil(low / step) * step
    return [round(first + i * step, 12) for i in range(int((high - first) / step + 1e-9) + 1)]


def label(value: float) -> str:
    """A tick's number, short enough for an axis: ticks are round, so that no digit has to be cut."""
    return f"{value / 1000:.6g}k" if abs(value) >= 10_000 else f"{value:.6g}"


def frame(title: str, unit: str, x: Axis, y: Axis, x_unit: str, height: int) -> str:
    """Title, grid and numbers of a panel."""
    parts = [f'<text class="title" x="{LEFT}" y="11">{escape(title)}</text>']
    for value in ticks(y.low, y.high):
        at = y.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{LEFT - 4}" y="{at + 4:.1f}">{label(value)}</text>')
    for value in ticks(x.low, x.high):
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{x.at(value):.1f}" y="{height - 18}">{label(value)}</text>'
        )
    parts.append(f'<text class="tick" text-anchor="end" x="{WIDTH - RIGHT}" y="11">{escape(unit)}</text>')
    parts.append(f'<text class="tick" text-anchor="end" x="{WIDTH - RIGHT}" y="{height - 4}">{escape(x_unit)}</text>')
    return "".join(parts)


def svg(body: str, height: int, described: str) -> str:
    """The picture; `described` is read out by screen readers."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(described, {chr(34): "&quot;"})}">'
        f"{body}</svg>"
    )


def _axes(x_low: float, x_high: float, y_low: float, y_high: float, height: int) -> tuple[Axis, Axis]:
    wide = x_high if x_high > x_low else x_low + 1.0
    tall = y_high if y_high > y_low else y_low + max(1.0, abs(y_low) * 0.1)
    return Axis(x_low, wide, LEFT, WIDTH - RIGHT), Axis(y_low, tall, height - BOTTOM, TOP)


def scatter(title: str, unit: str, xs: Sequence[float], ys: Sequence[float], x_range: tuple[float, float]) -> str:
    """Every run as a dot; of more than 1,500 the lowest, the median and the highest of each stretch."""
    height = PANEL_HEIGHT + 30
    x, y = _axes(*x_range, 0.0, max(ys) * 1.05, height)
    body = frame(title, unit, x, y, "seconds", height)
    if len(xs) <= POINTS_SHOWN:
        dots = "".join(f'<circle cx="{x.at(a):.1f}" cy="{y.at(b):.1f}" r="1.6"/>' for a, b in zip(xs, ys))
        return svg(f'{body}<g class="dots">{dots}</g>', height, title)
    low, middle, high = [], [], []
    stretch = -(-len(xs) // (WIDTH - LEFT - RIGHT))
    for i in range(0, len(xs), stretch):
        at, values = x.at(xs[i]), sorted(ys[i : i + stretch])
        low.append(f"{at:.1f},{y.at(values[0]):.1f}")
        middle.append(f"{at:.1f},{y.at(values[len(values) // 2]):.1f}")
        high.append(f"{at:.1f},{y.at(values[-1]):.1f}")
    band = " ".join([*high, *reversed(low)])
    body += f'<polygon class="band" points="{band}"/><polyline class="line" points="{" ".join(middle)}"/>'
    note = f"median, and range of each {stretch} runs"
    body += f'<text class="tick" x="{LEFT}" y="{height - 4}">{note}</text>'
    return svg(body, height, f"{title}; {note}")


def curve(title: str, unit: str, xs: Sequence[float], ys: Sequence[float | None], x_range: tuple[float, float]) -> str:
    """A line through what was read; it is broken where nothing was."""
    present = [value for value in ys if value is not None]
    margin = max(1.0, (max(present) - min(present)) * 0.1)
    height = PANEL_HEIGHT - 30
    x, y = _axes(*x_range, min(present) - margin, max(present) + margin, height)
    pieces: list[list[str]] = [[]]
    for a, b in zip(xs, ys):
        if b is None:
            pieces.append([])
        else:
            pieces[-1].append(f"{x.at(a):.1f},{y.at(b):.1f}")
    lines = "".join(f'<polyline class="line second" points="{" ".join(p)}"/>' for p in pieces if p)
    return svg(frame(title, unit, x, y, "seconds", height) + lines, height, title)


def histogram(title: str, values: Sequence[float], upper: float, marks: Sequence[tuple[str, float]]) -> str:
    """How many runs took how long, up to `upper`; the runs beyond are counted in words. marks: named values."""
    height, count = PANEL_HEIGHT + 10, 44
    low = min(values)
    upper = upper if upper > low else low * 1.1 + 1e-6
    bins = [0] * count
    beyond = 0
    for value in values:
        if value > upper:
            beyond += 1
        else:
            bins[min(count - 1, int((value - low) / (upper - low) * count))] += 1
    x, y = _axes(low, upper, 0.0, max(bins) * 1.05, height)
    width = (x.end - x.begin) / count
    body = frame(title, "runs", x, y, "milliseconds", height)
    for i, runs in enumerate(bins):
        if runs:
            at, top = x.begin + i * width, y.at(runs)
            shape = f'x="{at + 0.5:.1f}" y="{top:.1f}" width="{width - 1:.1f}" height="{y.begin - top:.1f}"'
            body += f'<rect class="bar" {shape}/>'
    for name, value in marks:
        if low <= value <= upper:
            at = x.at(value)
            body += f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{y.begin}"/>'
            body += f'<text class="tick over" x="{at + 3:.1f}" y="{TOP + 9}">{escape(name)}</text>'
    if beyond:
        body += (
            f'<text class="tick" x="{LEFT}" y="{height - 4}">{beyond} runs are beyond, up to {max(values):.4g}</text>'
        )
    return svg(body, height, title)


def stacked(title: str, parts: Sequence[tuple[str, float]], whole: float) -> str:
    """One bar of parts, each as wide as its share; names and numbers belong into a table beside it."""
    height, at, body = 62, float(LEFT - 44), f'<text class="title" x="{LEFT - 44}" y="12">{escape(title)}</text>'
    room = WIDTH - RIGHT - at
    begin = at
    for i, (name, value) in enumerate(parts):
        width = room * value / whole if whole > 0 else 0.0
        tip = f"<title>{escape(name)}: {value:.4g}</title>"
        body += f'<rect class="c{i % 8}" x="{at:.1f}" y="22" width="{max(width, 0.5):.1f}" height="30">{tip}</rect>'
        if width > 8.0 * len(name):
            body += f'<text class="inside" text-anchor="middle" x="{at + width / 2:.1f}" y="41">{escape(name)}</text>'
        at += width
    rest = begin + room - at
    if rest > 1:
        body += f'<rect class="rest" x="{at:.1f}" y="22" width="{rest:.1f}" height="30"><title>the rest</title></rect>'
    return svg(body, height, title)


def bars(title: str, unit: str, rows: Sequence[tuple[str, float, float | None]], second: str) -> str:
    """A bar per row with its name above it, and a thin mark for a second value, whose name is `second`."""
    height, top = 20 + 34 * len(rows), max(max(value, peak or 0.0) for _, value, peak in rows) or 1.0
    room, body = WIDTH - RIGHT - 8 - 90, f'<text class="title" x="8" y="12">{escape(title)}</text>'
    for i, (name, value, peak) in enumerate(rows):
        y = 32 + 34 * i
        said = f"{value:.4g}" + (f", {second} {peak:.4g} {unit}" if peak is not None else f" {unit}")
        body += f'<text class="tick" x="8" y="{y - 3}">{escape(name)}: {said}</text>'
        body += f'<rect class="bar" x="8" y="{y}" width="{room * value / top:.1f}" height="12"/>'
        if peak is not None:
            at = 8 + room * peak / top
            body += f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{y - 2}" y2="{y + 14}"/>'
    return svg(body, height, title)
