from __future__ import annotations

import gc
import weakref
from concurrent.futures import Future, wait
from dataclasses import FrozenInstanceError

import pytest

from stillframe.domain import KeyframeReason, SessionRef
from stillframe.errors import Conflict, DeadlineExceeded, Gone, NotReady, Overloaded, RequestError, TooMany
from stillframe.sessions.pending import FramePosition
from stillframe.sessions.states import State

LATE = DeadlineExceeded("deadline-exceeded", "too old")


def refused(kind, room, session, *args, **said):
    """The refusal of a frame: of this kind; nothing reached the device."""
    before = len(room.device.jobs)
    with pytest.raises(kind) as caught:
        room.frame(session, *args, **said)
    assert len(room.device.jobs) == before
    return caught.value


def test_frames_are_counted_for_who_does_not_count(room):
    """Without a seq each is the next; what the client says he may go on from."""
    session = room.open()
    tickets = [room.answered(session) for _ in range(3)]
    tickets += [room.answered(session, 10), room.answered(session)]

    assert [ticket.seq for ticket in tickets] == [0, 1, 2, 10, 11]
    assert [job.ref.seq for job in room.device.jobs] == [0, 1, 2, 10, 11]


def test_the_device_is_told_the_frames_place(room):
    """Id, epoch, seq, serial, why a first frame is whole, and the frame's mode, or else the session's."""
    session = room.open("arm", mode="exact")
    room.registry.reset(session)
    room.answered(session, 3)
    room.answered(session, 4, mode="off")

    assert [job.ref for job in room.device.jobs] == [
        SessionRef("me/arm", 1, 3, "exact", session.serial, KeyframeReason.FIRST_FRAME, "me"),
        SessionRef("me/arm", 1, 4, "off", session.serial, KeyframeReason.FIRST_FRAME, "me"),
    ]


def test_an_answer_comes_back(room):
    """The ticket's future holds the policy's step."""
    ticket = room.frame(room.open())
    step = room.device.finish()

    assert ticket.future.result(0) is step
    assert not ticket.replayed


@pytest.mark.parametrize("error", [LATE, ValueError("unforeseen")])
def test_a_failure_comes_back(room, error):
    """Whatever the policy's future holds; the session goes on."""
    session = room.open()
    ticket = room.frame(session)
    room.device.finish(error)

    assert ticket.future.exception(0) is error
    assert session.state is State.IDLE


def test_a_frame_that_the_policy_drops_is_told_so(room):
    """A future cancelled by a policy that stops is no answer: the asker hears that the daemon is leaving."""
    ticket = room.frame(room.open())
    room.device.jobs[0].answer.cancel()

    assert ticket.future.exception(0).code == "draining"
    assert isinstance(ticket.future.exception(0), NotReady)


def test_what_the_policy_refuses_has_not_been(room):
    """A full queue leaves the session as it was: the same frame may come again."""
    session = room.open()
    room.device.refusal = Overloaded("overloaded", "full")
    refused(Overloaded, room, session, 3, b"three")
    state, room.device.refusal = session.state, None

    assert (state, session.in_flight, session.last_seq) == (State.IDLE, [], -1)
    assert room.answered(session, 3, b"three").seq == 3


def test_a_future_that_failed_before_it_was_handed_over_is_an_answer(room, monkeypatch):
    """A full engine returns a failed future instead of raising: its error is told, and the frame may come again."""
    session, full = room.open(), Overloaded("overloaded", "full")
    failed = Future()
    failed.set_exception(full)
    with monkeypatch.context() as patched:
        patched.setattr(room.device, "submit", lambda *_: failed)
        ticket = room.frame(session, 3, b"three")

    assert ticket.future.exception(0) is full
    assert (session.state, session.in_flight) == (State.IDLE, [])
    assert room.answered(session, 3, b"three").seq == 3


def test_a_repeat_gets_the_same_answer(room):
    """Nothing is computed again; the ticket says so, and it is counted."""
    session = room.open()
    first = room.answered(session, 5, b"five")
    again = room.frame(session, 5, b"five")

    assert again.future.result(0) is first.future.result(0)
    assert (again.seq, again.epoch, again.replayed) == (5, 0, True)
    assert len(room.device.jobs) == 1
    assert room.tally["replayed"] == 1


def test_a_repeat_waits_with_the_first(room):
    """Also when its frame is still in line, or on the device; all are answered at once."""
    session = room.open()
    tickets = [room.frame(session, 5, b"five"), room.frame(session, 5, b"five")]
    room.device.begin()
    tickets.append(room.frame(session, 5, b"five"))
    step = room.device.finish()

    assert [ticket.future.result(0) for ticket in tickets] == [step] * 3
    assert [ticket.replayed for ticket in tickets] == [False, True, True]
    assert len(room.device.jobs) == 1


def test_each_asker_has_a_future_of_his_own(room):
    """One who gives up takes nothing away from the others."""
    session = room.open()
    first, again = room.frame(session, 5, b"five"), room.frame(session, 5, b"five")
    first.give_up()
    step = room.device.finish()

    assert first.future.cancelled()
    assert again.future.result(0) is step


def test_the_last_answers_are_kept(new_room):
    """As many as the knob says; an older one's repeat is stale."""
    room = new_room(replies=3)
    session = room.open()
    for seq in range(5):
        room.answered(session, seq, b"%d" % seq)
    kept = [room.frame(session, seq, b"%d" % seq).replayed for seq in (2, 3, 4)]

    assert kept == [True] * 3
    assert len(session.replies) == 3
    assert refused(Conflict, room, session, 1, b"1").code == "stale-seq"


def test_a_number_counts_once(new_room):
    """Whether or not its answer is kept: the same seq again, without a repeat to claim, is stale."""
    room = new_room(replies=0)
    session = room.open()
    room.answered(session, 0, b"0")

    assert refused(Conflict, room, session, 0, b"0").code == "stale-seq"
    assert room.answered(session, 1, b"1").seq == 1


def test_what_is_under_way_is_always_kept(new_room):
    """Even where no answers are: a repeat waits with it, rather than being computed twice."""
    room = new_room(replies=0, waiting=2)
    session = room.open()
    tickets = [room.frame(session, seq, b"%d" % seq) for seq in (0, 1, 2, 0, 1, 2)]
    kept = len(session.replies)
    for _ in range(3):
        room.device.finish()

    assert kept == 3
    assert [ticket.replayed for ticket in tickets] == [False] * 3 + [True] * 3
    assert len(session.replies) == 0


def test_an_old_number_is_stale(room):
    """Lower than the last, never seen: the refusal names the last."""
    session = room.open()
    room.answered(session, 10)
    error = refused(Conflict, room, session, 9)

    assert error.code == "stale-seq"
    assert "frame 10" in error.detail
    assert session.last_seq == 10


def test_a_number_means_one_frame(room):
    """The same seq with other contents is refused, however the first one ended."""
    session = room.open()
    room.answered(session, 1, b"one")
    room.frame(session, 2, b"two")
    codes = [refused(Conflict, room, session, seq, b"other").code for seq in (1, 2)]
    room.device.finish(LATE)

    assert codes == ["seq-conflict"] * 2
    assert refused(Conflict, room, session, 2, b"other").code == "seq-conflict"


def test_numbers_end(room):
    """The highest that the wire can carry is taken; to count on from it is refused, not wrapped round."""
    session = room.open()
    room.answered(session, 2**64 - 1)

    assert refused(Conflict, room, session).code == "stale-seq"
    assert refused(Conflict, room, session, 2**64).code == "stale-seq"


def test_a_key_stands_in_for_a_number(room):
    """The same key and contents are a repeat, other contents a conflict, another key another frame."""
    session = room.open()
    first = room.answered(session, digest=b"a", key="k1")
    again = room.frame(session, digest=b"a", key="k1")
    other = room.answered(session, digest=b"a", key="k2")

    assert (first.seq, again.seq, other.seq) == (0, 0, 1)
    assert (again.replayed, other.replayed) == (True, False)
    assert refused(Conflict, room, session, digest=b"b", key="k1").code == "seq-conflict"


def test_a_number_comes_before_a_key(room):
    """Who sends both means the number."""
    session = room.open()
    room.answered(session, 3, b"a", key="k")
    new = room.answered(session, 4, b"b", key="k")

    assert (new.seq, new.replayed) == (4, False)


@pytest.mark.parametrize("how", ["failed", "given up", "dropped"])
def test_a_frame_without_an_answer_may_come_again(room, how):
    """Equal to the byte, it is computed: nothing of it was kept that could be said again."""
    session = room.open()
    first = room.frame(session, 5, b"five")
    if how == "failed":
        room.device.finish(LATE)
    elif how == "given up":
        first.give_up()
    else:
        room.device.jobs[0].answer.cancel()
    again = room.frame(session, 5, b"five")
    step = room.device.finish()

    assert again.future.result(0) is step
    assert (again.seq, again.replayed, session.last_seq) == (5, False, 5)
    assert room.frame(session, 5, b"five").replayed


def test_a_failed_frame_may_come_again_after_newer_ones(room):
    """In lock-step every frame gets its answer; the count goes on from the highest."""
    session = room.open()
    room.frame(session, 5, b"five")
    room.device.finish(LATE)
    room.answered(session, 6)
    again = room.answered(session, 5, b"five")

    assert (again.seq, again.future.done()) == (5, True)
    assert room.answered(session).seq == 7


def test_an_error_holds_on_to_nothing(room):
    """A failed frame's exception, with its traceback and all pictures in it, does not stay with the session."""
    session = room.open()
    ticket = room.frame(session)
    error = Overloaded("out-of-memory", "with a long story")
    room.device.finish(error)
    story = weakref.ref(error)
    room.device.jobs.clear()
    del ticket, error
    gc.collect()

    assert story() is None
    assert len(session.replies) == 1


def test_who_gives_up_frees_the_place(room):
    """A frame that waits and that nobody waits for is taken back from the device."""
    session = room.open()
    running, waiting = room.frame(session), room.frame(session)
    room.device.begin()
    waiting.give_up()
    waiting.give_up()

    assert room.device.jobs[1].answer.cancelled()
    assert session.in_flight[0].seq == running.seq
    assert len(session.in_flight) == 1
    assert room.frame(session).seq == 2


def test_who_gave_up_is_done(room):
    """Also for those who wait for several futures at once."""
    ticket = room.frame(room.open())
    ticket.give_up()

    assert wait([ticket.future], timeout=0).done == {ticket.future}


def test_one_who_gives_up_as_the_answer_comes_costs_the_others_nothing(room):
    """Two wait behind the one whose news makes the next give up: the last is answered all the same."""
    session = room.open()
    tickets = [room.frame(session, 5, b"five") for _ in range(3)]
    tickets[0].future.add_done_callback(lambda _: tickets[1].give_up())
    step = room.device.finish()

    assert tickets[1].future.cancelled()
    assert [tickets[at].future.result(0) for at in (0, 2)] == [step, step]
    assert session.state is State.IDLE


def test_a_frame_under_way_goes_on(room):
    """Giving it up does not stop the device; the answer is kept for a repeat."""
    session = room.open()
    ticket = room.frame(session, 5, b"five")
    room.device.begin()
    ticket.give_up()
    step = room.device.finish()

    assert room.frame(session, 5, b"five").future.result(0) is step
    assert session.state is State.IDLE


def test_giving_up_after_the_answer_changes_nothing(room):
    """The answer stays."""
    ticket = room.answered(room.open())
    ticket.give_up()

    assert not ticket.future.cancelled()


@pytest.mark.parametrize("waiting", [0, 1, 3])
def test_a_session_has_so_many_frames_under_way(new_room, waiting):
    """One that is computed and those that may wait; the next is refused, with a time to wait, until one is answered."""
    room = new_room(waiting=waiting)
    session = room.open()
    for _ in range(1 + waiting):
        room.frame(session)
    error = refused(TooMany, room, session)
    room.device.finish()

    assert error.code == "session-busy"
    assert error.retry_after_s > 0
    assert room.frame(session).seq == 1 + waiting


def test_a_busy_session_answers_repeats(room):
    """They need no place."""
    session = room.open()
    room.frame(session, 0, b"0")
    room.frame(session, 1, b"1")

    assert room.frame(session, 0, b"0").replayed


def test_another_epochs_frame_is_stale(room):
    """Before and after this one alike; the refusal names the epoch that it is."""
    session = room.open()
    for _ in range(2):
        room.registry.reset(session)
    errors = [refused(Conflict, room, session, epoch=epoch) for epoch in (0, 1, 3)]

    assert [error.code for error in errors] == ["stale-epoch"] * 3
    assert all("the session is in epoch 2" in error.detail for error in errors)
    assert room.frame(session, epoch=2).epoch == 2


def test_the_rules_have_an_order(room):
    """Of several faults the first is told: connection, epoch, contents, number, place."""
    session, wire = room.open(), room.wire()
    for seq in (1, 2):
        room.frame(session, seq, b"%d" % seq)
    codes = [refused(RequestError, room, session).code]
    codes.append(refused(RequestError, room, session, 0).code)
    codes.append(refused(RequestError, room, session, 2, b"other").code)
    codes.append(refused(RequestError, room, session, 2, b"other", epoch=7).code)
    room.registry.attach(session, wire)
    codes.append(refused(RequestError, room, session, 2, b"other", epoch=7).code)
    room.registry.close(session)
    codes.append(refused(RequestError, room, session, 2, b"other", epoch=7).code)

    assert codes == ["session-busy", "stale-seq", "seq-conflict", "stale-epoch", "session-in-use", "session-closed"]


def test_a_closed_session_answers_what_is_computed(room):
    """What waits is told that the session is gone; what is on the device is answered; nobody waits for ever."""
    session = room.open()
    running, waiting = room.frame(session), room.frame(session)
    room.device.begin()
    room.registry.close(session)
    told = waiting.future.exception(0)
    step = room.device.finish()

    assert isinstance(told, Gone)
    assert told.code == "session-closed"
    assert running.future.result(0) is step
    assert session.state is State.CLOSED
    assert len(session.replies) == 0
    assert refused(Gone, room, session).code == "session-closed"


def test_a_session_ends_once(room):
    """Closing what has ended leaves it as it is: forgotten once, counted once, by its first end."""
    session, other = room.open("a"), room.open("b")
    room.registry.close(session)
    room.registry.close(session)
    room.now_s += 120
    room.registry.sweep()
    room.registry.close(other)

    assert room.device.forgotten == ["me/a", "me/b"]
    assert (session.state, other.state) == (State.CLOSED, State.EXPIRED)
    assert dict(room.tally) == {"closed": 1, "expired": 1}


def test_a_late_answer_leaves_the_next_session_alone(room):
    """A frame of a closed session settles while its id is another's already, and both keep their states."""
    before = room.enter("arm")
    late = room.frame(before)
    room.device.begin()
    room.registry.close(before)
    after = room.enter("arm")
    step = room.device.finish()
    room.now_s += 120
    room.registry.sweep()

    assert late.future.result(0) is step
    assert (before.state, after.state) == (State.CLOSED, State.EXPIRED)
    assert room.device.forgotten == ["me/arm", "me/arm"]


def test_a_ticket_and_a_place_are_values():
    """Nobody changes what a frame said."""
    with pytest.raises(FrozenInstanceError):
        FramePosition().seq = 1
