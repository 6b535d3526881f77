from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from stillframe.errors import Gone
from stillframe.sessions.states import GONE, LIVE, TABLE, Event, State, after, gone

DOCS = (Path(__file__).parents[2] / "docs" / "sessions.md").read_text(encoding="utf-8")
EVERY = list(itertools.product(State, Event))


def test_a_state_is_live_or_gone():
    """Each is one of the two."""
    assert {*LIVE} | GONE == {*State}
    assert not {*LIVE} & GONE


def test_the_documentation_shows_the_table():
    """docs/sessions.md has exactly these rows: a state, and what follows from each event."""
    rows = [["state", *(event.value for event in Event)], ["---"] * (1 + len(Event))]
    for state in State:
        following = [TABLE.get((state, event)) for event in Event]
        rows.append([f"**{state.value}**", *(next_state.value if next_state else "" for next_state in following)])
    drawn = "\n".join(re.sub(" +", " ", f"| {' | '.join(row)} |") for row in rows)

    assert drawn in DOCS


def test_every_state_and_every_end_is_explained():
    """The documentation says what each state means and with which code the gone ones are answered."""
    assert all(re.search(rf"^- \*\*{state.value}\*\*: \w", DOCS, re.MULTILINE) for state in State)
    assert all(f"`{gone(state).code}`" in DOCS for state in GONE)


def test_nobody_at_work_is_thrown_out():
    """While frames are in flight a session neither expires nor makes room."""
    thrown_out = {state for state, event in TABLE if event in (Event.EXPIRE, Event.EVICT)}

    assert thrown_out == {State.IDLE, State.AWAY}


def test_only_an_opening_brings_back():
    """What is gone stays gone until its id is asked for again, and then begins idle."""
    back = {(event, TABLE[state, event]) for state, event in TABLE if state in GONE and TABLE[state, event] in LIVE}

    assert back == {(Event.OPEN, State.IDLE)}


def test_every_state_can_be_reached_and_left():
    """The table has no dead end, and no state that nothing leads to."""
    reached = {State.IDLE}
    for _ in State:
        reached |= {TABLE[state, event] for state, event in TABLE if state in reached}

    assert reached == {*State}
    assert {state for state, _ in TABLE} == {*State}


@pytest.mark.parametrize(("state", "event"), [pair for pair in EVERY if pair in TABLE])
def test_what_the_table_has_happens(state, event):
    """`after` reads the table."""
    assert after(state, event) is TABLE[state, event]


@pytest.mark.parametrize(("state", "event"), [pair for pair in EVERY if pair not in TABLE and pair[0] in GONE])
def test_the_gone_refuse_with_their_reason(state, event):
    """Whoever asks for a session that is no more is told which way it went."""
    with pytest.raises(Gone) as caught:
        after(state, event)

    assert caught.value.code == f"session-{state.value}"
    assert "open a new one" in caught.value.detail


@pytest.mark.parametrize(("state", "event"), [pair for pair in EVERY if pair not in TABLE and pair[0] in LIVE])
def test_what_cannot_happen_is_our_bug(state, event):
    """It is never ignored."""
    with pytest.raises(AssertionError, match=f"a session in state {state} cannot {event}"):
        after(state, event)
