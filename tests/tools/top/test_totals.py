"""The part above the sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from stillframe.tools.top.snapshot import Reading, Totals
from stillframe.tools.top.totals import drift_budget, header

Drawn = Callable[..., list[str]]


def test_the_contract_is_a_line(reading: Callable[..., Reading], drawn: Drawn) -> None:
    """What a frame has to hold, what comes back, and how it is computed."""
    first, second, third, *_ = drawn(*header(reading()))

    assert first == "stillframe 9.8.7  ready  http://robots:8000/seven"
    assert second == "arm-policy (openvla) on cpu, float32, weights int8 3.0 MiB, reuse adaptive, draft exact"
    assert third == "front, wrist 320 x 224 px, no state -> 8 actions of dx gripper; statistics jaco"


def test_a_daemon_that_loads_has_no_contract(reading: Callable[..., Reading], drawn: Drawn) -> None:
    """Its state is shown, and that there is no policy."""
    lines = drawn(*header(reading(state="loading", loaded=False)))

    assert "loading" in lines[0]
    assert lines[1] == "no policy is loaded yet"


def test_totals_are_everyones(
    reading: Callable[..., Reading], totals: Callable[..., Totals], row: Callable[..., Any], drawn: Drawn
) -> None:
    """Answers a second, frames queued, sessions of how many, the KV pool and older frames."""
    now = totals(12.0, frames={"answered": 110.0, "late": 1.0}, history_bytes=2048.0)
    lines = drawn(*header(reading(row(), totals=now, before=totals(10.0), not_listed=3)))

    assert lines[4] == "answers 5.5/s   in all 111, 1 of them late   queued 2   sessions 4 (room for 16)   streams 1"
    assert lines[5] == "KV 1.0 MiB of 4.0 MiB █████░░░░░░░░░░░░░░░   older frames 2.0 KiB"


def test_refusals_are_told_by_their_reason(
    reading: Callable[..., Reading], totals: Callable[..., Totals], drawn: Drawn
) -> None:
    """The most frequent first; what never came is left out, and an answer is no refusal."""
    some = totals(
        frames={"answered": 5.0, "late": 1.0, "expired": 2.0, "refused": 3.0, "failed": 0.0},
        rejected={"deadline-exceeded": 2.0, "overloaded": 3.0},
        sessions_refused=4.0,
        rate_limited=1000.0,
    )
    none, lines = drawn(*header(reading())), drawn(*header(reading(totals=some)))

    assert none[6] == "not answered: none"
    assert lines[6] == (
        "not answered: frames refused 3, expired 2   problems overloaded 3, deadline-exceeded 2   sessions 4   "
        "requests over the rate 1,000"
    )


def test_an_empty_pool_has_an_empty_bar(reading: Callable[..., Reading], drawn: Drawn) -> None:
    """Before a policy is loaded its budget is 0 as well."""
    lines = drawn(*header(reading(kv_in_use_bytes=0, kv_budget_bytes=0)))

    assert lines[5].startswith("KV 0 B of 0 B ░░░░░░░░░░░░░░░░░░░░ ")


def test_trouble_is_shown_above_what_was_read_before(reading: Callable[..., Reading], drawn: Drawn) -> None:
    """With the reason, in letters that a terminal does not obey."""
    lines = drawn(*header(replace(reading(), trouble="Nothing answers\x1b[2J")))

    assert lines[1] == "Shown as it was: Nothing answers\\x1b[2J"
    assert lines[2].startswith("arm-policy")


def test_a_budget_that_is_not_told_is_none() -> None:
    """The settings of another version may lack it."""
    assert drift_budget({"reuse": {"drift_budget": 0.02}}) == 0.02
    assert [drift_budget(settings) for settings in ({}, {"reuse": {}}, {"reuse": None})] == [None] * 3
