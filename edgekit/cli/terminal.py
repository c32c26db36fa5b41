"""Progress for people: a line that rewrites itself on a terminal, plain lines in a log. Always on stderr."""

from __future__ import annotations

import os
import re
import sys
import time
from types import TracebackType

REDRAW_S = 0.1
LOG_S = 5.0


def say(text: str) -> None:
    """A line for the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


class _Line:
    """The line at the bottom of a terminal, that the next `show` rewrites; in a log a line like others."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._open = False
        self.pause_s = REDRAW_S if self._terminal else LOG_S

    def show(self, text: str) -> None:
        if not self._terminal:
            say(text)
            return
        sys.stderr.write(f"\r\x1b[K{text[: _columns() - 1]}")
        sys.stderr.flush()
        self._open = True

    def end(self) -> None:
        """Leave what stands there, and go on below it."""
        if self._open:
            sys.stderr.write("\n")
            self._open = False


class LiveLine:
    """Call with a line of text. Lines that count on (`fp32: 20 runs`, `fp32: 31 runs`: the same words before a number)
    rewrite one another on a terminal, and come some seconds apart in a log."""

    def __init__(self) -> None:
        self._line = _Line()
        self._what: str | None = None
        self._shown = 0.0

    def __call__(self, text: str) -> None:
        found = _COUNTING.match(text)
        what = found[1] if found else None
        now = time.monotonic()
        fresh = what is None or what != self._what
        if not fresh and now - self._shown < self._line.pause_s:
            return
        if fresh:
            self._line.end()
        self._what, self._shown = what, now
        if what is None:
            say(text)
        else:
            self._line.show(text)

    def __enter__(self) -> LiveLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.end()


_COUNTING = re.compile(r"(.*): \d")


def _columns() -> int:
    """A line that is longer than the terminal cannot be rewritten."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class ProgressLine:
    """Call with (what, bytes so far, bytes in all or 0); shows share, amount and rate."""

    def __init__(self) -> None:
        self._line = _Line()
        self._what = ""
        self._started = self._shown = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._line.end()
            self._what, self._started, self._shown = what, now, 0.0
        finished = total > 0 and done >= total
        if not finished and now - self._shown < self._line.pause_s:
            return
        self._shown = now
        text = self._text(done, total, max(now - self._started, 1e-3))
        self._line.show(text)

    def _text(self, done: int, total: int, seconds: float) -> str:
        if not done and not total:
            return f"{self._what} ..."
        rate = f"{_size(done / seconds)}/s"
        if not total:
            return f"{self._what}  {_size(done)}  {rate}"
        bar = "#" * (20 * done // total)
        return f"{self._what}  [{bar:<20}] {100 * done // total:3d} %  {_size(done)} of {_size(total)}  {rate}"

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.end()


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
