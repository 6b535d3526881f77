from __future__ import annotations

import queue
import threading

import numpy as np
import pytest

from stillframe.testing import ManualClock
from stillframe_client import (
    BadReply,
    ChunkPlayer,
    Overloaded,
    PolicyError,
    StaleAnswer,
    Starved,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from stillframe_client.errors import Problem, refusal
from stillframe_client.replies import ActionReply

BOUND_S = 20


def overloaded():
    return refusal(Problem(503, "overloaded", "x"))


class Policy:
    """Answers when the test says so. Its n-th chunk's k-th action is [n, k]."""

    def __init__(self, horizon):
        self.horizon = horizon
        self.asked = queue.Queue()
        self.answers = queue.Queue()
        self.chunks = 0

    def __call__(self):
        """Be asked."""
        self.asked.put(None)
        answer = self.answers.get(timeout=BOUND_S)
        if isinstance(answer, Exception):
            raise answer
        return ActionReply(actions=answer, timing_ms={}, late=False, request_id=None)

    def answer(self, answer=None):
        """Wait until it is asked, and answer: with the next chunk unless told otherwise."""
        self.asked.get(timeout=BOUND_S)
        if answer is None:
            answer = np.array([[self.chunks, k] for k in range(self.horizon)], np.float64)
            self.chunks += 1
        self.answers.put(answer)

    def until_asked(self):
        """Wait until it is asked; it does not answer yet."""
        self.asked.put(self.asked.get(timeout=BOUND_S))


class Rig:
    """A robot of 10 Hz, its policy and its clock."""

    def __init__(self, horizon, **options):
        self.clock, self.policy = ManualClock(100.0), Policy(horizon)
        self.player = ChunkPlayer(self.policy, 10.0, clock=self.clock, **options)

    def begin(self):
        """Let the first chunk come, and play its first action."""
        self.player.restart()
        self.policy.answer()
        return self.step()

    def step(self):
        """Play the action of this step, and let a tenth of a second pass."""
        action = self.player.next().tolist()
        if self.player._wanted:
            self.policy.until_asked()  # as it is at once, where nobody can stop the time
        self.clock.now_s += 0.1
        return action

    def answer(self, answer=None):
        """Let the policy answer, and wait until the player has it."""
        before = self.player._chunk, self.player._trouble, self.player._fault
        self.policy.answer(answer)
        with self.player._changed:
            arrived = self.player._changed.wait_for(
                lambda: (self.player._chunk, self.player._trouble, self.player._fault) != before, BOUND_S
            )
        assert arrived


@pytest.fixture
def rig():
    """Builds rigs, and takes them down."""
    rigs = []

    def build(horizon, **options):
        rigs.append(Rig(horizon, **options))
        return rigs[-1]

    yield build
    for one in rigs:
        one.policy.answers.put(overloaded())
        one.player.close()


def test_one_chunk_after_the_other(rig):
    """Half of a chunk is played while nobody asks; then the next is asked for, and played as soon as it is there."""
    arm = rig(4)

    assert [arm.begin(), arm.step()] == [[0, 0], [0, 1]]
    arm.answer()
    assert [arm.step(), arm.step()] == [[1, 0], [1, 1]]


def test_no_sooner_than_that(rig):
    """replan_every says how much of a chunk is played before the next is asked for."""
    arm = rig(4, replan_every=3)
    arm.begin()
    arm.step()

    assert not arm.player._wanted
    arm.step()
    arm.answer()
    assert arm.step() == [1, 0]


def test_no_later_than_the_last(rig):
    """A chunk that is shorter than replan_every is played whole, and the next is asked for by then."""
    arm = rig(2, replan_every=9)

    assert [arm.begin(), arm.step()] == [[0, 0], [0, 1]]
    arm.answer()
    assert arm.step() == [1, 0]


def test_what_is_past_is_skipped(rig):
    """The old chunk goes on while the next is on its way; that begins with the action that is due by then."""
    arm = rig(6, replan_every=2)

    assert [arm.begin(), arm.step(), arm.step(), arm.step()] == [[0, 0], [0, 1], [0, 2], [0, 3]]
    arm.answer()  # asked for after two steps, there after four
    assert [arm.step(), arm.step()] == [[1, 2], [1, 3]]


def test_single_actions(rig):
    """A policy without chunks is asked at every step, and each action is played once."""
    arm = rig(1)
    played = [arm.begin()]
    for _ in range(3):
        arm.answer()
        played.append(arm.step())

    assert played == [[n, 0] for n in range(4)]


def test_a_step_that_comes_a_little_late_skips_nothing(rig):
    """The robot's own jitter costs no action."""
    arm = rig(6)
    played = [arm.begin()]
    for jitter_s in (0.04, 0.05, -0.09):
        arm.clock.now_s += jitter_s
        played.append(arm.step())

    assert played == [[0, k] for k in range(4)]


def test_a_robot_that_stood_still(rig):
    """After a pause of the robot the actions of that time are past."""
    arm = rig(10, replan_every=10)
    arm.begin()
    arm.clock.now_s += 0.4

    assert arm.step()[1] == 4


def test_the_first_chunk_is_played_from_its_beginning(rig):
    """While the robot waits for its first chunk nothing becomes past, however slow that is."""
    arm = rig(2)
    arm.player.restart()
    arm.policy.until_asked()
    arm.clock.now_s += 1.0
    arm.policy.answer()

    assert arm.step() == [0, 0]


def test_it_starves(rig):
    """With no action left it stops, and stays stopped although an answer comes: the network does not move the arm."""
    arm = rig(2)
    arm.begin()
    arm.step()
    with pytest.raises(Starved, match="ran out"):
        arm.step()
    arm.answer()

    for _ in range(2):
        with pytest.raises(Starved):
            arm.step()
    assert isinstance(arm.player.fault, Starved)


def test_restart(rig):
    """Only restart moves it again, with a new frame: what was asked before is not played."""
    arm = rig(2)
    arm.begin()
    arm.step()
    arm.policy.until_asked()
    with pytest.raises(Starved):
        arm.step()
    arm.player.restart()
    arm.policy.answer(np.full((2, 2), 666.0))  # to the question from before
    arm.policy.answer()

    assert arm.player.fault is None
    assert arm.step() == [1, 0]


@pytest.mark.parametrize(
    "failure",
    [
        TimedOut("x"),
        Unreachable("x"),
        refusal(Problem(503, "draining", "x")),
        refusal(Problem(503, "overloaded", "x")),
        refusal(Problem(429, "session-busy", "x")),
        refusal(Problem(504, "deadline-exceeded", "x")),
        refusal(Problem(409, "superseded", "x")),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_failure_that_may_pass(rig, failure):
    """While actions are left, it asks again; an answer makes good."""
    arm = rig(4, replan_every=1)
    arm.begin()
    arm.answer(failure)

    assert arm.step() == [0, 1]
    arm.answer()
    assert arm.step() == [1, 0]


def test_a_failure_that_has_passed(rig):
    """What kept an earlier chunk from coming is not why this one ran out."""
    arm = rig(4, replan_every=1)
    arm.begin()
    arm.answer(overloaded())
    arm.step()
    arm.answer()

    assert arm.step() == [1, 0]
    arm.clock.now_s += 1.0
    with pytest.raises(Starved):
        arm.step()


def test_the_first_fault_is_the_fault(rig):
    """What goes wrong once it has stopped is not why it stopped."""
    arm = rig(1)
    arm.begin()
    with pytest.raises(Starved):
        arm.step()
    arm.policy.answer(ZeroDivisionError("the camera's own"))
    with arm.player._changed:
        assert arm.player._changed.wait_for(lambda: not arm.player._wanted, BOUND_S)

    with pytest.raises(Starved):
        arm.step()


def test_a_failure_that_does_not_pass(rig):
    """With the last action gone, the reason is what is raised."""
    arm = rig(3, replan_every=1)
    arm.begin()
    for _ in range(2):
        arm.answer(overloaded())
        arm.step()
    with pytest.raises(Overloaded):
        arm.step()


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (refusal(Problem(401, "unauthorized", "x")), Unauthorized),
        (StaleAnswer("x"), StaleAnswer),
        (ZeroDivisionError("the camera's own"), ZeroDivisionError),
    ],
    ids=["refused", "stale", "camera"],
)
def test_a_fault(rig, failure, kind):
    """What asking again does not mend stops the arm at once, actions or not."""
    arm = rig(9, replan_every=1)
    arm.begin()
    arm.answer(failure)

    for _ in range(2):
        with pytest.raises(kind):
            arm.step()


def test_a_first_frame_that_fails(rig):
    """Where there was never an action, whatever went wrong is told at once."""
    arm = rig(4)
    arm.player.restart()
    arm.policy.answer(overloaded())

    with pytest.raises(Overloaded):
        arm.step()


@pytest.mark.parametrize(
    "actions",
    [[[0.0, np.nan]], [[0.0, np.inf]], np.empty((0, 2)), np.empty((2, 0)), [0.0, 0.0]],
    ids=["nan", "infinity", "no action", "no numbers", "no rows"],
)
def test_what_is_no_chunk(rig, actions):
    """It is never played, whoever returned it."""
    arm = rig(4, replan_every=1)
    arm.begin()
    arm.answer(np.asarray(actions, np.float64))

    with pytest.raises(BadReply):
        arm.step()


def test_an_answer_that_came_too_late(rig):
    """A frame older than max_age_s is no ground to move on."""
    arm = rig(99, replan_every=1, max_age_s=1.0)
    arm.begin()
    arm.clock.now_s += 0.95
    arm.answer()

    with pytest.raises(StaleAnswer, match="after its frame"):
        arm.step()


def test_actions_that_got_too_old(rig):
    """A long chunk is not played to its end where no newer one comes."""
    arm = rig(99, max_age_s=1.0)
    arm.begin()
    for _ in range(9):
        arm.step()
    arm.clock.now_s += 0.05

    with pytest.raises(StaleAnswer, match="behind this action"):
        arm.step()


def test_a_frame_may_be_as_old_as_it_may_be(rig):
    """The bound itself is no fault; what lies behind it is."""
    arm = rig(99, max_age_s=1.0)
    arm.begin()
    arm.clock.now_s = 101.0

    assert arm.player.next()[0] == 0.0
    arm.clock.now_s += 0.001
    with pytest.raises(StaleAnswer):
        arm.player.next()


def test_a_long_chunk_is_renewed_in_time(rig):
    """The default asks before the frame is half as old as it may be."""
    arm = rig(99, max_age_s=1.0)
    arm.begin()
    for _ in range(4):
        arm.step()

    arm.answer()
    assert arm.step() == [1, 0]


def test_the_cold_first_answer_is_not_timed(rig):
    """A policy that had to warm up does not make the player think that it is slow; how slow it is comes later."""
    arm = rig(8, max_age_s=10.0)
    arm.player.restart()
    arm.policy.until_asked()
    arm.clock.now_s += 5.0
    arm.policy.answer()
    played = [arm.step() for _ in range(3)]

    assert arm.player.latency_s is None
    assert not arm.player._wanted
    played.append(arm.step())  # half of the chunk
    arm.answer()
    assert played == [[0, k] for k in range(4)]
    assert arm.player.latency_s == pytest.approx(0.1)


def test_where_answers_are_slow_it_asks_sooner(rig):
    """In time for the slowest of the last answers to come before the chunk runs out."""
    arm = rig(12)
    arm.begin()
    for _ in range(10):
        arm.step()
    arm.answer()  # 0.6 s after its frame, which was taken when half of the chunk was left

    assert arm.player.latency_s == pytest.approx(0.6)
    assert arm.step() == [1, 5]
    arm.answer()
    played = [arm.step() for _ in range(4)]
    assert not arm.player._wanted
    played.append(arm.step())
    assert arm.player._wanted
    assert played == [[2, k] for k in range(5)]


@pytest.mark.parametrize("blend", ["none", "linear", "adaptive"])
def test_a_chunk_that_is_over_as_it_comes(rig, blend):
    """Where the time of all its actions went by, it starves, and stays so until it is restarted."""
    arm = rig(4, replan_every=1, blend=blend)
    arm.begin()
    arm.clock.now_s += 1.0
    arm.answer()

    for _ in range(2):
        with pytest.raises(Starved, match="ran out"):
            arm.step()
    arm.player.restart()
    arm.policy.answer()
    assert arm.step() == [2, 0]


def test_overlaps_are_blended(rig):
    """What was planned and what is said now, of the same steps: from one to the other."""
    arm = rig(6, replan_every=2, blend="linear")
    arm.begin()
    arm.step()
    arm.answer()

    shares = [k / 5 for k in range(1, 5)]
    expected = [[share, (1 - share) * (2 + k) + share * k] for k, share in enumerate(shares)]
    np.testing.assert_allclose([arm.player.next() for _ in range(6)], [*expected, [1, 4], [1, 5]], atol=1e-12)


def test_nothing_is_blended_across_a_restart(rig):
    """What was planned before is gone."""
    arm = rig(4, replan_every=4, blend="linear")
    arm.begin()
    arm.player.restart()
    arm.policy.answer()

    assert arm.step() == [1, 0]


def test_actions_of_another_length(rig):
    """Once it has moved by two numbers, three are no next action."""
    arm = rig(4, replan_every=1)
    arm.begin()
    arm.answer(np.zeros((4, 3)))

    with pytest.raises(BadReply, match="An action has 3 numbers; those before it had 2"):
        arm.step()


def test_how_long_it_can_go_on(rig):
    """What is left to play, in seconds: nothing before the first chunk."""
    arm = rig(4, replan_every=4)
    before = arm.player.slack_s
    arm.begin()

    assert before == 0.0
    assert arm.player.slack_s == pytest.approx(0.3)


def test_no_first_chunk():
    """To wait for the first chunk has a bound."""
    asked = threading.Event()
    player = ChunkPlayer(lambda: asked.wait(BOUND_S) and None, 10.0, max_age_s=0.05)
    with pytest.raises(Starved, match="No chunk came"):
        player.next()
    asked.set()
    player.close()


def test_at_the_robots_rate(rig, monkeypatch):
    """Iteration paces itself: it waits for what is left of a step, and a step that took too long is not made up for."""
    arm = rig(10, replan_every=10)
    arm.player.restart()
    arm.policy.answer()
    really = arm.player._changed.wait_for
    waits = []

    def wait_for(predicate, timeout=None):
        if timeout is None or timeout > 0.1:
            return really(predicate, timeout)
        waits.append(round(timeout, 6))
        arm.clock.now_s += timeout
        return predicate()

    monkeypatch.setattr(arm.player._changed, "wait_for", wait_for)
    took_s = {0: 0.03, 1: 0.0, 2: 0.15, 3: 0.02}
    played = []
    for n, action in zip(range(5), arm.player, strict=False):
        played.append(action[1])
        arm.clock.now_s += took_s.get(n, 0.0)

    assert waits == [0.07, 0.1, 0.0, 0.08]
    assert played == [0, 1, 2, 3, 4]


def test_closed(rig):
    """A closed player gives no action, and cannot be restarted."""
    arm = rig(4)
    arm.begin()
    arm.player.close()

    with pytest.raises(PolicyError, match="closed"):
        arm.step()
    with pytest.raises(PolicyError, match="closed"):
        arm.player.restart()


def test_close_leaves_nothing_behind(rig):
    """Its thread ends with it; what stopped it before is still what is told."""
    arm = rig(2, replan_every=1)
    arm.begin()
    arm.answer(ZeroDivisionError("the camera's own"))
    arm.player.close()

    assert not arm.player._thread.is_alive()
    assert isinstance(arm.player.fault, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        arm.player.next()


@pytest.mark.parametrize(
    "wrong", [{"hz": 0}, {"hz": float("inf")}, {"max_age_s": None}, {"replan_every": 0}, {"blend": "cubic"}], ids=str
)
def test_wrong_arguments(wrong):
    """Rates, ages and steps are above zero and finite."""
    with pytest.raises(ValueError, match="expected"):
        ChunkPlayer(lambda: None, **{"hz": 10.0, **wrong})
