"""Controls the arm: a commanded tool pose, kept near the real one, becomes joint targets.

Knows no task and no camera.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.kinematics import Kinematics, Pose
from stillframe_client.sim.scene import ARM_JOINTS, FINGER_JOINTS, TIMESTEP_S
from stillframe_client.sim.state import FINGER_OPEN_RAD, Vector

# Tool pointing straight down at (0.38, 0, 0.28) m, elbow up: the best-conditioned of 200 inverse solutions.
HOME_RAD = np.array([-0.204, 2.834, 4.886, -3.499, 1.283, -0.561])
LEASH_M = 0.04
LEASH_RAD = 0.35
FINGER_SPEED_RAD_S = 2.0
# The commanded tool stays in this box, so that no policy can drive the arm through the table or out of reach.
REACH_LOW_M = np.array([0.18, -0.42, 0.020])
REACH_HIGH_M = np.array([0.68, 0.42, 0.50])


class Arm:
    """Controller of the arm and hand of one MjData."""

    def __init__(self, model: Any, data: Any):
        self.kinematics = Kinematics(model)
        self._model, self._data = model, data
        self._arm_qpos = np.array([model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self._finger_qpos = np.array([model.joint(name).qposadr[0] for name in FINGER_JOINTS])
        self._arm_motors = np.array([model.actuator(name).id for name in ARM_JOINTS])
        self._finger_motors = np.array([model.actuator(name).id for name in FINGER_JOINTS])
        self.home = self._home_pose()
        self.command = self.home
        self.finger_command = FINGER_OPEN_RAD

    @property
    def pose(self) -> Pose:
        """Where the tool is now."""
        return self.kinematics.pose(self._data)

    @property
    def finger_angle(self) -> float:
        """Mean of the three fingers, in radians."""
        return float(self._data.qpos[self._finger_qpos].mean())

    @property
    def angles(self) -> Vector:
        """The arm's joints [6] now."""
        return np.asarray(self._data.qpos[self._arm_qpos])

    def place(self, angles: Vector, finger_rad: float) -> None:
        """Put the arm at joint angles [6] and the fingers at one angle, at rest, without passing through between."""
        self._data.qpos[self._arm_qpos] = angles
        self._data.qpos[self._finger_qpos] = finger_rad
        self._data.qvel[:] = 0
        self._data.ctrl[self._arm_motors] = angles
        self._data.ctrl[self._finger_motors] = finger_rad
        mujoco.mj_forward(self._model, self._data)
        self.command, self.finger_command = self.pose, finger_rad

    def angles_at(self, pose: Pose, iterations: int = 60) -> Vector:
        """Arm angles [6] for a pose far from here, searched from home so that the elbow stays up."""
        return self.kinematics.angles_for(pose, HOME_RAD, iterations)

    def drive(self, shift_m: Vector, turn_rad: Vector, *, finger_rad: float, substeps: int) -> None:
        """Move the command by [3] and [3], then run the physics for `substeps` towards it, fingers to `finger_rad`."""
        self.command = self._leashed(self.command.moved(shift_m, turn_rad))
        goal = self.kinematics.angles_for(self.command, self._data.qpos[self._arm_qpos])
        begin = self._data.ctrl[self._arm_motors].copy()
        for step in range(1, substeps + 1):
            self._data.ctrl[self._arm_motors] = begin + (goal - begin) * (step / substeps)
            self._data.ctrl[self._finger_motors] = self._next_finger(finger_rad)
            mujoco.mj_step(self._model, self._data)
        mujoco.mj_forward(self._model, self._data)  # what is read and drawn belongs to the last step

    def _leashed(self, command: Pose) -> Pose:
        here = self.pose
        away, turned = command.pos - here.pos, here.turn_to(command)
        pull = min(1.0, LEASH_M / max(float(np.linalg.norm(away)), 1e-9))
        twist = min(1.0, LEASH_RAD / max(float(np.linalg.norm(turned)), 1e-9))
        held = here.moved(away * pull, turned * twist)
        return Pose(np.clip(held.pos, REACH_LOW_M, REACH_HIGH_M), held.quat)

    def _next_finger(self, goal_rad: float) -> float:
        most = FINGER_SPEED_RAD_S * TIMESTEP_S
        self.finger_command += float(np.clip(goal_rad - self.finger_command, -most, most))
        return self.finger_command

    def _home_pose(self) -> Pose:
        scratch = mujoco.MjData(self._model)
        scratch.qpos[self._arm_qpos] = HOME_RAD
        mujoco.mj_forward(self._model, scratch)
        return self.kinematics.pose(scratch)
