from __future__ import annotations

import pytest

from stillframe.errors import Conflict, DeadlineExceeded, NotReady, Overloaded
from stillframe.sessions.pending import Superseded
from stillframe.sessions.states import State


def test_the_newest_frame_wins(room):
    """The frame that waits gives way, and is told to which; the one on the device is answered."""
    session = room.realtime()
    running = room.frame(session, 10)
    room.device.begin()
    tickets = [room.frame(session, seq) for seq in (11, 12, 15)]
    steps = [room.device.finish(), room.device.finish()]
    told = [ticket.future.exception(0) for ticket in tickets[:2]]

    assert [error.by for error in told] == [12, 15]
    assert [error.code for error in told] == ["superseded"] * 2
    assert all(isinstance(error, Conflict) for error in told)
    assert [running.future.result(0), tickets[2].future.result(0)] == steps
    assert [job.ref.seq for job in room.device.jobs if not job.answer.cancelled()] == [10, 15]
    assert room.tally["superseded"] == 2


def test_it_is_never_too_busy(room):
    """However many come while the device is at one frame, one waits."""
    session = room.realtime()
    room.frame(session)
    room.device.begin()
    for _ in range(20):
        room.frame(session)

    assert len(room.device.waiting) == 1
    assert len(session.in_flight) == 2


def test_a_superseded_frame_stays_superseded(room):
    """Its repeat is told the same, and is not computed after the newer one."""
    session = room.realtime()
    room.frame(session, 1, b"1")
    room.frame(session, 2, b"2")
    again = room.frame(session, 1, b"1")

    assert again.future.exception(0).by == 2
    assert again.replayed
    assert len(room.device.jobs) == 2


def test_a_failed_frame_does_not_come_after_a_newer_one(room):
    """In lock-step its repeat is computed; here a newer frame has taken its place."""
    session = room.realtime()
    room.frame(session, 1, b"1")
    room.device.finish(DeadlineExceeded("deadline-exceeded", "too old"))
    newer = room.frame(session, 2)
    with pytest.raises(Superseded) as caught:
        room.frame(session, 1, b"1")

    assert caught.value.by == 2
    assert not newer.future.done()


def test_a_failed_frame_that_is_the_newest_may_come_again(room):
    """Nothing has taken its place."""
    session = room.realtime()
    room.frame(session, 1, b"1")
    room.device.finish(DeadlineExceeded("deadline-exceeded", "too old"))
    again = room.answered(session, 1, b"1")

    assert again.future.done()
    assert not again.replayed


def test_all_who_wait_for_a_superseded_frame_are_told(room):
    """Also those who repeated it."""
    session = room.realtime()
    tickets = [room.frame(session, 1, b"1"), room.frame(session, 1, b"1")]
    room.frame(session, 2)

    assert [ticket.future.exception(0).by for ticket in tickets] == [2, 2]


def test_others_sessions_are_left_alone(room):
    """A frame takes the place of its own session's only."""
    mine, other = room.realtime(), room.realtime()
    kept = room.frame(other)
    room.frame(mine)
    room.frame(mine)

    assert not kept.future.done()


def test_a_frame_of_the_last_episode_gives_way(room):
    """After a reset the first new frame takes the place of the old one that waits."""
    session = room.realtime()
    old = room.frame(session, 7)
    room.registry.reset(session)
    room.frame(session, 0)

    assert old.future.exception(0).by == 0


def test_a_policy_that_takes_no_frames_supersedes_nothing(room):
    """While there is none, what waits goes on waiting."""
    session = room.realtime()
    waiting = room.frame(session)
    device = room.device
    room.registry._submitter._policy = lambda: (_ for _ in ()).throw(NotReady("not-ready", "loading"))
    with pytest.raises(NotReady):
        room.frame(session)

    assert not waiting.future.done()
    assert device.waiting


def test_the_newest_frame_is_told_if_there_is_no_room(room):
    """What it took the place of has been answered, it is refused, and the session goes on."""
    session = room.realtime()
    waiting = room.frame(session, 1)
    room.device.refusal = Overloaded("overloaded", "full")
    with pytest.raises(Overloaded):
        room.frame(session, 2, b"2")
    room.device.refusal = None

    assert waiting.future.exception(0).by == 2
    assert session.state is State.IDLE
    assert room.answered(session, 2, b"2").future.done()


def test_why_a_frame_was_to_go_is_not_said_of_its_repeat(room):
    """A newer frame could not take its place; it failed, came again, and the policy dropped it: that is said."""
    session = room.realtime()
    room.frame(session, 1, b"1")
    room.device.begin()
    room.device.refusal = Overloaded("overloaded", "full")
    with pytest.raises(Overloaded):
        room.frame(session, 2)
    room.device.refusal = None
    room.device.finish(DeadlineExceeded("deadline-exceeded", "too old"))
    again = room.frame(session, 1, b"1")
    room.device.jobs[-1].answer.cancel()

    assert again.future.exception(0).code == "draining"
