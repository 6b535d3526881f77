"""Turns a twist into the arm's 10 ms point, and the arm's reading into a state.

Knows no library and no time. In a velocity point the finger values are velocities, whatever the hand's mode says, as
kinova-ros found: so the hand follows its closure by a small loop, with that driver's gain and dead band.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Optional

import numpy as np

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.arms.kinova_sdk import structs
from stillframe_client.jaco2.domain import ArmState, ToolPose

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import Twist, Vector

GAIN_1_S = 2.0
DEAD_TURNS = 20.0
MOST_TURNS_S = 4500.0


def point(twist: Twist, turns: Optional[float], full_turns: float, *, hand: bool) -> structs.TrajectoryPoint:
    """The point of a twist. `turns`: where the fingers are, None: not known, and they stay; `full_turns`: closed."""
    made = structs.TrajectoryPoint()
    position = made.Position
    position.Type = structs.CARTESIAN_VELOCITY
    position.CartesianPosition = structs.CartesianInfo(*twist.linear_m_s, *twist.angular_rad_s)
    if hand:
        position.HandMode = structs.HAND_VELOCITY
        speed = 0.0 if turns is None else finger_turns_s(twist.closure * full_turns - turns)
        position.Fingers = structs.FingersPosition(speed, speed, speed)
    return made


def finger_turns_s(left_turns: float) -> float:
    """How fast fingers turn that have so far to go."""
    if not math.isfinite(left_turns) or abs(left_turns) <= DEAD_TURNS:
        return 0.0
    return min(max(GAIN_1_S * left_turns, -MOST_TURNS_S), MOST_TURNS_S)


def state(reading: structs.CartesianPosition, seq: int, time_s: float, full_turns: float) -> ArmState:
    """The state of a reading."""
    where, turns = reading.Coordinates, reading.Fingers.Finger1
    pose = ToolPose(np.array([where.X, where.Y, where.Z]), from_euler(where.ThetaX, where.ThetaY, where.ThetaZ))
    closure = min(max(turns / full_turns, 0.0), 1.0) if math.isfinite(turns) else None
    return ArmState(seq, time_s, pose, closure)


def from_euler(x_rad: float, y_rad: float, z_rad: float) -> Vector:
    """The arm's angles, intrinsic about x, then y, then z (R = Rx Ry Rz), as a quaternion [4]; NaN stays NaN."""
    if not all(map(math.isfinite, (x_rad, y_rad, z_rad))):
        return np.full(4, math.nan)
    x, y, z = (rotations.from_vector(row) for row in np.diag([x_rad, y_rad, z_rad]))
    return rotations.multiply(x, rotations.multiply(y, z))
