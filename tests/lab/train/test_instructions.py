from __future__ import annotations

from stillframe_client.sim import COLOURS
from stillframe_lab.train.recipe import INSTRUCTIONS


def test_every_cube_is_reached_for_and_picked() -> None:
    """Six instructions, all different: both tasks for each colour, in the order of the labels."""
    goals = [(goal.task, goal.colour) for goal in INSTRUCTIONS]

    assert goals == [(task, colour) for task in ("reach", "pick") for colour in COLOURS]
    assert len({goal.instruction for goal in INSTRUCTIONS}) == 2 * len(COLOURS)
