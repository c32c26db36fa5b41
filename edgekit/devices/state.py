"""Which release of an app runs, which ran before, and which failed: one small file, replaced by one rename."""

from __future__ import annotations

import re

from edgekit.errors import ManifestError
from edgekit.records import Record, dump_canonical, load_json, parse

BAD_LIMIT = 32

_ID = re.compile(r"[0-9a-f]{64}")


class State(Record):
    """current, previous: release ids or null. bad: ids that failed their check here, oldest first."""

    current: str | None
    previous: str | None
    bad: tuple[str, ...]

    def check(self) -> None:
        for key, value in (("current", self.current), ("previous", self.previous), *(("bad", b) for b in self.bad)):
            if value is not None and not _ID.fullmatch(value):
                raise ManifestError(key, f"{value[:80]!r} is not a release id")


NOTHING = State(current=None, previous=None, bad=())


def parse_state(data: bytes) -> State:
    """The state in these bytes, which must be canonical; raises ManifestError."""
    state = parse(State, load_json(data))
    if dump_state(state) != data:
        raise ManifestError("", "not in canonical form")
    return state


def dump_state(state: State) -> bytes:
    """The canonical bytes; `parse_state` gives the state back."""
    return dump_canonical(state)


def switched(state: State, release: str) -> State:
    """The state after `release` passed its check: it is current, what was current is previous."""
    previous = state.previous if state.current == release else state.current
    return State(current=release, previous=previous, bad=tuple(b for b in state.bad if b != release))


def condemned(state: State, release: str) -> State:
    """The state after `release` failed: nothing switches, and it is remembered."""
    bad = (*(b for b in state.bad if b != release), release)[-BAD_LIMIT:]
    return state.replace(bad=bad)


def rolled_back(state: State) -> State:
    """The state with current and previous exchanged."""
    return state.replace(current=state.previous, previous=state.current)
