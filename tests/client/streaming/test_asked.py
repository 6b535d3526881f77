from __future__ import annotations

import pytest

from stillframe_client import PolicyError
from stillframe_client.streaming.asked import Asked, Kind


def test_it_is_settled_once():
    """Whatever comes after the first answer, or the first error, changes nothing and is not told."""
    told: list[Asked] = []
    answered, failed = (Asked(Kind.FRAME, 0.0, on_settled=told.append) for _ in range(2))
    error = PolicyError("x")
    answered.settle(1)
    failed.fail(error)
    for asked in (answered, failed):
        asked.settle(2)
        asked.fail(PolicyError("y"))

    assert (answered.answer, answered.error) == (1, None)
    assert (failed.answer, failed.error) == (None, error)
    assert told == [answered, failed]


@pytest.mark.parametrize(("max_age_s", "age_s", "old"), [(None, 1e9, False), (2.0, 2.0, False), (2.0, 2.5, True)])
def test_how_old_it_may_be(max_age_s, age_s, old):
    """A frame may be as old as its max_age_ms, and no older; one without may be of any age."""
    asked = Asked(Kind.FRAME, 100.0, max_age_s=max_age_s)

    assert asked.is_too_old(100.0 + age_s) is old


def test_how_old_it_is_is_said():
    """In milliseconds, beside what it may be."""
    assert "2500 ms old" in (said := Asked(Kind.FRAME, 100.0, max_age_s=2.0).too_old(102.5))
    assert "may be 2000 ms" in said


def test_another_session_gives_it_another_place():
    """What it was in the session before is forgotten with its bytes."""
    asked = Asked(Kind.FRAME, 0.0, place=(1, 2), data=b"message", sent=True)
    asked.forget_place()

    assert (asked.place, asked.data, asked.sent) == (None, b"", False)
