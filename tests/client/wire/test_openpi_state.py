from __future__ import annotations

import pytest

from stillframe_client.wire.openpi_state import GRIPPER, JOINTS, POSE, StateChoiceError, choose_state, state_ways

SEVEN = tuple(f"n{at}" for at in range(7))
EIGHT = (*SEVEN, "n7")
DROID = {JOINTS: 7, POSE: 6, GRIPPER: 1}


@pytest.mark.parametrize(
    ("sizes", "names", "keys"),
    [
        ({}, EIGHT, ()),
        ({GRIPPER: 1}, ("opening",), ()),
        ({"observation/state": 8, JOINTS: 7, GRIPPER: 1}, EIGHT, ("observation/state",)),
        ({"state": 3, "observation/state": 8}, SEVEN, ("observation/state",)),
        ({"state": 14}, EIGHT, ("state",)),
        ({"observation.state": 8}, EIGHT, ("observation.state",)),
        ({JOINTS: 7, GRIPPER: 1}, EIGHT, (JOINTS, GRIPPER)),
        (DROID, EIGHT, (JOINTS, GRIPPER)),
        (DROID, SEVEN[:6], (POSE,)),
        (DROID, SEVEN[:5], (JOINTS, GRIPPER)),  # none fits: the first, for the error
        ({POSE: 6}, SEVEN, (POSE,)),
        (DROID, [f"joint_{at}" for at in range(7)], (JOINTS,)),
        (DROID, ["x", "y", "z", "roll", "pitch", "yaw", "gripper"], (POSE, GRIPPER)),
        (DROID, [*(f"tool_{axis}" for axis in "abcdef"), "opening"], (POSE, GRIPPER)),
    ],
)
def test_which_keys_a_policy_reads(sizes: dict[str, int], names: tuple[str, ...], keys: tuple[str, ...]) -> None:
    """The whole state; else what has as many numbers; of two what the names speak of."""
    assert choose_state(sizes, names) == keys


@pytest.mark.parametrize("names", [SEVEN, ["joint_x", *SEVEN[1:]]])
def test_joints_are_never_taken_for_a_pose(names: list[str]) -> None:
    """Seven joints, or a pose and a gripper: names that speak of neither, or of both, do not decide."""
    with pytest.raises(StateChoiceError, match="send what is meant as 'observation/state'") as caught:
        choose_state(DROID, names)

    assert f"could be '{POSE}' and '{GRIPPER}' or '{JOINTS}'" in str(caught.value)


def test_a_gripper_is_no_state() -> None:
    """It follows joints or a pose."""
    assert state_ways([GRIPPER]) == []
    assert state_ways([POSE, JOINTS]) == [(JOINTS,), (POSE,)]


@pytest.mark.parametrize(
    ("sizes", "names"),
    [
        ({JOINTS: 7, GRIPPER: 1}, ["x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "left", "right"]),
        ({POSE: 6}, ["waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate"]),
    ],
)
def test_as_many_numbers_are_not_the_same_numbers(sizes: dict[str, int], names: list[str]) -> None:
    """Names that speak of a pose never get joints, nor the other way round."""
    with pytest.raises(StateChoiceError, match="would be taken for") as caught:
        choose_state(sizes, names)

    assert set(caught.value.keys) <= {JOINTS, POSE}
