"""What the arm can be asked to do, in words, and when it has done it.

Knows no MuJoCo and no expert: a referee judges from SceneState alone.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from stillframe_client.sim.state import COLOURS, SceneState

SAID = {
    "reach": "reach the {colour} cube",
    "pick": "pick up the {colour} cube",
    "push": "push the {colour} cube to the {direction}",
    "remember": "reach the cube shown by the lamp",  # names no colour
}
SAID_OF_TWO = "reach the first cube shown by the lamp then the second"
TASKS = tuple(SAID)
DIRECTIONS = {"left": -1.0, "right": 1.0}  # sign of y: left and right as the front camera sees them

HOVER_RADIUS_M = 0.03
HOVER_HEIGHT_M = 0.12
HOVER_TIME_S = 0.2
PICKED_HEIGHT_M = 0.10
WRONG_RAISE_M = 0.036  # another cube raised this far above where it began: at 6 cm, when it lay on the table
PUSHED_M = 0.08


@dataclass(frozen=True)
class Goal:
    """One task on one cube, or on two in turn."""

    task: str
    colour: str
    direction: str | None = None  # of a push: "left" or "right" in the front camera's picture
    then: str | None = None  # of what is to be remembered: the second cube's colour

    def __post_init__(self) -> None:
        _expect("task", self.task, TASKS)
        _expect("colour", self.colour, COLOURS)
        if self.task == "push":
            _expect("direction", self.direction, tuple(DIRECTIONS))
        elif self.direction is not None:
            raise ValueError(f"a {self.task} has no direction, found {self.direction!r}; leave it out")
        if self.then is not None and self.task != "remember":
            raise ValueError(f"a {self.task} has no second cube, found {self.then!r}; leave it out")
        if self.then is not None:
            _expect("second colour", self.then, tuple(colour for colour in COLOURS if colour != self.colour))

    @property
    def instruction(self) -> str:
        """The goal in the words a policy is given."""
        return SAID_OF_TWO if self.then else SAID[self.task].format(**asdict(self))

    @property
    def stages(self) -> tuple[Goal, ...]:
        """What has to be done, one after the other, in tasks that need no memory."""
        if self.task != "remember":
            return (self,)
        return tuple(Goal("reach", colour) for colour in (self.colour, self.then) if colour)


@dataclass(frozen=True)
class Verdict:
    """How the goal stands after a step."""

    success: bool
    wrong_object: bool  # another cube was picked, pushed or hovered over instead


class Referee:
    """Follows one episode from its start, stage by stage."""

    def __init__(self, goal: Goal, start: SceneState):
        self._stages = goal.stages
        self.reached = 0  # stages done
        self._judge = _Judge(self._stages[0], start)

    @property
    def stage(self) -> Goal:
        """What is due now; at the end the last that was."""
        return self._stages[min(self.reached, len(self._stages) - 1)]

    def judge(self, state: SceneState) -> Verdict:
        """Look at the state after one control step; call once a step."""
        verdict = self._judge.judge(state)
        if not verdict.success:
            return verdict
        self.reached += 1
        self._judge = _Judge(self.stage, state)
        return Verdict(success=self.reached >= len(self._stages), wrong_object=False)


class _Judge:
    """Follows one stage from its start: how far a cube went, and how long the tool stayed over it."""

    def __init__(self, goal: Goal, start: SceneState):
        self._goal = goal
        self._start = start
        self._hovered = dict.fromkeys(COLOURS, 0)  # consecutive steps above each cube
        # A start above another cube is no mistake; staying on after leaving is.
        self._excused = {colour for colour in COLOURS if colour != goal.colour and _hovers(start, colour)}
        self._steps_needed = math.ceil(HOVER_TIME_S * start.hz)

    def judge(self, state: SceneState) -> Verdict:
        """How this stage stands."""
        above = {colour for colour in COLOURS if _hovers(state, colour)}
        self._excused &= above
        for colour in COLOURS:
            self._hovered[colour] = self._hovered[colour] + 1 if colour in above - self._excused else 0
        others = [colour for colour in COLOURS if colour != self._goal.colour]
        return Verdict(self._done(state), any(self._mistaken(state, other) for other in others))

    def _done(self, state: SceneState) -> bool:
        colour = self._goal.colour
        if self._goal.task == "reach":
            return self._hovered[colour] >= self._steps_needed
        if self._goal.task == "pick":
            return bool(state.cube_pos[colour][2] > PICKED_HEIGHT_M)
        moved = state.cube_pos[colour] - self._start.cube_pos[colour]
        return bool(moved[1] * DIRECTIONS[self._goal.direction or ""] > PUSHED_M)

    def _mistaken(self, state: SceneState, other: str) -> bool:
        moved = state.cube_pos[other] - self._start.cube_pos[other]
        if self._goal.task == "reach":
            return self._hovered[other] >= self._steps_needed
        if self._goal.task == "pick":
            return bool(moved[2] > WRONG_RAISE_M)
        return float(np.linalg.norm(moved[:2])) > PUSHED_M


def _hovers(state: SceneState, colour: str) -> bool:
    away = state.tool_pos - state.cube_pos[colour]
    return bool(np.hypot(away[0], away[1]) < HOVER_RADIUS_M and state.tool_pos[2] < HOVER_HEIGHT_M)


def _expect(what: str, found: object, choices: tuple[str, ...]) -> None:
    if found not in choices:
        raise ValueError(f"unknown {what} {found!r}; expected one of {', '.join(choices)}")
