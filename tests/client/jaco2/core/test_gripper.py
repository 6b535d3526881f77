from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2.core.gripper import Gripper, is_gripper
from stillframe_client.jaco2.settings import MotionSettings


def closures(values, now=0.3, **motion):
    """What a new hand is told for each value in turn; its own closure is `now`."""
    gripper = Gripper(MotionSettings(**motion))
    told = []
    for value in values:
        now = gripper.closure(value, now)
        told.append(now)
    return told


def test_between_both_thresholds_the_hand_stays():
    """0.4 closes and 0.6 opens; what lies between changes nothing, nor does it at the start."""
    assert closures([0.5, 0.39, 0.5, 0.6, 0.61, 0.4, 0.39]) == [0.3, 1, 1, 1, 0, 0, 1]


def test_votes_in_a_row_decide():
    """Three of a kind; one that is undecided, or of the other kind, begins the count anew."""
    assert closures([0, 0, 0.5, 0, 0, 0], votes=3) == [0.3] * 5 + [1]
    assert closures([0, 0, 0, 1, 1, 0, 1, 1, 1], votes=3)[2:] == [1] * 6 + [0]


def test_a_continuous_hand_follows():
    """Within 0 to 1, and between what counts as open and closed."""
    assert closures([1, 0.25, 0, -0.05, 1.05], gripper="continuous") == [0, 0.75, 1, 1, 0]
    limited = closures([1, 0], gripper="continuous", open_percent=10, closed_percent=80)
    assert limited == pytest.approx([0.1, 0.8])


@given(st.lists(st.floats(-0.05, 1.05)), st.sampled_from(["binary", "continuous"]), st.integers(1, 10))
def test_closure_is_a_share_for_any_values(values, kind, votes):
    """Never below open or above closed."""
    told = closures(values, now=0.2, gripper=kind, votes=votes, open_percent=20, closed_percent=90)
    assert all(0.2 <= share <= 0.9 for share in told)


@pytest.mark.parametrize(("value", "can_be"), [(-1, False), (-0.06, False), (-0.05, True), (1.05, True), (1.1, False)])
def test_a_gripper_of_another_convention_shows_itself(value, can_be):
    """One of -1 to 1 is found out at its first closed hand."""
    assert is_gripper(value) is can_be
