from __future__ import annotations

import gc
import weakref

import pytest

from stillframe.errors import Conflict, Gone, Overloaded
from stillframe.sessions.states import State


def test_who_holds_a_session_sends_its_frames(room):
    """Nobody else does: neither another connection nor a request without one, not even a repeat."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.frame(session, 0, b"0", connection=wire)
    for other in (None, room.wire()):
        with pytest.raises(Conflict) as caught:
            room.frame(session, 0, b"0", connection=other)
        assert caught.value.code == "session-in-use"

    assert len(room.device.jobs) == 1


def test_two_connections_do_not_share_a_session(room):
    """The second is refused as long as the first lives; the first may attach again."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.registry.attach(session, wire)
    with pytest.raises(Conflict) as caught:
        room.registry.attach(session, room.wire())

    assert caught.value.code == "session-in-use"
    assert session.connection is wire


def test_a_secret_takes_over(room):
    """The new connection holds the session, the old one is told, and no longer can."""
    session, old, new = room.open(), room.wire(), room.wire()
    room.registry.attach(session, old)
    room.answered(session, 3, b"3", connection=old)
    again, _ = room.registry.open(session.id, owner="me", secret=session.secret, connection=new)
    room.registry.attach(again, new)
    room.registry.leave(session, old)

    assert (old.lost_ids, new.lost_ids) == ([session.id], [])
    assert (session.connection, session.state) == (new, State.IDLE)
    assert room.frame(session, 3, b"3", connection=new).replayed
    with pytest.raises(Conflict):
        room.frame(session, 4, connection=old)


def test_who_opens_its_own_session_again_has_lost_nothing(room):
    """A connection that shows the secret of what it holds is not told that it lost it."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.registry.open(session.id, owner="me", secret=session.secret, connection=wire)
    room.registry.attach(session, wire)

    assert wire.lost_ids == []


def test_the_loser_may_ask_the_roster(room):
    """It is told when the registry's lock is free, and the session is no longer its."""
    session, wire = room.open(), room.wire()
    seen = []
    wire.lost = lambda session_id: seen.append(room.registry.find(session_id, owner="me").connection)
    room.registry.attach(session, wire)
    room.registry.open(session.id, owner="me", secret=session.secret)

    assert seen == [None]


def test_what_dropped_can_be_resumed(room):
    """Within its time: the session goes on where it was."""
    session, wire, new = room.open(), room.wire(), room.wire()
    room.registry.attach(session, wire)
    room.answered(session, 3, connection=wire)
    room.registry.leave(session, wire)
    away = session.state
    room.now_s += 9
    room.open(session.id, secret=session.secret)
    room.registry.attach(session, new)

    assert (away, session.state) == (State.AWAY, State.IDLE)
    assert room.answered(session, connection=new).seq == 4


def test_what_dropped_expires(room):
    """After its time, long before an idle session would."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.registry.leave(session, wire)
    room.now_s += 10
    room.registry.sweep()
    with pytest.raises(Gone) as caught:
        room.open(session.id, secret=session.secret)

    assert session.state is State.EXPIRED
    assert caught.value.code == "session-expired"


def test_a_drop_is_no_use(new_room):
    """A lease runs from the last frame or resumption: who drops makes room as soon as who stays."""
    room = new_room(most=1, lease_s=5)
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.now_s += 6
    room.registry.leave(session, wire)
    room.open()

    assert session.state is State.EVICTED


@pytest.mark.parametrize("how", ["secret", "connection"])
def test_a_resumption_is_a_use(new_room, how):
    """Who has just come back, with its secret or on a connection, keeps its place for another lease."""
    room = new_room(most=1, lease_s=5, ttl_s=20)
    session, wire = room.open(), room.wire()
    for _ in range(3):
        room.now_s += 19
        if how == "secret":
            room.open(session.id, secret=session.secret)
        else:
            room.registry.attach(session, wire)
        with pytest.raises(Overloaded):
            room.open()

    assert session.state is State.IDLE


def test_a_reset_does_not_bring_a_connection_back(room):
    """The session stays away, and the window as long as it was."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.registry.leave(session, wire)
    room.now_s += 9
    room.registry.reset(session)
    away = session.state
    room.now_s += 1
    room.registry.sweep()

    assert (away, session.state) == (State.AWAY, State.EXPIRED)


def test_the_window_begins_as_the_connection_drops(room):
    """Not with the last frame."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.now_s += 60
    room.registry.leave(session, wire)
    room.now_s += 9
    room.registry.sweep()

    assert session.state is State.AWAY


def test_a_secret_resumes_without_a_connection(room):
    """Who shows it over HTTP has come back: nothing is awaited any more."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.registry.leave(session, wire)
    room.open(session.id, secret=session.secret)
    room.now_s += 60
    room.registry.sweep()

    assert session.state is State.IDLE


def test_who_resumed_is_not_awaited_any_more(room):
    """The window closes with the resumption, not with the time."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.registry.leave(session, wire)
    room.registry.attach(session, wire)
    room.now_s += 60
    room.registry.sweep()

    assert session.state is State.IDLE


def test_an_away_session_takes_frames_without_a_connection(room):
    """A robot may go on over HTTP; it then lives as any session does."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.registry.leave(session, wire)
    room.answered(session)
    room.now_s += 60
    room.registry.sweep()

    assert session.state is State.IDLE


def test_the_waiting_frames_of_a_dropped_connection_are_not_computed(room):
    """They leave the line; the one on the device is answered and kept for the repeat."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    running, waiting = (room.frame(session, seq, b"%d" % seq, connection=wire) for seq in (0, 1))
    room.device.begin()
    room.registry.leave(session, wire)
    states = [session.state]
    step = room.device.finish()
    states.append(session.state)

    assert room.device.jobs[1].answer.cancelled()
    assert [running.future.cancelled(), waiting.future.cancelled()] == [True, True]
    assert states == [State.LEAVING, State.AWAY]
    assert room.frame(session, 0, b"0").future.result(0) is step


def test_a_long_step_leaves_time_to_come_back(room):
    """The window begins when the device is done: until then the session neither expires nor makes room."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.frame(session, connection=wire)
    room.device.begin()
    room.registry.leave(session, wire)
    room.now_s += 500
    room.registry.sweep()
    room.device.finish()
    room.now_s += 9
    room.registry.sweep()
    alive = session.state
    room.now_s += 1
    room.registry.sweep()

    assert (alive, session.state) == (State.AWAY, State.EXPIRED)


def test_resuming_while_the_device_is_at_it(room):
    """The one who comes back repeats the frame, and waits for the answer that is on its way."""
    session, wire, new = room.open(), room.wire(), room.wire()
    room.registry.attach(session, wire)
    room.frame(session, 0, b"0", connection=wire)
    room.device.begin()
    room.registry.leave(session, wire)
    room.open(session.id, secret=session.secret)
    room.registry.attach(session, new)
    resumed = session.state
    again = room.frame(session, 0, b"0", connection=new)
    step = room.device.finish()

    assert (resumed, session.state) == (State.BUSY, State.IDLE)
    assert again.future.result(0) is step
    assert len(room.device.jobs) == 1


def test_a_frame_from_before_the_connection_outlives_it(room):
    """Only what was asked for through it is given up when it drops."""
    session, wire = room.open(), room.wire()
    by_request = room.frame(session)
    room.registry.attach(session, wire)
    by_wire = room.frame(session, connection=wire)
    room.registry.leave(session, wire)
    step = room.device.finish()

    assert by_wire.future.cancelled()
    assert by_request.future.result(0) is step


def test_who_asked_last_decides(room):
    """A waiting frame whose repeat came through a new connection is given up with that one, not with the old."""
    session, old, new = room.open(), room.wire(), room.wire()
    room.registry.attach(session, old)
    room.frame(session, 0, b"0", connection=old)
    room.open(session.id, secret=session.secret)
    room.registry.attach(session, new)
    room.registry.leave(session, old)
    again = room.frame(session, 0, b"0", connection=new)
    waits = len(room.device.waiting)
    room.registry.leave(session, new)

    assert waits == 1
    assert again.future.cancelled()
    assert room.device.waiting == []


def test_leaving_what_one_does_not_hold_changes_nothing(room):
    """Twice, or a stranger's, or one that is gone."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.registry.leave(session, room.wire())
    held = session.state
    room.registry.leave(session, wire)
    room.registry.leave(session, wire)
    away = session.state
    room.registry.close(session)
    room.registry.leave(session, wire)

    assert (held, away, session.state) == (State.IDLE, State.AWAY, State.CLOSED)


def test_what_is_gone_cannot_be_held(room):
    """A connection that attaches to it is told how it ended."""
    session = room.open()
    room.registry.close(session)
    with pytest.raises(Gone):
        room.registry.attach(session, room.wire())

    assert session.connection is None


def test_answers_that_are_kept_hold_no_connection(room):
    """A dropped stream is freed, though its sessions stay a while."""
    session, wire = room.open(), room.wire()
    room.registry.attach(session, wire)
    room.answered(session, connection=wire)
    room.registry.leave(session, wire)
    dropped = weakref.ref(wire)
    del wire
    gc.collect()

    assert dropped() is None
    assert len(session.replies) == 1
