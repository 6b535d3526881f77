"""A single action that comes late is not made on top of the movement that its frame did not show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stillframe_client.jaco2.bridge.player import Player

STEP_S = 0.1


def action(x_m: float, gripper: float = 1.0) -> NDArray[np.float64]:
    """An answer of one action [1, 7]."""
    return np.array([[x_m, 0, 0, 0, 0, 0, gripper]])


def played(late_s: float, count: int, x_m: float = 0.01) -> list[float]:
    """A policy that always says the same, whose answers come so late: what is played each step, along x."""
    player, moves = Player(STEP_S), []
    for number in range(count):
        observed_s = number * STEP_S
        assert player.take(action(x_m), observed_s, observed_s + late_s)
        due = player.next(observed_s + late_s)
        assert due is not None
        moves.append(float(due[0]))
    return moves


@pytest.mark.parametrize("late_s", [0.0, 0.05, 0.1])
def test_up_to_a_step_late_an_action_is_played_whole(late_s: float) -> None:
    """Its movement is still that of its own step."""
    assert played(late_s, 5) == pytest.approx([0.01] * 5)


def test_what_was_played_since_its_own_step_is_taken_off() -> None:
    """At a step and a half, half a step of the action before last is made already; it settles below the whole."""
    moves = played(0.15, 40)

    assert moves[:3] == pytest.approx([0.01, 0.01, 0.005])
    assert moves[-1] == pytest.approx(0.01 / 1.5, rel=1e-3)


def test_a_longer_delay_moves_less_in_a_step() -> None:
    """Never backwards for a policy that says the same: the later, the slower."""
    ends = [played(late_s, 60)[-1] for late_s in (0.1, 0.15, 0.2)]

    assert ends == sorted(ends, reverse=True)
    assert min(ends) > 0


def test_the_gripper_and_the_answer_stay_as_they_are() -> None:
    """Only the movement is shortened, in a copy."""
    player, late = Player(STEP_S), action(0.01, gripper=0.3)
    player.take(action(0.01), 0.0, 0.15)
    player.next(0.15)
    player.take(late, 0.1, 0.3)
    due = player.next(0.3)

    assert due is not None
    assert due[6] == 0.3
    assert due[0] < 0.01
    assert late[0, 0] == 0.01


def test_a_chunk_is_not_shortened() -> None:
    """Its actions have times of their own: those that went by are skipped."""
    player = Player(STEP_S)
    player.take(np.repeat(action(0.01), 8, axis=0), 0.0, 0.25)

    due = player.next(0.25)
    assert due is not None
    assert due[0] == 0.01
    assert player.left == 5


@given(
    late_steps=st.floats(0, 6),
    asked=st.lists(st.lists(st.floats(-0.03, 0.03), min_size=6, max_size=6), min_size=1, max_size=40),
)
def test_an_action_is_never_longer_than_was_asked_and_never_turned_round(
    late_steps: float, asked: list[list[float]]
) -> None:
    """Along each axis what is played lies between nothing and the policy's own, however late: it cannot build up."""
    player = Player(STEP_S)
    for number, movement in enumerate(asked):
        now_s = (number + late_steps) * STEP_S
        assert player.take(np.array([[*movement, 1.0]]), number * STEP_S, now_s)
        due = player.next(now_s)
        if due is not None:
            assert (np.abs(due[:6]) <= np.abs(movement)).all()
            assert (due[:6] * movement >= 0).all()
