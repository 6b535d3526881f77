"""States of the streamer and what leads from one to another: one table.

Knows no limit and no time: what is stale or broken is decided by conditions.py.
"""

from __future__ import annotations

from enum import Enum
from typing import Mapping, Tuple


class State(Enum):
    """What the streamer does. The value is what logs and the status line say."""

    DISARMED = "DISARMED"  # sends nothing, once it has come to rest
    READY = "READY"  # armed: zeros, until the first step
    RUNNING = "RUNNING"  # follows the steps
    HOLD = "HOLD"  # comes to rest and waits: it goes on by itself when all is fresh again
    FAULT = "FAULT"  # comes to rest, stops the arm and stays so until an operator clears it


class Event(Enum):
    """What may change the state."""

    ARM = "arm"  # the operator, where the arm's pose and the bridge are fresh
    DISARM = "disarm"  # the end of a run
    CLEAR = "clear"  # the operator has seen to the fault
    FRESH = "fresh"  # pose, bridge and step are
    STALE = "stale"  # one of them is not
    BROKEN = "broken"  # what does not mend by itself, and every stop that is asked for


TABLE: Mapping[Tuple[State, Event], State] = {
    (State.DISARMED, Event.ARM): State.READY,
    (State.READY, Event.FRESH): State.RUNNING,
    (State.READY, Event.BROKEN): State.FAULT,
    (State.READY, Event.DISARM): State.DISARMED,
    (State.RUNNING, Event.STALE): State.HOLD,
    (State.RUNNING, Event.BROKEN): State.FAULT,
    (State.RUNNING, Event.DISARM): State.DISARMED,
    (State.HOLD, Event.FRESH): State.RUNNING,
    (State.HOLD, Event.BROKEN): State.FAULT,
    (State.HOLD, Event.DISARM): State.DISARMED,
    (State.FAULT, Event.CLEAR): State.DISARMED,
}
ARMED = (State.READY, State.RUNNING, State.HOLD)


def next_state(state: State, event: Event) -> State:
    """The state after the event; the same one where the table has no row."""
    return TABLE.get((state, event), state)


def table_as_markdown() -> str:
    """The table as README.md shows it: a row for each state, a column for each event."""
    head = ["", *(event.value for event in Event)]
    rows = [[state.value, *(_cell(state, event) for event in Event)] for state in State]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _cell(state: State, event: Event) -> str:
    after = next_state(state, event)
    return "" if after is state else after.value
