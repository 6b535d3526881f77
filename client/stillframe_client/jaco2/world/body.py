"""The simulated arm as what the driver moves: 10 ms of physics for each point, in the base frame of the real one.

Knows no queue and no episode. The real arm's base frame has +x to its left and +y towards its connector panel, so
forward is -y; the simulation's has x forward and y to the left. Translation comes in the base frame, rotation in the
tool's; without a command the commanded pose stays where it is, and so do the fingers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Optional

import numpy as np

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.domain import ToolPose, Twist
from stillframe_client.sim.state import FINGER_CLOSED_RAD, FINGER_OPEN_RAD

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import Vector
    from stillframe_client.sim.kinematics import Pose
    from stillframe_client.sim.world import World

BASE_YAW_DEG = -90.0  # turns the simulation's frame into the arm's base frame
BASE = rotations.about_z(math.radians(BASE_YAW_DEG))
WORLD = rotations.inverse(BASE)
SUBSTEPS = (2, 3)  # of 4 ms, in turn: 10 ms on the average
STILL = np.zeros(3)
HOMING_M_S, HOMING_RAD_S, HOMING_1_S = 0.15, 0.8, 3.0
HOME_M, HOME_RAD = 0.005, 0.03  # near enough


class MujocoBody:
    """Arm and hand of one world."""

    def __init__(self, world: World):
        self._world, self._points = world, 0
        self._finger_rad = FINGER_OPEN_RAD  # where the fingers were last told to go

    def settle(self) -> None:
        """The arm was put elsewhere, by a reset: fingers are to stay as they are."""
        self._finger_rad = self._world.arm.finger_command

    def move(self, twist: Optional[Twist]) -> None:
        """Let 10 ms go by, with the twist or at rest."""
        shift, turn = (STILL, STILL) if twist is None else self._in_world(twist)
        if twist is not None:
            share = min(max(twist.closure, 0.0), 1.0)
            self._finger_rad = FINGER_OPEN_RAD + (FINGER_CLOSED_RAD - FINGER_OPEN_RAD) * share
        self._points += 1
        substeps = SUBSTEPS[self._points % 2]
        self._world.arm.drive(shift, turn, finger_rad=self._finger_rad, substeps=substeps)

    def pose(self) -> ToolPose:
        """Where the tool is now, in the base frame."""
        return in_base(self._world.arm.pose)

    def closure(self) -> float:
        """How far the hand is closed, 0 to 1."""
        share = (self._world.arm.finger_angle - FINGER_OPEN_RAD) / (FINGER_CLOSED_RAD - FINGER_OPEN_RAD)
        return min(max(share, 0.0), 1.0)

    def joints_rad(self) -> Vector:
        """The arm's joints [6]."""
        return self._world.arm.angles

    def homing(self) -> Optional[Twist]:
        """The next 10 ms of the way home, hand open; None: it is there."""
        here, home = self.pose(), in_base(self._world.arm.home)
        away = home.position_m - here.position_m
        turn = rotations.turn_between(here.orientation, home.orientation)
        if np.linalg.norm(away) < HOME_M and np.linalg.norm(turn) < HOME_RAD:
            return None
        turn_tool = rotations.rotate(rotations.inverse(here.orientation), turn)
        return Twist(_towards(away, HOMING_M_S), _towards(turn_tool, HOMING_RAD_S), 0.0)

    def _in_world(self, twist: Twist) -> tuple[Vector, Vector]:
        """Shift [3] and turn [3] of 10 ms in the simulation's frame."""
        tool = _quaternion(self._world.arm.command)
        shift = rotations.rotate(WORLD, twist.linear_m_s * TICK_S)
        return shift, rotations.rotate(tool, twist.angular_rad_s * TICK_S)


def in_base(pose: Pose) -> ToolPose:
    """A pose of the simulation's frame in the arm's base frame."""
    return ToolPose(rotations.rotate(BASE, pose.pos), rotations.multiply(BASE, _quaternion(pose)))


def _quaternion(pose: Pose) -> Vector:
    """[4] x, y, z, w."""
    w, x, y, z = pose.quat
    return np.array([x, y, z, w])


def _towards(error: Vector, most: float) -> Vector:
    length = float(np.linalg.norm(error))
    return error * min(HOMING_1_S, most / max(length, 1e-9))
