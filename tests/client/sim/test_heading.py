from __future__ import annotations

from dataclasses import replace

import numpy as np

from stillframe_client.sim import SceneState
from stillframe_client.sim.heading import COMMITTED_STEPS, Heading

START = SceneState(
    tool_pos=np.array([0.38, 0.0, 0.28]),
    laser_pos=np.array([0.38, 0.0, 0.0]),
    tool_turn=np.zeros(3),
    finger_angle=0.25,
    finger_command=0.25,
    cube_pos={
        "red": np.array([0.40, -0.16, 0.024]),
        "green": np.array([0.38, -0.02, 0.024]),
        "blue": np.array([0.45, 0.16, 0.024]),
    },
    cube_yaw=dict.fromkeys(("red", "green", "blue"), 0.0),
    hz=10,
)


def after(*by: float) -> SceneState:
    """The start with the tool elsewhere."""
    return replace(START, tool_pos=START.tool_pos + np.array(by))


def test_it_is_the_cube_approached_most_and_not_the_nearest() -> None:
    """Two centimetres towards blue, with green still the nearest."""
    heading = Heading(START)
    for step in range(COMMITTED_STEPS):
        heading.follow(after(0.0, 0.004 * (step + 1), 0.0))

    assert heading.colour == "blue"


def test_it_is_known_after_five_steps_and_then_kept() -> None:
    """What comes later does not change what was done first."""
    heading, told = Heading(START), []
    for step in range(12):
        heading.follow(after(0.0, -0.1 if step < COMMITTED_STEPS else 0.1, 0.0))
        told.append(heading.colour)

    assert told == [None] * 4 + ["red"] * 8


def test_going_down_says_nothing() -> None:
    """Height counts for no cube: sideways decides, however little."""
    heading = Heading(START)
    for _ in range(COMMITTED_STEPS):
        heading.follow(after(0.0, 0.005, -0.15))

    assert heading.colour == "blue"
