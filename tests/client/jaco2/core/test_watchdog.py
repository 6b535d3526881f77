from __future__ import annotations

import itertools

import pytest

from stillframe_client.jaco2.core.watchdog import ARMED, Event, State, next_state, table_as_markdown

# Written by hand, not read from the table: what each state does at each event, in the order of Event.
EXPECTED = """
          arm    disarm    clear     fresh    stale  broken
DISARMED  READY  .         .         .        .      .
READY     .      DISARMED  .         RUNNING  .      FAULT
RUNNING   .      DISARMED  .         .        HOLD   FAULT
HOLD      .      DISARMED  .         RUNNING  .      FAULT
FAULT     .      .         DISARMED  .        .      .
"""
HEAD, *ROWS = (line.split() for line in EXPECTED.strip().splitlines())
CELLS = [(row[0], event, after) for row in ROWS for event, after in zip(HEAD, row[1:], strict=True)]


@pytest.mark.parametrize(("state", "event", "after"), CELLS)
def test_every_state_goes_at_every_event_where_the_list_says(state, event, after):
    """Each cell of a table written independently, those that change nothing included."""
    expected = State[state] if after == "." else State[after]
    assert next_state(State[state], Event(event)) is expected


def test_the_list_has_every_state_and_event():
    """No pair is left out."""
    assert {(state, event) for state, event, _ in CELLS} == {
        (state.name, event.value) for state, event in itertools.product(State, Event)
    }


def test_only_an_order_leads_out_of_rest():
    """From DISARMED and FAULT nothing leads to a state that sends, but ARM, and that from DISARMED alone."""
    ways = [
        (state, event)
        for state, event in itertools.product(State, Event)
        if state not in ARMED and next_state(state, event) in ARMED
    ]
    assert ways == [(State.DISARMED, Event.ARM)]


def test_the_markdown_has_a_row_for_each_state_and_a_column_for_each_event():
    """The table for readers holds the same cells."""
    head, line, *rows = ([cell.strip() for cell in text.split("|")[1:-1]] for text in table_as_markdown().splitlines())
    assert head == ["", *(event.value for event in Event)]
    assert set(line) == {"---"}
    assert rows == [[row[0], *("" if cell == "." else cell for cell in row[1:])] for row in ROWS]
