from __future__ import annotations

import pytest

from stillframe.errors import Conflict, Gone
from stillframe.sessions.states import State


def test_a_reset_begins_the_next_episode(room):
    """The epoch counts on, frames from 0; the instruction stays."""
    session = room.open()
    session.instruction = "stack the blocks"
    room.answered(session, 9)
    epoch = room.registry.reset(session)
    ticket = room.answered(session)

    assert (epoch, ticket.epoch, ticket.seq) == (1, 1, 0)
    assert room.device.jobs[-1].ref.epoch == 1
    assert session.instruction == "stack the blocks"


def test_a_reset_forgets_the_last_episodes_answers(room):
    """The same number and contents are another frame now: the robot stands elsewhere."""
    session = room.open()
    room.answered(session, 0, b"0", key="k")
    room.registry.reset(session)
    by_seq, by_key = room.answered(session, 0, b"0"), room.answered(session, digest=b"0", key="k")

    assert [by_seq.replayed, by_key.replayed] == [False, False]
    assert len(room.device.jobs) == 3


def test_frames_in_flight_are_answered_all_the_same(room):
    """Those of the last episode settle under its epoch and disturb nothing in this one."""
    session = room.open()
    running, waiting = room.frame(session, 0), room.frame(session, 1)
    room.device.begin()
    room.registry.reset(session)
    steps = [room.device.finish(), room.device.finish()]
    new = room.answered(session, 0)

    assert [running.future.result(0), waiting.future.result(0)] == steps
    assert [ticket.epoch for ticket in (running, waiting, new)] == [0, 0, 1]
    assert session.state is State.IDLE


def test_a_reset_can_be_repeated(room):
    """With the epoch to be in: once is as good as twice; any other than this and the next is stale."""
    session = room.open()
    epochs = [room.registry.reset(session, epoch=epoch) for epoch in (1, 1, 2, 2)]
    room.answered(session)
    kept = (room.registry.reset(session, epoch=2), session.last_seq)
    for stale in (1, 4):
        with pytest.raises(Conflict, match="the session is in epoch 2") as caught:
            room.registry.reset(session, epoch=stale)
        assert caught.value.code == "stale-epoch"

    assert epochs == [1, 1, 2, 2]
    assert kept == (2, 0)


def test_what_has_not_begun_has_nothing_to_end(room):
    """A reset of an id that nobody knew opens it in epoch 0; the next one ends that episode."""
    epochs = [room.registry.reset_named("arm", owner="me") for _ in range(3)]

    assert epochs == [0, 1, 2]


def test_what_was_opened_has_begun(room):
    """After an explicit opening, or a frame, the first reset begins epoch 1."""
    room.open("opened")
    room.answered(room.enter("entered"))

    assert [room.registry.reset_named(name, owner="me") for name in ("opened", "entered")] == [1, 1]


def test_an_implicit_session_can_be_told_its_epoch(room):
    """0 and 1 are the ones that it can be in."""
    assert room.registry.reset_named("a", owner="me", epoch=0) == 0
    assert room.registry.reset_named("b", owner="me", epoch=1) == 1
    with pytest.raises(Conflict):
        room.registry.reset_named("c", owner="me", epoch=2)


def test_a_reset_is_a_use(room):
    """It puts the end off."""
    session = room.open()
    room.now_s += 119
    room.registry.reset(session)
    room.now_s += 119
    room.registry.sweep()

    assert session.live


def test_what_is_gone_is_not_reset(room):
    """It is told how it ended."""
    session = room.open()
    room.registry.close(session)
    with pytest.raises(Gone):
        room.registry.reset(session)

    assert session.epoch == 0
