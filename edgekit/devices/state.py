"""Which release of an app runs, which ran before, and which failed: one small file, replaced by one rename."""

from __future__ import annotations

from edgekit.installed import State as State
from edgekit.installed import dump_state as dump_state
from edgekit.installed import parse_state as parse_state

BAD_LIMIT = 32

NOTHING = State(current=None, previous=None, bad=())


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
