"""What the simulation can tell about one instant, as plain numbers: colours, limits, ToolState, SceneState.

Knows no MuJoCo; experts and referees need nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

COLOURS = ("red", "green", "blue")

CUBE_HALF_M = 0.024
MAX_SPEED_M_S = 0.20
MAX_TURN_RAD_S = 1.0
FINGER_OPEN_RAD = 0.25
FINGER_CLOSED_RAD = 1.25


@dataclass(frozen=True)
class ToolState:
    """The arm at one instant: metres and radians in the world frame (x away from its base, y to its left, z up)."""

    tool_pos: Vector  # [3] the point between the fingertips
    laser_pos: Vector  # [3] where the palm's laser meets the table or a thing on it
    tool_turn: Vector  # [3] rotation vector that would take the home orientation to the tool's
    finger_angle: float  # mean over three fingers: 0.25 open, about 1 on a cube, 1.25 closed on nothing
    finger_command: float  # where the fingers were told to go so far
    hz: int


@dataclass(frozen=True)
class SceneState(ToolState):
    """The arm and three cubes at one instant."""

    cube_pos: Mapping[str, Vector]  # colour -> [3] centre
    cube_yaw: Mapping[str, float]
