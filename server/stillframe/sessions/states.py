"""The states of a session and what may happen in each: one table. docs/sessions.md shows it to people.

Knows no session: words, and which follows which.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from stillframe.errors import Gone


class State(StrEnum):
    """How a session stands: the live states, then the gone ones."""

    IDLE = "idle"  # here; nothing of it waits or is computed
    BUSY = "busy"  # frames of it wait or are computed
    LEAVING = "leaving"  # its connection dropped while a frame of it was computed
    AWAY = "away"  # its connection dropped; kept, so that it can be resumed
    CLOSED = "closed"  # its client ended it
    EXPIRED = "expired"  # nobody came for too long
    EVICTED = "evicted"  # it made room for another


class Event(StrEnum):
    """What happens to a session."""

    OPEN = "open"  # its id is asked for (again)
    FRAME = "frame"  # the policy took a frame of it
    SETTLE = "settle"  # the last of its frames in flight was answered or dropped
    RESET = "reset"  # its next episode begins
    LEAVE = "leave"  # the connection that held it dropped
    RESUME = "resume"  # somebody takes it up
    CLOSE = "close"
    EXPIRE = "expire"
    EVICT = "evict"


_ROWS: Mapping[State, Mapping[Event, State]] = {
    State.IDLE: {
        Event.FRAME: State.BUSY,
        Event.RESET: State.IDLE,
        Event.LEAVE: State.AWAY,
        Event.RESUME: State.IDLE,
        Event.CLOSE: State.CLOSED,
        Event.EXPIRE: State.EXPIRED,
        Event.EVICT: State.EVICTED,
    },
    State.BUSY: {
        Event.FRAME: State.BUSY,
        Event.SETTLE: State.IDLE,
        Event.RESET: State.BUSY,
        Event.LEAVE: State.LEAVING,
        Event.RESUME: State.BUSY,
        Event.CLOSE: State.CLOSED,
    },
    State.LEAVING: {
        Event.FRAME: State.BUSY,  # over HTTP, which needs no connection
        Event.SETTLE: State.AWAY,
        Event.RESET: State.LEAVING,
        Event.RESUME: State.BUSY,
        Event.CLOSE: State.CLOSED,
    },
    State.AWAY: {
        Event.FRAME: State.BUSY,  # over HTTP
        Event.RESET: State.AWAY,
        Event.RESUME: State.IDLE,
        Event.CLOSE: State.CLOSED,
        Event.EXPIRE: State.EXPIRED,
        Event.EVICT: State.EVICTED,
    },
    State.CLOSED: {
        Event.OPEN: State.IDLE,  # in each gone state: another session of the same id begins
        Event.SETTLE: State.CLOSED,  # a frame was computed when it was closed
        Event.CLOSE: State.CLOSED,
    },
    State.EXPIRED: {Event.OPEN: State.IDLE, Event.CLOSE: State.EXPIRED},
    State.EVICTED: {Event.OPEN: State.IDLE, Event.CLOSE: State.EVICTED},
}
TABLE: Mapping[tuple[State, Event], State] = MappingProxyType(
    {(state, event): following for state, row in _ROWS.items() for event, following in row.items()}
)

_WHY_GONE: Mapping[State, tuple[str, str]] = {
    State.CLOSED: ("session-closed", "This session was closed"),
    State.EXPIRED: ("session-expired", "Nobody used this session for too long, so it expired"),
    State.EVICTED: ("session-evicted", "This session was idle and made room for another"),
}
GONE = frozenset(_WHY_GONE)
LIVE = tuple(state for state in State if state not in GONE)


def after(state: State, event: Event) -> State:
    """The state that follows. Raises Gone for a session that is no more; what the table lacks else is a bug of ours."""
    following = TABLE.get((state, event))
    if following is not None:
        return following
    if state in GONE:
        raise gone(state)
    raise AssertionError(f"a session in state {state} cannot {event}")


def gone(state: State) -> Gone:
    """What is said to somebody who asks for a session in that state."""
    code, why = _WHY_GONE[state]
    return Gone(code, f"{why}; open a new one, whose first frame is computed whole.")


class Watch(Protocol):
    """Called on any thread, under the roster's lock: quick, and asks the roster nothing."""

    def ended(self, state: State) -> None:
        """A session is closed, expired or evicted."""
        ...

    def refused(self) -> None:
        """There was no room for one more session."""
        ...

    def superseded(self) -> None:
        """A waiting frame gave way to a newer one."""
        ...

    def replayed(self) -> None:
        """A frame was a repeat and was not computed again."""
        ...
