from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2.bridge.player import Player

STEP_S = 0.1


def chunk(horizon: int, mark: int = 0) -> np.ndarray:
    """Actions [horizon, 7] that say which they are, where a gripper's number is: 100 * mark + index."""
    actions = np.zeros((horizon, 7))
    actions[:, 6] = 100 * mark + np.arange(horizon)
    return actions


# Of a chunk: how long after the one before it arrives, how old its frame is then, how many actions it has.
AFTER_S = st.floats(0, 0.04) | st.floats(0, 0.5)
AGE_S = st.just(0.0) | st.floats(0, 1)
ANSWERS = st.lists(st.tuples(AFTER_S, AGE_S, st.integers(1, 8)), min_size=1, max_size=12)


def played(answers: list[tuple[float, float, int]], look_s: float) -> list[tuple[float, int, int]]:
    """Play these, looking every `look_s`: (time, chunk, index) of each action."""
    player, given_out, now_s = Player(STEP_S), [], 100.0
    arrivals = []
    for number, (after_s, age_s, horizon) in enumerate(answers):
        now_s += after_s
        arrivals.append((now_s, now_s - age_s, number, horizon))
    end_s, now_s = now_s + 1.0, 100.0
    while now_s < end_s:
        while arrivals and arrivals[0][0] <= now_s:
            _, observed_s, number, horizon = arrivals.pop(0)
            player.take(chunk(horizon, number), observed_s, now_s)
        action = player.next(now_s)
        if action is not None:
            given_out.append((now_s, *divmod(int(action[6]), 100)))
        now_s += look_s
    return given_out


@given(answers=ANSWERS, look_s=st.floats(0.003, 0.05))
def test_no_action_is_played_twice_and_none_out_of_order(
    answers: list[tuple[float, float, int]], look_s: float
) -> None:
    """Whatever arrives when, the actions played only go on: a later one of the same chunk, or of a later one."""
    order = [(mark, index) for _, mark, index in played(answers, look_s)]

    assert order == sorted(set(order))


@given(answers=ANSWERS, look_s=st.floats(0.003, 0.05))
def test_bursts_do_not_speed_up(answers: list[tuple[float, float, int]], look_s: float) -> None:
    """Between two actions there is at least half a step, however many answers come."""
    times = [time_s for time_s, _, _ in played(answers, look_s)]

    assert all(after - before >= STEP_S / 2 - 1e-9 for before, after in itertools.pairwise(times))


def test_an_answer_each_10_ms_gives_an_action_each_half_step() -> None:
    """The fastest that answers can make it."""
    times = [time_s for time_s, _, _ in played([(0.01, 0.0, 1)] * 100, 0.001)]

    assert 20 <= len(times) <= 22


@given(age_s=st.floats(0, 2), horizon=st.integers(2, 16))
def test_what_went_by_on_the_way_is_skipped(age_s: float, horizon: int) -> None:
    """The first action of a chunk that is played is the one whose time it is; of one that is over, none."""
    player = Player(STEP_S)
    player.take(chunk(horizon), 100.0 - age_s, 100.0)
    first = math.floor((100.0 - (100.0 - age_s)) / STEP_S)

    action = player.next(100.0)

    assert player.left == max(horizon - first - 1, 0)
    assert (action is None) == (first >= horizon)
    assert action is None or action[6] == first


@given(observed_s=st.floats(99, 101), earlier_s=st.floats(0, 1))
def test_an_older_answer_is_refused(observed_s: float, earlier_s: float) -> None:
    """An answer to the same frame, or to an older one, changes nothing."""
    player = Player(STEP_S)

    assert player.take(chunk(1, 1), observed_s, 101.0)
    assert not player.take(chunk(1, 2), observed_s - earlier_s, 101.0)
    action = player.next(101.0)
    assert action is not None
    assert action[6] == 100


def test_a_single_action_is_played_however_late() -> None:
    """Whether it is too old is not for the player to say."""
    player = Player(STEP_S)
    player.take(chunk(1), 90.0, 100.0)

    assert player.next(100.0) is not None
    assert player.next(200.0) is None


def test_actions_follow_each_other_by_a_step() -> None:
    """Each is due a step after the last one was given, and the times are told; without any there is no time."""
    player = Player(STEP_S)
    assert player.due_s == math.inf
    player.take(chunk(2), 100.0, 100.0)
    assert player.due_s == 100.0

    assert player.next(100.02) is not None
    assert player.due_s == 100.02 + STEP_S
    assert player.next(100.1) is None
    assert player.next(100.13) is not None
    assert player.due_s == math.inf
