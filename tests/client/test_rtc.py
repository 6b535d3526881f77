"""Real-time chunking from the robot's side: the field, both wires, and a player that counts its steps."""

from __future__ import annotations

import queue

import numpy as np
import pytest

from stillframe.domain import RtcInfo
from stillframe.testing import EchoPolicy, ManualClock, policy_info
from stillframe.testing.server import running
from stillframe_client import (
    BadReply,
    ChunkPlayer,
    PolicyClient,
    PolicyError,
    PolicyStream,
    Rtc,
    RtcReport,
    SessionPlace,
    TimedOut,
    Unprocessable,
)
from stillframe_client.replies import ActionReply
from stillframe_client.rtc import rtc_field

HORIZON, TIMEOUT_S = 8, 20.0
NOTHING = RtcReport(0, 0, why="no-chunk")
ASKED = Rtc(delay_steps=1, executed_steps=4, horizon=3)
PICTURE = np.zeros((16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def url():
    """A daemon whose policy's chunks can be held."""
    info = policy_info(chunk_horizon=HORIZON, rtc=RtcInfo("flow", why=None))
    with running(EchoPolicy(info=info, actions=np.zeros((HORIZON, 7)))) as address:
        yield address


@pytest.mark.parametrize("asks", [PolicyClient, PolicyStream])
def test_both_wires(url, asks):
    """What is asked reaches the policy, and the reply says what was held; the contract says that it can be."""
    with asks(url, timeout_s=TIMEOUT_S) as policy:
        replies = [policy.act_with_report(PICTURE, "reach", rtc=rtc) for rtc in (ASKED, ASKED, None)]
        assert policy.info().rtc == "flow"

    assert [reply.rtc for reply in replies] == [
        RtcReport(frozen=0, guided=0, why="no-chunk"),
        RtcReport(frozen=1, guided=2, chunk_seq=0),
        None,
    ]


def test_a_policy_that_cannot_is_no_chunk_players():
    """Its contract says so, and a player stops at once with the daemon's reason."""
    other = EchoPolicy(info=policy_info(chunk_horizon=HORIZON, rtc=RtcInfo(why="one pass")))
    with running(other) as url, PolicyClient(url, timeout_s=TIMEOUT_S) as policy:
        assert policy.info().rtc is None
        ask = lambda rtc: policy.act_with_report(PICTURE, "reach", rtc=rtc)  # noqa: E731
        with (
            ChunkPlayer(ask, 10.0, rtc=True, max_age_s=TIMEOUT_S) as player,
            pytest.raises(Unprocessable, match="one pass"),
        ):
            player.next()


def test_the_field():
    """An Rtc or its fields; numpy's whole numbers too."""
    assert rtc_field("rtc", ASKED) == {"delay_steps": 1, "executed_steps": 4, "horizon": 3}
    assert rtc_field("rtc", {"delay_steps": np.int64(0), "executed_steps": 2, "chunk_seq": None}) == {
        "delay_steps": 0,
        "executed_steps": 2,
    }
    for bad in (3, {"delay_steps": 1}, {"delay_steps": 1, "executed_steps": 1.5}, {**rtc_field("", ASKED), "steps": 1}):
        with pytest.raises(ValueError, match="expected"):
            rtc_field("rtc", bad)


class Rig:
    """A robot of 10 Hz whose answers come when the test says so; chunk n's k-th action is [n, k]."""

    def __init__(self, **options):
        self.clock, self.asked, self.answers = ManualClock(100.0), queue.Queue(), queue.Queue()
        self.chunks = 0
        self.player = ChunkPlayer(self.ask, 10.0, clock=self.clock, rtc=True, **options)
        self.player.restart()

    def ask(self, rtc):
        """Be asked, on the player's thread."""
        self.asked.put(rtc)
        answer = self.answers.get(timeout=TIMEOUT_S)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer(self, told=NOTHING):
        """Let the chunk that was asked for come."""
        actions = np.array([[self.chunks, k] for k in range(HORIZON)], np.float64)
        place = SessionPlace("arm", 0, 10 + self.chunks)
        self.chunks += 1
        self.put(ActionReply(actions, {}, late=False, request_id=None, session=place, rtc=told))

    def put(self, answer):
        """Give an answer, or an error, and wait until the player has it."""
        before = self.player._chunk, self.player._fault, self.player._trouble
        self.answers.put(answer)
        with self.player._changed:
            now = lambda: (self.player._chunk, self.player._fault, self.player._trouble)  # noqa: E731
            assert self.player._changed.wait_for(lambda: now() != before, TIMEOUT_S)

    def play(self, steps):
        """Play so many actions, more slowly than 10 Hz: by the clock some would be skipped."""
        said = []
        for _ in range(steps):
            said.append(self.player.next().tolist())
            self.clock.now_s += 0.15
        return said

    def said(self):
        """What the next frame asks for."""
        return self.asked.get(timeout=TIMEOUT_S)


@pytest.fixture
def rig():
    """Half of a chunk of eight is played before the next is asked for."""
    made = Rig(max_age_s=TIMEOUT_S)
    yield made
    made.answers.put(PolicyError("the test is over"))
    made.player.close()


def test_steps_are_counted_and_the_next_chunk_is_taken_up_where_the_robot_is(rig):
    """The delay is what was played while the last chunks were awaited, the first aside; no step is skipped."""
    assert rig.said() == Rtc(delay_steps=0, executed_steps=0, horizon=0)  # an episode's first goes on with none
    rig.answer()
    assert rig.play(4) == [[0, k] for k in range(4)]
    assert rig.said() == Rtc(delay_steps=HORIZON // 4, executed_steps=4, chunk_seq=10)  # no delay is known yet
    assert rig.play(3) == [[0, 4], [0, 5], [0, 6]]
    rig.answer()
    assert rig.player.delay_steps == 3
    assert rig.play(1) == [[1, 3]]
    assert rig.said() == Rtc(delay_steps=3, executed_steps=4, chunk_seq=11)
    rig.answer()  # at once: the longest of the last delays still counts
    assert rig.play(4) == [[2, k] for k in range(4)]
    assert rig.said() == Rtc(delay_steps=3, executed_steps=4, chunk_seq=12)


def test_a_long_delay_has_the_next_chunk_asked_for_earlier(rig):
    """At s with s <= H - d: as many actions are left as will be played."""
    rig.said(), rig.answer(), rig.play(4)
    rig.said(), rig.play(4), rig.answer(), rig.play(1)
    assert rig.said() == Rtc(delay_steps=4, executed_steps=5, chunk_seq=11)
    rig.play(1), rig.answer()
    assert rig.player._replan_after(HORIZON) == 4
    rig.player._delay.record(6)
    assert rig.player._replan_after(HORIZON) == 2


def test_after_what_passes_the_steps_are_counted_anew(rig):
    """A frame that was refused is asked again, from where the robot is by then."""
    rig.said(), rig.answer(), rig.play(4)
    assert rig.said().executed_steps == 4
    rig.put(TimedOut("slow"))
    rig.play(1)
    assert rig.said() == Rtc(delay_steps=2, executed_steps=5, chunk_seq=10)


def test_what_does_not_say_what_it_held_stops_the_player(rig):
    """A daemon that knows no rtc, or a call that leaves it out, would be played as if chunks fitted."""
    rig.said()
    rig.answer(told=None)
    with pytest.raises(BadReply, match="Pass it on"):
        rig.player.next()
    with pytest.raises(ValueError, match="choose one of the two"):
        ChunkPlayer(rig.ask, 10.0, rtc=True, blend="linear")
