from __future__ import annotations

import pytest

from stillframe_client import PolicyError, Superseded
from stillframe_client.streaming.asked import Asked, Kind
from stillframe_client.streaming.requests import UnderWay


def frame(place=None, *, sent=True):
    """A frame that was given a place."""
    return Asked(Kind.FRAME, 0.0, place=place, data=b"message" if place else b"", sent=sent and place is not None)


def line_of(*line):
    """Them under way, in that order."""
    under_way = UnderWay()
    for asked in line:
        under_way.add(asked)
    return under_way


def test_only_what_was_sent_is_owed():
    """A frame is found by its place on this connection; on the next one it has to be sent first."""
    first, second, unsent = frame((0, 0)), frame((0, 1)), frame()
    under_way = line_of(first, second, unsent)

    assert under_way.sent == [first, second]
    assert (under_way.at((0, 1)), under_way.at((1, 1))) == (second, None)
    under_way.unsent()
    assert (under_way.sent, under_way.at((0, 1))) == ([], None)
    assert list(under_way) == [first, second, unsent]


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.CLOSE])
def test_a_barrier_stands_once_it_is_sent(kind):
    """Frames are none, nor is what waits still."""
    barrier = Asked(kind, 0.0)
    under_way = line_of(frame((0, 0)), barrier)

    assert under_way.barrier is None
    barrier.sent = True
    assert under_way.barrier is barrier


def test_a_late_answer_is_known_once():
    """Of what was sent and given up; what was never sent has no answer."""
    sent, unsent, waits = frame((0, 0)), frame((0, 1), sent=False), frame((0, 2))
    under_way = line_of(sent, unsent, waits)
    for asked in (sent, unsent, sent):
        under_way.give_up(asked)

    assert list(under_way) == [waits]
    assert [under_way.was_given_up(place) for place in ((0, 2), (0, 1), (0, 0), (0, 0))] == [False, False, True, False]


def test_many_late_answers_are_known():
    """A robot that has lost patience with sixty frames in a row still knows the answers to all of them."""
    frames = [frame((0, n)) for n in range(60)]
    under_way = line_of(*frames)
    for asked in frames:
        under_way.give_up(asked)

    assert all(under_way.was_given_up((0, n)) for n in range(60))


def test_a_reset_under_way_goes_on():
    """Frames wait behind it, whether a call waits for it or not; one that was not sent, and a close, are given up."""
    sent, unsent, close = Asked(Kind.RESET, 0.0, sent=True), Asked(Kind.RESET, 0.0), Asked(Kind.CLOSE, 0.0, sent=True)
    under_way = line_of(sent, unsent, close)
    for asked in (sent, unsent, close):
        under_way.give_up(asked)

    assert list(under_way) == [sent]
    assert not under_way.wanted
    under_way.add(frame())
    assert under_way.wanted


def test_everything_ends_together():
    """Nothing is left under way, and all are told the same."""
    asked = frame((0, 0)), Asked(Kind.RESET, 0.0), Asked(Kind.OPEN, 0.0)
    under_way = line_of(*asked)
    under_way.fail_all(error := PolicyError("x"))

    assert [one.error for one in asked] == [error] * 3
    assert list(under_way) == []


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
    under_way = line_of(*frames, given_up, *([Asked(Kind.RESET, 0.0)] if reset else []))
    under_way.give_up(given_up)
    under_way.unsent()
    under_way.reopened(before, after)

    def fate(asked):
        if asked.settled:
            assert isinstance(asked.error, Superseded)
            return "ended"
        if asked.place is not None:
            return "kept" if asked.data else "lost"
        return "waits" if asked is frames[2] else "anew"

    assert [fate(asked) for asked in frames] == fates
    assert [asked in list(under_way) for asked in frames] == [one != "ended" for one in fates]
    assert under_way.was_given_up((1, 7)) is (after == before)
