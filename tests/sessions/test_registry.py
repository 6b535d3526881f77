from __future__ import annotations

import gc
import hmac
import re
import weakref

import pytest

from stillframe.domain import KeyframeReason
from stillframe.errors import Conflict, Gone, NoSuchSession, NotReady, Overloaded
from stillframe.sessions.index import MOST_TOMBSTONES
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.session import ServiceMode
from stillframe.sessions.settings import SessionSettings
from stillframe.sessions.states import State

OURS = "s-" + "0123456789abcdef" * 2


def test_an_id_of_ours_cannot_be_guessed(room, new_room):
    """32 hexadecimal digits behind s-, another one each time and in each daemon; so is the secret."""
    sessions = [each.open() for each in (room, new_room()) for _ in range(10)]

    assert all(re.fullmatch("s-[0-9a-f]{32}", session.id) for session in sessions)
    assert len({session.id for session in sessions}) == 20
    assert len({session.secret for session in sessions}) == 20
    assert all(len(session.secret) >= 32 for session in sessions)


def test_a_secret_is_not_printed(room):
    """A session in a log line or a traceback tells nobody how to take it over."""
    session = room.open()

    assert session.secret not in repr(session)
    assert session.secret not in repr(session.info())


def test_what_was_asked_for_is_what_one_gets(room):
    """ServiceMode and mode are the opener's; lock-step and the daemon's mode where he does not say."""
    asked, plain = room.open("a", service=ServiceMode.REALTIME, mode="exact"), room.enter("b")

    assert (asked.id, asked.service, asked.mode) == ("a", ServiceMode.REALTIME, "exact")
    assert (plain.id, plain.service, plain.mode) == ("b", ServiceMode.LOCKSTEP, None)


def test_an_id_is_opened_once(room):
    """Who opens it again without its secret, or with another, is refused; it stays as it was."""
    session = room.open("arm")
    for secret in (None, "", session.secret[:-1], room.open().secret, "\ud800", "ä"):
        with pytest.raises(Conflict) as caught:
            room.open("arm", secret=secret)
        assert caught.value.code == "session-exists"

    assert room.enter("arm") is session


def test_a_secret_is_compared_in_a_time_that_tells_nothing(room, monkeypatch):
    """By the one function that is made for it, right and wrong ones alike, to the last byte."""
    compared, compare = [], hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *pair: compared.append(pair) or compare(*pair))
    session = room.open("arm")
    said = [session.secret, "", "x", session.secret[:-1], "\ud800"]

    assert [session.check_secret(secret) for secret in said] == [True, False, False, False, False]
    assert [one for one, _ in compared] == [secret.encode("utf-8", "surrogatepass") for secret in said]
    assert {kept for _, kept in compared} == {session.secret.encode()}


def test_its_secret_resumes_a_session(room):
    """It goes on as it was opened, and the caller learns that it did."""
    session = room.open("arm", service=ServiceMode.REALTIME, mode="exact")
    room.answered(session, 7)
    again, resumed = room.registry.open("arm", owner="me", secret=session.secret)

    assert resumed
    assert again is session
    assert (again.last_seq, again.service, again.mode) == (7, ServiceMode.REALTIME, "exact")


def test_a_secret_of_nobody_opens_a_new_session(room):
    """A robot that comes back too late gets a session of its own; one that begins is not resumed."""
    session, resumed = room.registry.open("arm", owner="me", secret="of last week")  # noqa: S106 (no password)

    assert not resumed
    assert not session.check_secret("of last week")


def test_another_owner_has_no_secret_to_show(room):
    """With the right secret and the wrong token a session of one's own begins; the other's stays as it was."""
    session = room.open("arm")
    other, resumed = room.registry.open("arm", owner="you", secret=session.secret)

    assert not resumed
    assert other is not session
    assert other.secret != session.secret
    assert room.registry.find("arm", owner="me") is session


def test_a_frame_opens_a_session_of_its_clients_choice(room):
    """Once; after that the id means that session."""
    assert room.enter("arm 1") is room.enter("arm 1")
    assert len(room.registry.listing("me")) == 1


@pytest.mark.parametrize("ask", ["find_or_create", "open", "find"])
def test_an_id_of_our_form_has_to_be_known(room, ask):
    """Nobody opens a session under an id that looks as if we had given it out: it is a typo, or a daemon ago."""
    with pytest.raises(NoSuchSession) as caught:
        getattr(room.registry, ask)(OURS, owner="me")

    assert caught.value.code == "unknown-session"
    assert room.registry.listing(None) == []


@pytest.mark.parametrize("name", [f"{OURS}-arm", f"arm-{OURS}", OURS.upper(), OURS[:-1], "s-"])
def test_an_id_that_is_nearly_of_our_form_may_be_chosen(room, name):
    """What we could not have given out is the client's own."""
    assert room.enter(name).id == name


def test_an_unknown_id_is_not_found(room):
    """`find` opens nothing."""
    with pytest.raises(NoSuchSession):
        room.registry.find("arm", owner="me")


def test_another_owners_session_is_unknown(room):
    """Whether it exists is not told to who may not see it; nor how it ended. An admin sees all."""
    ours, chosen = room.open(), room.open("arm")
    for ask, session in [("find", ours), ("find", chosen), ("find_or_create", ours), ("open", ours)]:
        with pytest.raises(NoSuchSession):
            getattr(room.registry, ask)(session.id, owner="you")
    room.registry.close(ours)
    with pytest.raises(NoSuchSession):
        room.registry.find(ours.id, owner="you")
    with pytest.raises(Gone):
        room.registry.find(ours.id, owner=None)

    assert room.registry.find("arm", owner=None) is chosen


def test_two_owners_have_sessions_of_one_id(room):
    """Neither hinders the other, whatever it does with its own; the device knows them apart."""
    mine, yours = room.open("arm"), room.enter("arm", owner="you")
    for session in (mine, yours, mine):
        room.answered(session)
    room.registry.reset(yours)
    room.registry.close(room.registry.find("arm", owner="you"))

    assert [job.ref.id for job in room.device.jobs] == ["me/arm", "you/arm", "me/arm"]
    assert (mine.live, mine.epoch, mine.last_seq, yours.live) == (True, 0, 1, False)
    assert room.device.forgotten == ["you/arm"]
    assert [room.registry.find("arm", owner=owner) for owner in ("me", None)] == [mine, mine]


def test_an_admin_says_whose_session_is_meant(room):
    """Where several owners have one of that id: no choice is made for him, and he is told whose there are."""
    mine, yours = room.open("arm"), room.open("arm", owner="you")
    with pytest.raises(Conflict) as caught:
        room.registry.find("arm", owner=None)

    assert caught.value.code == "session-ambiguous"
    assert "me, you" in caught.value.detail
    assert [room.registry.find("arm", owner=owner) for owner in ("me", "you")] == [mine, yours]


def test_without_tokens_an_id_is_what_the_device_knows(room):
    """All sessions have one owner then."""
    assert room.open("arm", owner="anonymous").key == "arm"


def test_a_flood_of_sessions_displaces_itself(new_room):
    """In a full room the caller with most makes room for one with fewer, whatever its leases; the robot's stays."""
    room = new_room(most=4, lease_s=60)
    robot = room.open("robot", owner="robot")
    flood = [room.open(f"f{n}", owner="flood") for n in range(3)]
    with pytest.raises(Overloaded):
        room.open("f3", owner="flood")
    second = room.open("another", owner="another")

    assert [session.live for session in (robot, *flood, second)] == [True, False, True, True, True]


def test_no_caller_takes_a_place_of_one_with_fewer(new_room):
    """Idle as it is, its lease long over: one that has more gets no more of the room that way."""
    room = new_room(most=4, lease_s=5)
    robot = room.open("robot", owner="robot")
    room.now_s += 50
    for n in range(3):
        room.open(f"f{n}", owner="flood")
    for n in range(3, 20):
        room.now_s += 6
        if room.now_s < 110:
            room.open(f"f{n}", owner="flood")

    assert robot.live
    assert len(room.registry.listing("flood")) == 3


def test_a_lease_protects_from_those_with_as_many(new_room):
    """Callers with one each: the newcomer, who has none, gets the place whose lease is over, and none before."""
    room = new_room(most=2, lease_s=5)
    first, second = (room.open("arm", owner=owner) for owner in ("a", "b"))
    with pytest.raises(Overloaded):
        room.open("arm", owner="c")
    room.now_s += 5
    room.answered(second)
    room.open("arm", owner="c")

    assert (first.live, second.live) == (False, True)


def test_who_has_two_more_makes_room(new_room):
    """Afterwards both have as many; its leases do not protect it."""
    room = new_room(most=4, lease_s=60)
    one = room.open(owner="one")
    three = [room.open(owner="three") for _ in range(3)]
    room.open(owner="one")

    assert [session.live for session in (one, *three)] == [True, False, True, True]


def test_no_caller_takes_a_place_of_one_with_as_many(new_room):
    """Of two with one each: one more of either takes its own, though the other's is idle for longer."""
    room = new_room(most=2, lease_s=5)
    other = room.open(owner="other")
    room.now_s += 1
    own = room.open(owner="me")
    room.now_s += 50
    room.open(owner="me")

    assert (other.live, own.live) == (True, False)


def test_of_callers_with_as_many_the_longest_idle_makes_room(new_room):
    """For one who has none: the last used stays."""
    room = new_room(most=4, lease_s=60)
    sessions = []
    for owner in ("a", "b", "a", "b"):
        sessions.append(room.open(owner=owner))
        room.now_s += 1
    room.answered(sessions[0])
    room.open(owner="c")

    assert [session.live for session in sessions] == [True, False, True, True]


def test_of_leases_that_are_over_the_oldest_makes_room(new_room):
    """Of callers with one each."""
    room = new_room(most=3, lease_s=5)
    sessions = []
    for owner in ("a", "b", "c"):
        sessions.append(room.open(owner=owner))
        room.now_s += 10
    room.answered(sessions[0])
    room.now_s += 10
    room.open(owner="d")

    assert [session.live for session in sessions] == [True, False, True]


def test_a_frame_opens_a_session_in_its_share(new_room):
    """As an opening does: the flood of one address leaves the places of the others."""
    room = new_room(most=3, lease_s=60)
    flood = [room.registry.find_or_create(f"f{n}", owner="anonymous", share="10.0.0.1") for n in range(3)]
    robot = room.registry.find_or_create("robot", owner="anonymous", share="10.0.0.2")

    assert (robot.share, flood[0].live) == ("10.0.0.2", False)


def test_an_admin_is_told_how_the_last_of_an_id_ended(new_room):
    """Of several owners' that are gone, the one that went last."""
    room = new_room()
    end_of(room, room.enter("arm", "me"), "expired")
    end_of(room, room.enter("arm", "you"), "closed")
    with pytest.raises(Gone) as caught:
        room.registry.find("arm", owner=None)

    assert caught.value.code == "session-closed"


def test_an_id_that_is_here_again_is_remembered_from_its_last_end(new_room):
    """What ended before it is forgotten before it."""
    room = new_room(ttl_s=100)
    room.registry.close(room.enter("arm"))
    room.registry.close(room.enter("other"))
    room.now_s += 60
    room.registry.close(room.enter("arm"))
    room.now_s += 60
    with pytest.raises(NoSuchSession):
        room.registry.find("other", owner="me")
    with pytest.raises(Gone):
        room.registry.find("arm", owner="me")


def test_a_share_is_whose_place_it_takes(new_room):
    """Without tokens all sessions have one owner, and their addresses share the places."""
    room = new_room(most=2, lease_s=60)
    for n in range(2):
        room.open(f"f{n}", owner="anonymous", share="10.0.0.1")
    robot = room.open("robot", owner="anonymous", share="10.0.0.2")
    room.answered(robot)

    assert robot.live
    assert len(room.registry.listing("anonymous")) == 2
    assert room.device.jobs[-1].ref.share == "10.0.0.2"


def test_listing_is_by_owner(room):
    """One's own; everybody's for an admin."""
    room.open("a", owner="me")
    room.open("b", owner="you")

    assert [[card.id for card in room.registry.listing(owner)] for owner in ("me", "you", None, "x")] == [
        ["a"],
        ["b"],
        ["a", "b"],
        [],
    ]


def test_a_card_tells_how_a_session_stands(room):
    """State, place, what is in flight, how old it is, since when it rests, whether the device holds something of it."""
    session = room.open("arm", mode="exact")
    room.now_s += 2
    room.frame(session, 4)
    room.now_s += 1
    busy = session.info()
    room.device.finish(kv_bytes=10)
    room.now_s += 3
    rested = session.info()

    assert (busy.state, busy.epoch, busy.seq, busy.in_flight, busy.warm) == (State.BUSY, 0, 4, 1, False)
    assert (busy.age_s, busy.idle_s, busy.mode, busy.service) == (3.0, 0.0, "exact", ServiceMode.LOCKSTEP)
    assert (rested.state, rested.in_flight, rested.age_s, rested.idle_s, rested.warm) == (State.IDLE, 0, 6.0, 3.0, True)
    new = room.open()
    assert (new.info().seq, room.answered(new).seq, new.info().seq) == (None, 0, 0)


def test_a_session_is_warm_as_its_last_answer_was(room):
    """Bytes on the device after the last answered frame, whatever failed since."""
    session = room.open()
    warm = []
    for held_bytes, error in [(0, None), (10, None), (0, ValueError()), (0, None)]:
        room.frame(session)
        room.device.finish(error, kv_bytes=held_bytes)
        warm.append(session.warm)

    assert warm == [False, True, True, False]


@pytest.mark.parametrize(("slots", "most", "expected"), [(0, None, 64), (5, None, 5), (5, 3, 3), (5, 9, 9)])
def test_there_is_room_for_as_many_as_can_be_kept(new_room, slots, most, expected):
    """The knob; else the pool's slots; else a number."""
    room = new_room(slots, most=most)
    for _ in range(expected):
        room.open()
    with pytest.raises(Overloaded) as caught:
        room.open()

    assert room.registry.capacity == expected
    assert caught.value.code == "too-many-sessions"
    assert room.tally["refused"] == 1
    assert len(room.registry.listing(None)) == expected


def test_without_a_policy_nobody_comes_in(room):
    """As many as the pool has slots can only be said once there is a pool."""

    def loading():
        raise NotReady("not-ready", "loading")

    registry = SessionRegistry(SessionSettings(), loading, lambda: 0.0, room.tally)
    with pytest.raises(NotReady):
        registry.find_or_create("arm", owner="me")

    assert registry.counts() == {"idle": 0, "busy": 0, "leaving": 0, "away": 0}


def test_the_longest_idle_makes_room(new_room):
    """Not the first that came: the one whose last use is longest ago; its KV is freed, and the end is counted."""
    room = new_room(most=3, lease_s=5)
    first, second, third = (room.open(name) for name in "abc")
    for session in (second, first, third):
        room.now_s += 1
        room.answered(session)
    room.now_s += 5
    room.open("d")

    assert [session.state for session in (first, second, third)] == [State.IDLE, State.EVICTED, State.IDLE]
    assert room.device.forgotten == ["me/b"]
    assert room.tally["evicted"] == 1


def test_a_lease_is_kept(new_room):
    """A session that was used within its lease stays; who wants in is told when the first lease ends."""
    room = new_room(most=2, lease_s=5)
    session, _ = room.open("a"), room.open("b")
    room.now_s += 4
    room.answered(session)
    with pytest.raises(Overloaded) as caught:
        room.open("c")
    room.now_s += caught.value.retry_after_s

    assert caught.value.retry_after_s == 1.0
    assert room.open("c").live
    assert session.live


def test_the_busy_never_make_room(new_room):
    """However long a frame takes, and also while its session's connection is gone."""
    room = new_room(most=2, lease_s=0)
    busy, leaving, wire = room.open("a"), room.open("b"), room.wire()
    room.registry.attach(leaving, wire)
    room.frame(leaving, connection=wire)
    room.device.begin()
    room.registry.leave(leaving, wire)
    room.frame(busy)
    room.now_s += 3000
    with pytest.raises(Overloaded) as caught:
        room.open("c")

    assert [busy.state, leaving.state] == [State.BUSY, State.LEAVING]
    assert caught.value.retry_after_s > 0


def test_one_that_is_away_makes_room(new_room):
    """A dropped connection's session is no dearer than another."""
    room = new_room(most=1, lease_s=1, resume_s=60)
    session, wire = room.open("a"), room.wire()
    room.registry.attach(session, wire)
    room.registry.leave(session, wire)
    room.now_s += 2
    room.open("b")

    assert session.state is State.EVICTED


def test_what_nobody_uses_expires(room):
    """After the time to live, on whoever's call comes next or on a sweep; a use puts it off."""
    session, used = room.open("a"), room.open("b")
    room.now_s += 119
    room.answered(used)
    room.now_s += 1
    room.registry.sweep()

    assert session.state is State.EXPIRED
    assert used.state is State.IDLE
    assert room.device.forgotten == ["me/a"]
    assert room.tally["expired"] == 1


def test_a_call_does_not_wait_for_the_sweep(room):
    """What is due has expired, whether or not anybody swept."""
    session = room.open()
    room.now_s += 120
    with pytest.raises(Gone) as caught:
        room.registry.find(session.id, owner="me")

    assert caught.value.code == "session-expired"


def test_a_step_is_no_idleness(room):
    """A frame that takes longer than a session lives does not end it; its answer is its last use."""
    session = room.open()
    room.frame(session)
    room.now_s += 500
    room.registry.sweep()
    room.device.finish()
    room.now_s += 119
    room.registry.sweep()

    assert session.state is State.IDLE


@pytest.mark.parametrize("ask", ["find_or_create", "find", "open"])
@pytest.mark.parametrize("end", ["closed", "expired", "evicted"])
def test_what_was_ours_is_gone_with_its_reason(new_room, end, ask):
    """An id of ours never comes back; for as long as a session lives its end can be told from a typo, then not."""
    room = new_room(most=1, lease_s=1)
    session = room.open()
    end_of(room, session, end)
    with pytest.raises(Gone) as caught:
        getattr(room.registry, ask)(session.id, owner="me")
    room.now_s += 120
    with pytest.raises(NoSuchSession):
        getattr(room.registry, ask)(session.id, owner="me")

    assert caught.value.code == f"session-{end}"


@pytest.mark.parametrize(
    ("end", "opening"), [("closed", "first-frame"), ("expired", "evicted"), ("evicted", "evicted")]
)
def test_a_chosen_id_is_born_again(new_room, end, opening):
    """Another session: a new serial, epoch 0, and a first frame that says whether something was lost."""
    room = new_room(most=1, lease_s=1)
    before = room.enter("arm")
    room.answered(before, 5)
    room.registry.reset(before)
    end_of(room, before, end)
    after = room.enter("arm")
    room.frame(after)
    ref = room.device.jobs[-1].ref

    assert after is not before
    assert (ref.epoch, ref.seq, ref.opening) == (0, 0, KeyframeReason(opening))
    assert ref.serial > before.serial
    assert before.first_reason is KeyframeReason.FIRST_FRAME


def test_an_id_that_somebody_else_let_go_is_new(new_room):
    """What another owner lost under it is no business of this one's."""
    room = new_room(most=1, lease_s=1)
    end_of(room, room.enter("arm", "you"), "evicted")

    assert room.enter("arm", "me").first_reason is KeyframeReason.FIRST_FRAME


def test_an_id_that_somebody_else_has_now_is_gone_to_its_first_owner(room):
    """What another owner has under it is no business of this one's."""
    room.registry.close(room.enter("arm", "me"))
    room.enter("arm", "you")
    with pytest.raises(Gone):
        room.registry.find("arm", owner="me")

    assert room.registry.listing("me") == []


def end_of(room, session, end):
    """Have a session end that way; where it takes another session, that one is closed again."""
    if end == "closed":
        room.registry.close(session)
    elif end == "expired":
        room.now_s += 120
        room.registry.sweep()
    else:
        room.now_s += 2
        room.registry.close(room.open())
    assert session.state.value == end


def test_ten_thousand_short_sessions_leave_nothing(new_room):
    """Opened, used, ended in each way: books, tombstones and the device's memory stay as small as they were."""
    room = new_room(most=8, lease_s=1)
    sizes, alive = [], weakref.WeakSet()
    for number in range(10_000):
        session = room.enter(f"arm-{number}") if number % 2 else room.open()
        alive.add(session)
        room.answered(session)
        room.now_s += 0.5
        if number % 3:
            room.registry.close(session)
        room.device.jobs.clear()
        sizes.append(room.size() + len(alive))
    for _ in range(2):  # what lives expires, then it is forgotten as well
        room.now_s += 1000
        room.registry.sweep()
    gc.collect()

    assert max(sizes) < 1000
    assert room.size() == 0
    assert set(alive) == {session}
    assert sum(room.tally[end] for end in ("closed", "expired", "evicted")) == 10_000
    assert len(room.device.forgotten) == 10_000


def test_tombstones_are_bounded(new_room):
    """However fast sessions come and go, only so many are remembered, the latest."""
    room = new_room()
    sessions = [room.open() for _ in range(1)]
    for _ in range(MOST_TOMBSTONES + 10):
        room.registry.close(sessions[-1])
        sessions.append(room.open())
    with pytest.raises(Gone):
        room.registry.find(sessions[-2].id, owner="me")
    with pytest.raises(NoSuchSession):
        room.registry.find(sessions[0].id, owner="me")

    assert room.size() < MOST_TOMBSTONES + 10


def test_what_ended_last_is_told_first(new_room):
    """An owner's own, so many of them, with how and how long ago; an admin is told of all owners'."""
    room = new_room(most=3)
    for name, owner in (("a", "me"), ("b", "you"), ("c", "me")):
        room.registry.close(room.open(name, owner))
        room.now_s += 2
    mine = room.registry.ended("me", 12)

    assert [(one.id, one.owner, one.state, one.ended_s) for one in mine] == [
        ("c", "me", State.CLOSED, 2.0),
        ("a", "me", State.CLOSED, 6.0),
    ]
    assert [one.id for one in room.registry.ended(None, 12)] == ["c", "b", "a"]
    assert [one.id for one in room.registry.ended("me", 1)] == ["c"]
    room.open("c", "me")
    assert [one.id for one in room.registry.ended("me", 12)] == ["a"]
