from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stillframe_client.sim import Goal, SceneState
from stillframe_client.sim.tasks import Referee, Verdict

START = SceneState(
    tool_pos=np.array([0.38, 0.0, 0.28]),
    laser_pos=np.array([0.38, 0.0, 0.0]),
    tool_turn=np.zeros(3),
    finger_angle=0.25,
    finger_command=0.25,
    cube_pos={
        "red": np.array([0.40, -0.16, 0.024]),
        "green": np.array([0.42, 0.0, 0.024]),
        "blue": np.array([0.45, 0.16, 0.024]),
    },
    cube_yaw=dict.fromkeys(("red", "green", "blue"), 0.0),
    hz=10,
)
RIGHT = Verdict(success=True, wrong_object=False)
WRONG = Verdict(success=False, wrong_object=True)
NEITHER = Verdict(success=False, wrong_object=False)


def moved(colour: str, *by: float) -> SceneState:
    """The start with one cube somewhere else."""
    return replace(START, cube_pos={**START.cube_pos, colour: START.cube_pos[colour] + np.array(by)})


def above(colour: str, height_m: float) -> SceneState:
    """The start with the tool over a cube."""
    return replace(START, tool_pos=np.array([*START.cube_pos[colour][:2], height_m]))


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        (Goal("reach", "red"), "reach the red cube"),
        (Goal("pick", "green"), "pick up the green cube"),
        (Goal("push", "blue", "left"), "push the blue cube to the left"),
        (Goal("remember", "red"), "reach the cube shown by the lamp"),
        (Goal("remember", "red", then="blue"), "reach the first cube shown by the lamp then the second"),
    ],
)
def test_goals_read_as_instructions(goal: Goal, words: str) -> None:
    """The words a policy gets are fixed: policies are trained on them."""
    assert goal.instruction == words


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        (("grab", "red"), "unknown task 'grab'"),
        (("pick", "pink"), "unknown colour 'pink'"),
        (("push", "red"), "unknown direction None"),
        (("pick", "red", "left"), "a pick has no direction"),
        (("remember", "red", "left"), "a remember has no direction"),
        (("reach", "red", None, "blue"), "a reach has no second cube, found 'blue'"),
        (("remember", "red", None, "red"), "unknown second colour 'red'; expected one of green, blue"),
    ],
)
def test_a_goal_that_makes_no_sense_is_refused(parts: tuple[str, ...], named: str) -> None:
    """The error names the word at fault."""
    with pytest.raises(ValueError, match=named):
        Goal(*parts)


def test_a_reach_needs_two_tenths_of_a_second() -> None:
    """Two consecutive steps above the cube at 10 Hz, counted anew after leaving."""
    referee = Referee(Goal("reach", "red"), START)
    path = [above("red", 0.10), START, above("red", 0.10), above("red", 0.11)]

    assert [referee.judge(state) for state in path] == [NEITHER, NEITHER, NEITHER, RIGHT]


def test_a_reach_too_high_does_not_count() -> None:
    """Above 12 cm the tool may stay as long as it likes."""
    referee = Referee(Goal("reach", "red"), START)

    assert [referee.judge(above("red", 0.125)) for _ in range(5)] == [NEITHER] * 5


def test_hovering_over_another_cube_is_wrong() -> None:
    """The wrong cube is judged by the same rule."""
    referee = Referee(Goal("reach", "red"), START)

    assert [referee.judge(above("blue", 0.10)) for _ in range(2)] == [NEITHER, WRONG]


def test_beginning_over_another_cube_is_excused_once() -> None:
    """A start above the wrong cube is nobody's mistake; coming back to it is."""
    referee = Referee(Goal("reach", "red"), above("blue", 0.10))
    path = [above("blue", 0.10)] * 3 + [START] + [above("blue", 0.10)] * 2

    assert [referee.judge(state) for state in path] == [NEITHER] * 5 + [WRONG]


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (moved("red", 0, 0, 0.07), NEITHER),
        (moved("red", 0, 0, 0.08), RIGHT),
        (moved("blue", 0, 0, 0.03), NEITHER),
        (moved("blue", 0, 0, 0.04), WRONG),
    ],
)
def test_a_pick_is_judged_by_height(state: SceneState, verdict: Verdict) -> None:
    """The right cube above 10 cm succeeds, another above 6 cm is wrong."""
    assert Referee(Goal("pick", "red"), START).judge(state) == verdict


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (moved("red", 0, -0.09, 0), RIGHT),
        (moved("red", 0, 0.09, 0), NEITHER),
        (moved("red", 0.09, 0, 0), NEITHER),
        (moved("blue", 0.06, 0.06, 0), WRONG),
    ],
)
def test_a_push_is_judged_by_its_way(state: SceneState, verdict: Verdict) -> None:
    """Eight centimetres the right way succeed; the wrong cube must not go that far any way."""
    assert Referee(Goal("push", "red", "left"), START).judge(state) == verdict


def test_two_cubes_are_reached_in_order() -> None:
    """Success is the second after the first; the first, once left, is as wrong as any other."""
    referee = Referee(Goal("remember", "red", then="blue"), START)
    path = [above("red", 0.10)] * 4 + [START] + [above("blue", 0.10)] * 2
    verdicts, due = [], []
    for state in path:
        verdicts.append(referee.judge(state))
        due.append(referee.stage.colour)

    assert verdicts == [NEITHER] * 6 + [RIGHT]
    assert due == ["red"] + ["blue"] * 6
    assert referee.reached == 2


@pytest.mark.parametrize(
    "path",
    [
        [above("blue", 0.10)] * 2,
        [*[above("red", 0.10)] * 2, START, *[above("red", 0.10)] * 2],
        [*[above("red", 0.10)] * 2, *[above("green", 0.10)] * 2],
    ],
)
def test_the_second_cube_first_is_wrong(path: list[SceneState]) -> None:
    """So are the first one twice, and a third."""
    referee = Referee(Goal("remember", "red", then="blue"), START)

    assert [referee.judge(state) for state in path] == [NEITHER] * (len(path) - 1) + [WRONG]
