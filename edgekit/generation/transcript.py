"""A sound longer than the model's window: cut into overlapping pieces, their tokens put together again.

The rules are those of transformers 4.57: `chunk_iter` of its speech pipeline, `_find_longest_common_sequence` and
`_decode_asr` of its Whisper tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgekit.arrays import Array
from edgekit.specs.generation import Chunks, Timestamps

Samples = Array


class Piece(NamedTuple):
    """Samples [start, start + length) of a sound, of which `left` and `right` are heard by its neighbours too."""

    start: int
    length: int
    left: int
    right: int


class Segment(NamedTuple):
    """What was said from start_s to end_s; null where the model did not say."""

    start_s: float | None
    end_s: float | None
    tokens: tuple[int, ...]


def pieces(chunks: Chunks, count: int) -> list[Piece]:
    """The pieces of a sound of `count` samples, in order; one when it fits into the window."""
    found: list[Piece] = []
    step = chunks.window - 2 * chunks.stride
    for start in range(0, count, step):
        length = min(chunks.window, count - start)
        is_last = start + chunks.window >= count
        left = 0 if start == 0 else chunks.stride
        if length > left:
            found.append(Piece(start, length, left, 0 if is_last else chunks.stride))
        if is_last:
            break
    return found


class Stitching:
    """Puts token sequences that overlap together, one after another."""

    def __init__(self) -> None:
        self.settled: list[int] = []
        """What no later sequence changes."""
        self._open: list[int] | None = None

    def add(self, tokens: Sequence[int]) -> None:
        """The sequence after those added so far."""
        if self._open is None:
            self._open = list(tokens)
            return
        left_end, right_start = seam(self._open, tokens)
        self.settled += self._open[:left_end]
        self._open = list(tokens[right_start:])

    def whole(self) -> list[int]:
        """All of it."""
        return [*self.settled, *(self._open or [])]


def seam(left: Sequence[int], right: Sequence[int]) -> tuple[int, int]:
    """Where to leave one sequence and go on in the next: (end in left, start in right).

    The overlap of n tokens with the most equal ones, counted as matches / n + n / 10000 and at least two, is cut in
    its middle; without one the sequences follow each other.
    """
    a, b = np.asarray(left, np.int64), np.asarray(right, np.int64)
    best, cut = 0.0, (len(a), 0)
    for shift in range(1, len(a) + len(b)):
        left_start, left_stop = max(0, len(a) - shift), min(len(a), len(a) + len(b) - shift)
        right_start, right_stop = max(0, shift - len(a)), min(len(b), shift)
        matches = int(np.count_nonzero(a[left_start:left_stop] == b[right_start:right_stop]))
        score = matches / shift + shift / 10000.0
        if matches > 1 and score > best:
            best, cut = score, ((left_stop + left_start) // 2, (right_stop + right_start) // 2)
    return cut


class Timeline:
    """Tokens of the pieces of one sound, timestamps among them, as segments with their times in the whole sound."""

    def __init__(self, times: Timestamps, rate_hz: int) -> None:
        self._times = times
        self._rate_hz = rate_hz
        self._segments: list[Segment] = []
        self._waiting: list[list[int]] = []
        self._start_s: float | None = None
        self._skip = False

    def add(self, piece: Piece, tokens: Sequence[int]) -> list[Segment]:
        """The tokens of the next piece, its special ones left out; the segments that they complete."""
        begin, step_s = self._times.begin, self._times.step_s
        known, words = len(self._segments), list[int]()
        first = begin + piece.left / self._rate_hz / step_s
        last = self._last_certain(piece, tokens)
        for token in tokens:
            if token < begin:
                words.append(token)
                continue
            time_s = round((token - begin) * step_s + piece.start / self._rate_hz, 2)
            if last is not None and token >= last:
                self._skip = True  # in the part that the next piece hears again
            elif self._skip or (self._waiting and token < first):
                self._skip = False
            elif self._start_s is None:
                self._start_s = time_s
            elif time_s != self._start_s:
                self._close([*self._waiting, words], time_s)
                words = []
        if words:
            self._waiting.append(words)
        elif not any(self._waiting):
            self._waiting, self._start_s = [], None
        return self._segments[known:]

    def end(self) -> list[Segment]:
        """What no timestamp closed."""
        if self._waiting:
            self._close(self._waiting, None)
            return self._segments[-1:]
        return []

    def segments(self) -> list[Segment]:
        """All of them so far."""
        return list(self._segments)

    def _close(self, sequences: Sequence[Sequence[int]], end_s: float | None) -> None:
        stitching = Stitching()
        for sequence in sequences:
            stitching.add(sequence)
        self._segments.append(Segment(self._start_s, end_s, tuple(stitching.whole())))
        self._waiting, self._start_s = [], None

    def _last_certain(self, piece: Piece, tokens: Sequence[int]) -> int | None:
        """The first timestamp of those that lie in the part that the next piece hears again."""
        if not piece.right:
            return None
        until_s = (piece.length - piece.right) / self._rate_hz
        found: int | None = None
        for token in reversed(tokens):
            if token >= self._times.begin:
                if found is not None and (token - self._times.begin) * self._times.step_s < until_s:
                    break
                found = token
        return found


def to_json(segments: Sequence[Segment], decode: Callable[[Sequence[int]], str]) -> list[dict[str, Any]]:
    """`{"start", "end", "text"}` per segment, times in seconds of the whole sound."""
    return [{"start": s.start_s, "end": s.end_s, "text": decode(s.tokens)} for s in segments]
