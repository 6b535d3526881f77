"""The state machine of a session, as one table; docs/sessions.md shows it.

Knows no session.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from stillframe.errors import Gone


class State(StrEnum):
    """A session's state: the live ones, then the ended ones."""

    IDLE = "idle"  # open, no frame in flight
    BUSY = "busy"  # frames in flight
    LEAVING = "leaving"  # its connection dropped with a frame in flight
    AWAY = "away"  # its connection dropped; kept for a while, to be resumed
    CLOSED = "closed"  # its client ended it
    EXPIRED = "expired"  # unused for too long
    EVICTED = "evicted"  # ended to make room for another


class Event(StrEnum):
    """What happens to a session."""

    OPEN = "open"  # its id is opened (again)
    FRAME = "frame"  # the policy accepted a frame
    SETTLE = "settle"  # its last frame in flight was answered or dropped
    RESET = "reset"  # its next episode begins
    LEAVE = "leave"  # the connection that held it dropped
    RESUME = "resume"  # it is resumed by its secret, or a connection attaches
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
    State.EXPIRED: ("session-expired", "This session was not used for too long, so it expired"),
    State.EVICTED: ("session-evicted", "This session was idle and made room for another"),
}
GONE = frozenset(_WHY_GONE)
LIVE = tuple(state for state in State if state not in GONE)


def after(state: State, event: Event) -> State:
    """The next state. Raises Gone for an ended session; anything else outside the table is a bug."""
    following = TABLE.get((state, event))
    if following is not None:
        return following
    if state in GONE:
        raise gone(state)
    raise AssertionError(f"a session in state {state} cannot {event}")


def gone(state: State) -> Gone:
    """The error for a request to a session in that state."""
    code, why = _WHY_GONE[state]
    return Gone(code, f"{why}; open a new one, whose first frame is computed whole.")
