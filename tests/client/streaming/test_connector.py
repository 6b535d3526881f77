"""What keeps a conversation going, in time that costs nothing, over connections that the test makes and breaks."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from stillframe_client import BadReply, Forbidden, NotReady, Overloaded, StaleAnswer, TimedOut, Unreachable
from stillframe_client.errors import Problem, refusal
from stillframe_client.streaming.connector import Connector, Heartbeat
from stillframe_client.streaming.incoming import Close
from stillframe_client.streaming.protocol import StreamProtocol
from stillframe_client.streaming.requests import RequestKind
from stillframe_client.streaming.websocket import Dropped

NOT_READY = refusal(Problem(503, "not-ready", "It is loading."))
FORBIDDEN = refusal(Problem(403, "forbidden", "Not from there."))
NO_ROOM = refusal(Problem(503, "overloaded", "Too many connections."))


class Dice:
    """Chance that always falls on the longest pause, and knows between what."""

    def __init__(self) -> None:
        self.thrown: list[tuple[float, float]] = []

    def uniform(self, low: float, high: float) -> float:
        """Fall."""
        self.thrown.append((low, high))
        return high


class Rig:
    """A link to a daemon in memory."""

    def __init__(self, loop: Any, daemon: Any, timeout_s: float = 9.0):
        self.loop, self.daemon, self.timeout_s = loop, daemon, timeout_s
        self.dice = Dice()
        self.talk = StreamProtocol("arm", clock=loop.time)
        self.link = Connector(self.talk, daemon.dial, timeout_s=timeout_s, clock=loop.time, rng=self.dice)  # type: ignore[arg-type] -- as much of it as is used

    async def ask(
        self, kind: RequestKind = RequestKind.FRAME, timeout_s: float | None = None, *, patient: bool = False
    ) -> Any:
        """Ask, and wait for the answer."""
        fields = {"n": 1} if kind is RequestKind.FRAME else None
        return await self.link.answer(self.talk.submit(kind, fields), timeout_s or self.timeout_s, patient=patient)


@pytest.fixture
def rig(virtual, new_memory):
    """Builds rigs on a loop of virtual time."""
    return lambda *outcomes, **options: Rig(virtual.get_loop(), new_memory(*outcomes), **options)


@pytest.mark.parametrize("since_s", [0.0, 100.0])
def test_silence(since_s):
    """After quiet_s something owed is worth one ping, after twice that the connection is dead."""
    pulse = Heartbeat(2.0)
    due = [pulse.ping_due(since_s + at_s, waiting=True) for at_s in (0.0, 1.0, 2.0, 2.25, 3.0, 4.0)]

    assert due == [False, False, False, True, False, False]
    with pytest.raises(Dropped):
        pulse.ping_due(since_s + 4.25, waiting=True)


@pytest.mark.parametrize("news", ["a message", "nothing owed"])
def test_silence_begins_anew(news):
    """With whatever comes, and where nothing is owed, the time starts again, and so does the asking."""
    pulse = Heartbeat(2.0)
    for at_s in (0.0, 3.0):
        pulse.ping_due(at_s, waiting=True)
    if news == "a message":
        pulse.on_message()
    else:
        assert not pulse.ping_due(3.5, waiting=False)

    assert [pulse.ping_due(at_s, waiting=True) for at_s in (5.0, 7.0, 7.5)] == [False, False, True]


def test_a_dead_connection_is_left_within_the_call(virtual, rig):
    """A third of a call in silence is worth a ping, another third another connection: the call is answered on that."""
    arm = rig()
    arm.daemon.mute = {"frame", "ping"}

    async def robot():
        asyncio.get_running_loop().call_later(6.0, arm.daemon.mute.clear)
        return (await arm.ask()).session.seq, arm.loop.time()

    seq, took_s = virtual.run(robot())
    first, second = arm.daemon.lines
    (ping_s,) = [at_s for at_s, message in first.heard if message["type"] == "ping"]
    assert 3.0 < ping_s <= 4.5
    assert 6.0 < took_s <= 9.0
    assert [message["type"] for _, message in second.heard] == ["open", "frame"]
    assert (seq, first.closed) == (0, True)


def test_a_daemon_that_answers_pings_is_kept(virtual, rig):
    """However long it computes: silence is counted from what came last."""
    arm = rig()
    arm.daemon.mute = {"frame"}

    async def robot():
        asyncio.get_running_loop().call_later(29.0, lambda: arm.daemon.lines[0].act())
        await arm.ask(timeout_s=30.0)

    virtual.run(robot())
    assert len(arm.daemon.lines) == 1
    pings_s = [at_s for at_s, message in arm.daemon.lines[0].heard if message["type"] == "ping"]
    assert len(pings_s) > 3
    assert all(3.0 < after - before < 6.0 for before, after in itertools.pairwise(pings_s))


def test_a_short_call_is_not_hurried(virtual, rig):
    """A second of silence is nothing, however short a call may be."""
    arm = rig(timeout_s=0.9)
    arm.daemon.mute = {"frame"}
    with pytest.raises(TimedOut):
        virtual.run(arm.ask())

    assert [message["type"] for _, message in arm.daemon.lines[0].heard] == ["open", "frame"]


def test_nothing_owed_is_no_silence(virtual, rig):
    """A robot that asks seldom keeps its connection; nothing is said over it meanwhile."""
    arm = rig()

    async def robot():
        for _ in range(3):
            await arm.ask()
            await asyncio.sleep(60.0)

    virtual.run(robot())
    assert [message["type"] for _, message in arm.daemon.lines[0].heard] == ["open", "frame", "frame", "frame"]
    assert len(arm.daemon.lines) == 1


def test_pauses_grow(virtual, rig):
    """The first try is made at once; each pause is twice the last up to a bound, less up to a half, by chance."""
    arm = rig(*[Unreachable("Nothing answers.")] * 9)
    virtual.run(arm.ask(RequestKind.OPEN, 60.0, patient=True))
    dials_s = arm.daemon.dials_s

    pauses_s = [after - before for before, after in itertools.pairwise(dials_s)]
    assert dials_s[0] == 0.0
    assert pauses_s == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])
    assert set(arm.dice.thrown) == {(0.5, 1.0)}


def test_an_answer_ends_the_pauses(virtual, rig):
    """After an action another connection is tried at once; one that was only opened is no better than the last."""
    arm = rig()
    arm.daemon.break_at = ["frame"] * 4

    async def robot():
        await arm.ask()
        arm.daemon.lines[-1].drop()
        before_s = arm.loop.time()
        await arm.ask()
        return arm.loop.time() - before_s

    assert virtual.run(robot()) == 0.0
    pauses_s = [after - before for before, after in itertools.pairwise(arm.daemon.dials_s)]
    assert pauses_s == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.0])


def test_who_comes_next_has_not_waited_yet(virtual, rig):
    """After calls that gave up the next one is tried at once."""
    arm = rig(*[NOT_READY] * 7)

    async def robot():
        with pytest.raises(TimedOut):
            await arm.ask(timeout_s=3.1)
        await asyncio.sleep(5.0)
        before_s = arm.loop.time()
        await arm.ask()
        return arm.loop.time() - before_s

    assert virtual.run(robot()) == 0.0


@pytest.mark.parametrize(
    ("reason", "kind", "patient", "met"),
    [
        (Unreachable("Nothing answers."), Unreachable, False, False),
        (FORBIDDEN, Forbidden, False, False),
        (FORBIDDEN, Forbidden, True, True),
        (BadReply("A web page."), BadReply, True, True),
        (Unreachable("Nothing answers."), None, True, False),
        (Unreachable("Nothing answers."), None, False, True),
        (NOT_READY, None, False, False),
        (NO_ROOM, None, False, False),
    ],
    ids=repr,
)
def test_what_another_try_may_mend(virtual, rig, reason, kind, patient, met):
    """Nothing there is told at once, unless a daemon was there or is awaited; so is what will not pass."""
    arm = rig(*([None] if met else []), reason)

    async def robot():
        if met:
            await arm.ask()
            arm.daemon.lines[-1].drop()
        before_s = arm.loop.time()
        if kind is None:
            await arm.ask(patient=patient)
            return True
        with pytest.raises(kind):
            await arm.ask(patient=patient)
        return arm.loop.time() == before_s

    assert virtual.run(robot())


def test_patience_is_one_calls(virtual, rig):
    """Who waits for a daemon that is still to come waits for itself alone."""
    arm = rig(*[Unreachable("Nothing answers.")] * 99)

    async def robot():
        with pytest.raises(TimedOut):
            await arm.ask(RequestKind.OPEN, 1.0, patient=True)
        with pytest.raises(Unreachable):
            await arm.ask()

    virtual.run(robot())


def test_the_last_word(virtual, rig):
    """A call that was in vain says what kept it from being made; where the session is open that is past."""
    arm = rig(*[NOT_READY] * 3)
    with pytest.raises(TimedOut, match=r"within 0\.2 s\. There is no connection\. Its last word: .*loading") as caught:
        virtual.run(arm.ask(timeout_s=0.2))
    assert isinstance(caught.value.__cause__, NotReady)

    arm.daemon.mute = {"frame"}
    with pytest.raises(TimedOut, match=r"needs a longer timeout_s\.$"):
        virtual.run(arm.ask(timeout_s=5.0))


def test_a_call_that_ended_is_not_asked_for(virtual, rig):
    """A frame whose caller went away is never sent."""
    arm = rig(*[NOT_READY] * 3)

    async def robot():
        with pytest.raises(TimedOut):
            await arm.ask(timeout_s=0.1)
        await arm.ask()
        assert not arm.talk.has_waiters

    virtual.run(robot())
    assert [message["seq"] for message in arm.daemon.frames] == [0]


def test_a_fault_of_our_own_ends_one_call(virtual, rig):
    """What nothing foresaw costs the call under way; the next one begins anew."""
    arm = rig(ZeroDivisionError("a bug"))

    async def robot():
        with pytest.raises(TimedOut):
            await arm.ask()
        return (await arm.ask()).session.seq

    assert virtual.run(robot()) == 0


@pytest.mark.parametrize("together", [1, 3])
def test_what_no_daemon_says_ends_every_call(virtual, rig, together):
    """Nothing on such a connection can be trusted; the next call has a new one, at once."""
    arm = rig()
    arm.daemon.answers["frame"] = lambda line, _: line.act(id="leg")

    async def robot():
        calls = [asyncio.ensure_future(arm.ask()) for _ in range(together)]
        await asyncio.wait(calls)
        arm.daemon.answers.clear()
        await arm.ask()
        return [type(call.exception()) for call in calls]

    assert virtual.run(robot()) == [StaleAnswer] * together
    assert [line.closed for line in arm.daemon.lines] == [True, False]


def test_how_a_connection_ended_is_told(virtual, rig):
    """An end that says that another try is of no use is told at once."""
    arm = rig()
    arm.daemon.answers["frame"] = lambda line, _: line.drop(Close(1008, "so it is"))
    with pytest.raises(Forbidden, match="so it is"):
        virtual.run(arm.ask())

    assert arm.daemon.lines[0].closed


def test_a_daemon_that_stops_is_left(virtual, rig):
    """When it owes nothing more; where no other comes that is the last word."""
    arm = rig(None, *[NOT_READY] * 99)

    async def robot():
        await arm.ask()
        arm.daemon.lines[0].say({"type": "goaway", "finish_within_s": 5})
        await asyncio.sleep(0.01)
        assert arm.daemon.lines[0].closed
        with pytest.raises(TimedOut, match="loading"):
            await arm.ask()

    virtual.run(robot())


def test_a_daemon_without_room_is_tried_again(virtual, rig):
    """An upgrade that is refused for want of room may be taken a little later."""
    arm = rig(NO_ROOM, NO_ROOM)
    virtual.run(arm.ask())

    assert len(arm.daemon.dials_s) == 3
    assert isinstance(NO_ROOM, Overloaded)


def test_close_waits_for_the_goodbye(virtual, rig):
    """It returns when the connection is closed, and nothing is begun any more."""
    arm = rig()
    arm.daemon.closing_s = 0.5

    async def robot():
        await arm.ask()
        before_s = arm.loop.time()
        await arm.link.close()
        took_s = arm.loop.time() - before_s
        arm.link._wake()
        await asyncio.sleep(0)
        return took_s, arm.daemon.lines[0].closed

    assert virtual.run(robot()) == (0.5, True)
    assert len(arm.daemon.dials_s) == 1


def test_close_has_a_bound(virtual, rig):
    """A goodbye that takes for ever is left."""
    arm = rig()
    arm.daemon.closing_s = 1e6

    async def robot():
        await arm.ask()
        before_s = arm.loop.time()
        await arm.link.close()
        return arm.loop.time() - before_s

    assert virtual.run(robot()) == pytest.approx(2.0)


def test_close_at_the_door(virtual, rig):
    """Where there is no connection there is nothing to wait for."""
    arm = rig("hang")

    async def robot():
        call = asyncio.ensure_future(arm.ask())
        await asyncio.sleep(0.5)
        await arm.link.close()
        took_s = arm.loop.time()
        call.cancel()
        return took_s

    assert virtual.run(robot()) == 0.5
