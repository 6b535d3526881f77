from __future__ import annotations

import numpy as np
import pytest

from stillframe_client import BadReply
from stillframe_client.streaming.incoming import action_of, epoch_of, position_of, refusal_of, session_of

LARGEST = 2**64 - 1


def problem(**members):
    return {"type": "problem", "problem": {"code": "overloaded", "status": 503, "detail": "x", **members}}


@pytest.mark.parametrize(
    ("said", "waits_s"),
    [(250, 0.25), (0, 0.0), (1.5, 0.0015), (-1, None), ("250", None), (True, None), (None, None), (2.0**70, None)],
)
def test_how_long_to_wait(said, waits_s):
    """Milliseconds become seconds; what is no time is none."""
    assert refusal_of(problem(retry_after_ms=said)).retry_after_s == waits_s


@pytest.mark.parametrize("status", [None, "503", True, 503.0])
def test_a_problem_without_a_status(status):
    """It is the daemon's own fault; its code stands."""
    refusal = refusal_of(problem(code="of next year", status=status))

    assert (refusal.status, refusal.code) == (500, "of next year")


@pytest.mark.parametrize("said", [None, 7, [], {"status": 503}, {"code": 7, "status": 503}])
def test_what_is_no_problem(said):
    """A problem has a code."""
    with pytest.raises(BadReply):
        refusal_of({"type": "problem", "problem": said})


@pytest.mark.parametrize("count", [0, 1, LARGEST])
def test_counts(count):
    """Up to the last one of 64 bits."""
    assert epoch_of({"epoch": count}) == count
    assert position_of({"session": {"epoch": count, "seq": count}}) == (count, count)


@pytest.mark.parametrize("count", [None, -1, LARGEST + 1, True, 1.0, "1"])
def test_what_is_no_count(count):
    """It names no epoch, and no frame."""
    with pytest.raises(BadReply):
        epoch_of({"epoch": count})
    assert position_of({"session": {"epoch": count, "seq": 0}}) is None
    assert position_of({"session": {"epoch": 0, "seq": count}}) is None


@pytest.mark.parametrize(
    ("message", "session_id"),
    [
        ({"session": {"id": "arm"}, "session_id": "leg"}, "arm"),
        ({"session_id": "arm"}, "arm"),
        ({"session": {"id": 7}}, None),
        ({"session": "arm"}, None),
        ({"session_id": 7}, None),
    ],
)
def test_whose_message_it_is(message, session_id):
    """The session of a frame comes first."""
    assert session_of(message) == session_id


def test_what_an_action_says():
    """Stage times that are numbers, a clock's word that is a whole number, truths that are true; nothing is made up."""
    plain = {"actions": np.ones((2, 3), np.float32)}
    full = {"timing_ms": {"queue": 1, "total": 2.5, "x": True, "y": "1"}, "t_obs_ns": 2**60, "replayed": True}
    odd = {"timing_ms": [1], "t_obs_ns": 1.5, "replayed": 1, "late": "yes"}
    said = [action_of({**plain, **members}) for members in ({}, {**full, "late": True}, odd)]

    assert [dict(reply.timing_ms) for reply in said] == [{}, {"queue": 1.0, "total": 2.5}, {}]
    assert [reply.t_obs_ns for reply in said] == [None, 2**60, None]
    assert [(reply.replayed, reply.late) for reply in said] == [(False, False), (True, True), (False, False)]
    assert action_of({**plain, "t_obs_ns": True}).t_obs_ns is None
