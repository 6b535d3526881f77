from __future__ import annotations

import pytest

from stillframe_client import PolicyError, Superseded
from stillframe_client.streaming.requests import PendingRequests, RequestKind, StreamRequest


def frame(position=None, *, sent=True):
    """A frame that was given a place."""
    return StreamRequest(
        RequestKind.FRAME,
        0.0,
        position=position,
        data=b"message" if position else b"",
        sent=sent and position is not None,
    )


def line_of(*line):
    """Them under way, in that order."""
    pending = PendingRequests()
    for asked in line:
        pending.add(asked)
    return pending


def test_only_what_was_sent_is_owed():
    """A frame is found by its place on this connection; on the next one it has to be sent first."""
    first, second, unsent = frame((0, 0)), frame((0, 1)), frame()
    pending = line_of(first, second, unsent)

    assert pending.sent == [first, second]
    assert (pending.find((0, 1)), pending.find((1, 1))) == (second, None)
    pending.mark_unsent()
    assert (pending.sent, pending.find((0, 1))) == ([], None)
    assert list(pending) == [first, second, unsent]


@pytest.mark.parametrize("kind", [RequestKind.RESET, RequestKind.CLOSE])
def test_a_barrier_stands_once_it_is_sent(kind):
    """Frames are none, nor is what waits still."""
    barrier = StreamRequest(kind, 0.0)
    pending = line_of(frame((0, 0)), barrier)

    assert pending.barrier is None
    barrier.sent = True
    assert pending.barrier is barrier


def test_a_late_answer_is_known_once():
    """Of what was sent and given up; what was never sent has no answer."""
    sent, unsent, waits = frame((0, 0)), frame((0, 1), sent=False), frame((0, 2))
    pending = line_of(sent, unsent, waits)
    for asked in (sent, unsent, sent):
        pending.cancel(asked)

    assert list(pending) == [waits]
    assert [pending.was_cancelled(position) for position in ((0, 2), (0, 1), (0, 0), (0, 0))] == [
        False,
        False,
        True,
        False,
    ]


def test_many_late_answers_are_known():
    """A robot that has lost patience with sixty frames in a row still knows the answers to all of them."""
    frames = [frame((0, n)) for n in range(60)]
    pending = line_of(*frames)
    for asked in frames:
        pending.cancel(asked)

    assert all(pending.was_cancelled((0, n)) for n in range(60))


def test_a_reset_under_way_goes_on():
    """Frames wait behind it, whether a call waits for it or not; one that was not sent, and a close, are given up."""
    sent, unsent, close = (
        StreamRequest(RequestKind.RESET, 0.0, sent=True),
        StreamRequest(RequestKind.RESET, 0.0),
        StreamRequest(RequestKind.CLOSE, 0.0, sent=True),
    )
    pending = line_of(sent, unsent, close)
    for asked in (sent, unsent, close):
        pending.cancel(asked)

    assert list(pending) == [sent]
    assert not pending.has_waiters
    pending.add(frame())
    assert pending.has_waiters


def test_everything_ends_together():
    """Nothing is left under way, and all are told the same."""
    asked = frame((0, 0)), StreamRequest(RequestKind.RESET, 0.0), StreamRequest(RequestKind.OPEN, 0.0)
    pending = line_of(*asked)
    pending.fail_all(error := PolicyError("x"))

    assert [one.error for one in asked] == [error] * 3
    assert list(pending) == []


@pytest.mark.parametrize(
    ("before", "after", "reset", "fates"),
    [
        (1, 1, False, ["ended", "kept", "waits"]),
        (1, 1, True, ["ended", "kept", "waits"]),
        (1, 2, False, ["ended", "anew", "waits"]),
        (1, 2, True, ["ended", "ended", "waits"]),
        (1, None, False, ["ended", "anew", "waits"]),
        (1, None, True, ["ended", "anew", "waits"]),
    ],
    ids=["same", "same, a reset waits", "another epoch", "reset done", "new", "new, a reset waits"],
)
def test_what_becomes_of_frames_when_the_session_is_open_again(before, after, reset, fates):
    """Those of an ended episode end; those of this one keep their place, or get another where the epoch is another."""
    frames = [frame((0, 4)), frame((1, 0)), frame()]
    given_up = frame((1, 7))
    pending = line_of(*frames, given_up, *([StreamRequest(RequestKind.RESET, 0.0)] if reset else []))
    pending.cancel(given_up)
    pending.mark_unsent()
    pending.session_reopened(before, after)

    def fate(asked):
        if asked.settled:
            assert isinstance(asked.error, Superseded)
            return "ended"
        if asked.position is not None:
            return "kept" if asked.data else "lost"
        return "waits" if asked is frames[2] else "anew"

    assert [fate(asked) for asked in frames] == fates
    assert [asked in list(pending) for asked in frames] == [one != "ended" for one in fates]
    assert pending.was_cancelled((1, 7)) is (after == before)


def test_it_is_settled_once():
    """Whatever comes after the first answer, or the first error, changes nothing and is not told."""
    told: list[StreamRequest] = []
    answered, failed = (StreamRequest(RequestKind.FRAME, 0.0, on_settled=told.append) for _ in range(2))
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
    asked = StreamRequest(RequestKind.FRAME, 100.0, max_age_s=max_age_s)

    assert asked.is_expired(100.0 + age_s) is old


def test_how_old_it_is_is_said():
    """In milliseconds, beside what it may be."""
    assert "2500 ms old" in (said := StreamRequest(RequestKind.FRAME, 100.0, max_age_s=2.0).expiry_text(102.5))
    assert "may be 2000 ms" in said


def test_another_session_gives_it_another_place():
    """What it was in the session before is forgotten with its bytes."""
    asked = StreamRequest(RequestKind.FRAME, 0.0, position=(1, 2), data=b"message", sent=True)
    asked.drop_position()

    assert (asked.position, asked.data, asked.sent) == (None, b"", False)
