"""What the arm can be asked to do, in words, and when it has done it.

Knows no MuJoCo and no expert: a referee judges from SceneState alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stillframe_client.sim.state import COLOURS, SceneState

TASKS = ("reach", "pick", "push")
DIRECTIONS = {"left": -1.0, "right": 1.0}  # sign of y: left and right as the front camera sees them

HOVER_RADIUS_M = 0.03
HOVER_HEIGHT_M = 0.12
HOVER_TIME_S = 0.2
PICKED_HEIGHT_M = 0.10
WRONG_RAISE_M = 0.036  # another cube raised this far above where it began: at 6 cm, when it lay on the table
PUSHED_M = 0.08


@dataclass(frozen=True)
class Goal:
    """One task on one cube."""

    task: str
    colour: str
    direction: str | None = None  # of a push: "left" or "right" in the front camera's picture

    def __post_init__(self) -> None:
        _expect("task", self.task, TASKS)
        _expect("colour", self.colour, COLOURS)
        if self.task == "push":
            _expect("direction", self.direction, tuple(DIRECTIONS))
        elif self.direction is not None:
            raise ValueError(f"a {self.task} has no direction, found {self.direction!r}; leave it out")

    @property
    def instruction(self) -> str:
        """The goal in the words a policy is given."""
        if self.task == "push":
            return f"push the {self.colour} cube to the {self.direction}"
        return f"{'pick up' if self.task == 'pick' else self.task} the {self.colour} cube"


@dataclass(frozen=True)
class Verdict:
    """How the goal stands after a step."""

    success: bool
    wrong_object: bool  # another cube was picked, pushed or hovered over instead


class Referee:
    """Follows one episode from its start: how far a cube went, and how long the tool stayed over it."""

    def __init__(self, goal: Goal, start: SceneState):
        self._goal = goal
        self._start = start
        self._hovered = dict.fromkeys(COLOURS, 0)  # consecutive steps above each cube
        # A start above another cube is no mistake; staying on after leaving is.
        self._excused = {colour for colour in COLOURS if colour != goal.colour and _hovers(start, colour)}
        self._steps_needed = math.ceil(HOVER_TIME_S * start.hz)

    def judge(self, state: SceneState) -> Verdict:
        """Look at the state after one control step; call once a step."""
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
