"""The tables of sessions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from stillframe.tools.top.sessions import WIDE, duration, most_active, session_tables
from stillframe.tools.top.snapshot import SessionRow

Drawn = Callable[..., list[str]]
Rows = Callable[..., SessionRow]


def cells(line: str) -> list[str]:
    """What stands in a line, column by column."""
    return re.split(r"\s{2,}", line.strip())


def test_a_row_says_what_a_session_does(row: Rows, drawn: Drawn) -> None:
    """Its newest frame's figures under their heads, and the last ones' time by stage."""
    heads, values, _, stages, took = drawn(*session_tables([row(in_flight=2)], 0.02, 160))

    assert dict(zip(cells(heads), cells(values), strict=True)) == {
        "session": "arm",
        "state": "busy, 2 in flight",
        "frame": "41",
        "age": "0.2 s",
        "steps/s": "4.5",
        "reuse": "81%",
        "kind": "delta",
        "drift of 0.02": "0.0125",
        "passes": "3",
        "KV": "1.0 MiB",
    }
    assert dict(zip(cells(stages), cells(took), strict=True)) == {
        "median ms": "arm",
        "queue": "1.2",
        "prefill": "140",
        "total": "142",
    }


@pytest.mark.parametrize(
    ("differently", "said"),
    [
        ({"cache": {"reason": "scene-cut"}}, "key, scene-cut"),
        ({"drift": 0.0312}, "over, 0.0312"),
        ({"drift": 0.02}, " 0.0200"),
        ({"owner": "front"}, "front/arm"),
        ({"history": {"held": 12, "kept": 30, "dropped": 4}}, "12 / 30 / 4"),
    ],
)
def test_what_is_special_is_told_in_words(row: Rows, drawn: Drawn, differently: dict[str, Any], said: str) -> None:
    """Keyframes with their reason, drift over its budget, owners, chunks of older frames: no colour alone."""
    lines = drawn(*session_tables([row(**differently)], 0.02, 160))

    assert said in lines[1]
    assert ("over" in lines[1]) == (said == "over, 0.0312")


def test_a_session_without_a_frame_has_a_row(row: Rows, drawn: Drawn) -> None:
    """Figures are unknown, and it has no time by stage."""
    fresh = row("new").model_copy(update={"latest": None, "recent": None})
    alone, both = drawn(*session_tables([fresh], None, 160)), drawn(*session_tables([fresh, row()], None, 160))

    assert cells(alone[1]) == ["new", *["-"] * 9]
    assert len(alone) == 2
    assert [line.split()[0] for line in both[-1:]] == ["arm"]


def test_no_session_is_said_in_a_line(drawn: Drawn) -> None:
    """Instead of a table's head alone."""
    assert drawn(*session_tables([], 0.02, 160)) == ["no session is open"]


def test_chunks_have_a_column_only_where_there_are_any(row: Rows, drawn: Drawn) -> None:
    """A deployment without history shows none."""
    kept = {"held": 1, "kept": 2, "dropped": 3}
    without, having = (drawn(*session_tables([row(history=history)], 0.02, 160))[0] for history in (None, kept))

    assert "chunks" not in without
    assert having.endswith("chunks held/kept/dropped")


def test_a_narrow_terminal_shows_whole_figures(row: Rows, drawn: Drawn) -> None:
    """At 80 columns the less telling ones go, a long name is cut in the line that it has, and no figure is."""
    named = row("robot of the third cell, arm on the left", cache={"reason": "first-frame"})
    lines = drawn(*session_tables([named], 0.02, 80), width=80)

    assert cells(lines[0]) == ["session", "age", "steps/s", "reuse", "kind", "drift of 0.02", "KV"]
    assert cells(lines[1])[1:] == ["0.2 s", "4.5", "81%", "key, first-frame", "0.0125", "1.0 MiB"]
    assert cells(lines[1])[0].startswith("robot of th")
    assert cells(lines[1])[0].endswith("…")
    assert len(lines) == 5
    assert "state" in drawn(*session_tables([row()], 0.02, WIDE))[0]


def test_stages_are_those_that_any_session_went_through(row: Rows, drawn: Drawn) -> None:
    """A stage that one of them never ran is unknown of it, not zero."""
    rows = [row("one"), row("two", median_ms={"queue": 1.0, "decode": 2.0})]
    heads, one, two = drawn(*session_tables(rows, None, 160))[-3:]

    assert cells(heads) == ["median ms", "queue", "prefill", "decode", "total"]
    assert (cells(one)[3], cells(two)[2]) == ("-", "-")


def test_the_most_active_sessions_are_shown_in_their_order(row: Rows) -> None:
    """Rows do not change places as robots take turns; those used longest ago are left out."""
    rows = [row(name, idle_s=idle_s) for name, idle_s in (("a", 3.0), ("b", 0.0), ("c", 90.0), ("d", 1.0))]

    assert [one.id for one in most_active(rows, 3)] == ["a", "b", "d"]
    assert [one.id for one in most_active(rows, 9)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.0, "0.0 s"), (59.9, "59.9 s"), (60.0, "1 min"), (7200.0, "2 h"), (200_000.0, "2 d")]
)
def test_a_duration_is_in_a_fitting_unit(seconds: float, said: str) -> None:
    """Seconds with a tenth, then minutes, hours, days."""
    assert duration(seconds) == said
