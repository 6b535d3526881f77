"""The four tasks in the kitchen, in words, and when each is done.

Knows no MuJoCo and no expert: a referee judges from KitchenState alone. The tasks are those that VLA-Cache's authors
play on a real Jaco2 (arXiv 2502.02175, 4.3): PickPot, PlaceCube, PutSausage, WipeTable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stillframe_client.sim.kitchen.state import (
    BOX,
    BOX_HEIGHT_M,
    BOX_INNER_M,
    CUBE,
    PAN,
    PAN_HEIGHT_M,
    PAN_RADIUS_M,
    POT,
    SAUSAGE,
    SAUSAGE_HALF_M,
    SPONGE,
    KitchenState,
)
from stillframe_client.sim.state import Vector

EPISODE_S = 18.0  # for any of them

PICKED_M = 0.10  # above where the pot stood
REST_S, REST_M_S = 0.2, 0.02  # so long no faster than this: it lies
OPEN_RAD = 0.5  # fingers that hold nothing
WIPED_SHARE = 0.8


@dataclass(frozen=True)
class KitchenTask:
    """One of them."""

    instruction: str
    moved: str  # the thing that is grasped
    goal: str | None = None  # the thing that it is put into

    @property
    def things(self) -> tuple[str, ...]:
        """All that is on the table."""
        return (self.moved,) if self.goal is None else (self.moved, self.goal)


TASKS: Mapping[str, KitchenTask] = {
    "pick-pot": KitchenTask("pick up the pot", POT),
    "place-cube": KitchenTask("place the cube in the box", CUBE, BOX),
    "put-sausage": KitchenTask("put the sausage in the pan", SAUSAGE, PAN),
    "wipe-table": KitchenTask("wipe the table", SPONGE),
}


def known_task(task: str) -> KitchenTask:
    """By name. Raises ValueError for none of TASKS."""
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; expected one of {', '.join(TASKS)}")
    return TASKS[task]


class KitchenReferee:
    """Follows one episode from its start."""

    def __init__(self, task: KitchenTask, start: KitchenState):
        self._task, self._start, self._last = task, start, start
        self._lay = 0  # consecutive steps without much motion
        self._steps_needed = math.ceil(REST_S * start.hz)

    def judge(self, state: KitchenState) -> bool:
        """Whether it is done after one more control step; call once a step."""
        moved_m = float(np.linalg.norm(state.pos[self._task.moved] - self._last.pos[self._task.moved]))
        self._lay = self._lay + 1 if moved_m < REST_M_S / state.hz else 0
        self._last = state
        if self._task.moved == POT:
            return bool(state.pos[POT][2] - self._start.pos[POT][2] > PICKED_M)
        if self._task.moved == SPONGE:
            return sum(state.wiped) >= WIPED_SHARE * len(state.wiped)
        let_go = state.finger_angle < OPEN_RAD
        return inside(state, self._task) and let_go and self._lay >= self._steps_needed


def inside(state: KitchenState, task: KitchenTask) -> bool:
    """Whether what is moved is within the walls of what it is put into, and below their edge; held or not."""
    away = state.pos[task.moved] - state.pos[task.goal or ""]
    if task.goal == BOX:
        flat = float(np.abs(_turned_back(away, state.axis[BOX])).max())
        return flat < BOX_INNER_M and bool(away[2] < BOX_HEIGHT_M)
    ends = [away + sign * SAUSAGE_HALF_M * state.axis[SAUSAGE] for sign in (-1, 1)]
    return all(math.hypot(end[0], end[1]) < PAN_RADIUS_M and end[2] < PAN_HEIGHT_M + 0.01 for end in ends)


def _turned_back(away: Vector, axis: Vector) -> Vector:
    """The flat part [2] of a way, along and across an axis."""
    length = math.hypot(axis[0], axis[1])
    x, y = axis[0] / length, axis[1] / length
    return np.array([x * away[0] + y * away[1], x * away[1] - y * away[0]])
