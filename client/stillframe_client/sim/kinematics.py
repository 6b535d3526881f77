"""Solves for the six arm angles that bring the tool to a pose: damped least squares.

Knows no physics and no task; works on a scratch copy of the state, so nothing moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.scene import ARM_JOINTS, TOOL_SITE
from stillframe_client.sim.state import Vector


@dataclass(frozen=True)
class Pose:
    """Where the tool is or should be, in the world."""

    pos: Vector  # [3] metres
    quat: Vector  # [4] w, x, y, z

    def moved(self, shift_m: Vector, turn_rad: Vector) -> Pose:
        """The pose shifted by [3] and turned by the rotation vector [3], both in the world frame."""
        turn, quat = np.zeros(4), np.zeros(4)
        angle = float(np.linalg.norm(turn_rad))
        mujoco.mju_axisAngle2Quat(turn, turn_rad / angle if angle > 0 else np.array([1.0, 0.0, 0.0]), angle)
        mujoco.mju_mulQuat(quat, turn, self.quat)
        return Pose(self.pos + shift_m, quat)

    def turn_to(self, other: Pose) -> Vector:
        """The rotation vector [3], in the world frame, that takes this orientation to the other's."""
        back, turn, vector = np.zeros(4), np.zeros(4), np.zeros(3)
        mujoco.mju_negQuat(back, self.quat)
        mujoco.mju_mulQuat(turn, other.quat, back)
        mujoco.mju_quat2Vel(vector, turn, 1.0)
        return vector


class Kinematics:
    """Forward and inverse kinematics of one compiled arm."""

    def __init__(self, model: Any, damping: float = 0.05, turn_weight: float = 0.5):
        self._model, self._data = model, mujoco.MjData(model)
        self._site = model.site(TOOL_SITE).id
        self._qpos = np.array([model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self._dofs = np.array([model.joint(name).dofadr[0] for name in ARM_JOINTS])
        ranges, limited = model.jnt_range, model.jnt_limited
        joints = [model.joint(name).id for name in ARM_JOINTS]
        self._low = np.array([ranges[j, 0] if limited[j] else -np.inf for j in joints])
        self._high = np.array([ranges[j, 1] if limited[j] else np.inf for j in joints])
        self._damping = damping**2 * np.eye(6)
        self._weights = np.array([1.0, 1.0, 1.0, turn_weight, turn_weight, turn_weight])
        self._jacobian = np.zeros((6, model.nv))

    def pose(self, data: Any) -> Pose:
        """Read the tool's pose off a forwarded MjData."""
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, data.site_xmat[self._site])
        return Pose(data.site_xpos[self._site].copy(), quat)

    def angles_for(self, target: Pose, start: Vector, iterations: int = 8, tolerance: float = 1e-4) -> Vector:
        """Return arm angles [6] near `start` [6] whose tool pose is as close to `target` as the arm allows."""
        angles = start.copy()
        for _ in range(iterations):
            error = self._error(angles, target)
            if np.abs(error).max() < tolerance:
                break
            angles = np.clip(angles + self._step(error), self._low, self._high)
        return angles

    def miss(self, angles: Vector, target: Pose) -> tuple[float, float]:
        """How far the tool is from `target` at these angles [6]: metres and radians."""
        error = self._error(angles, target) / self._weights
        return float(np.linalg.norm(error[:3])), float(np.linalg.norm(error[3:]))

    def _error(self, angles: Vector, target: Pose) -> Vector:
        self._data.qpos[self._qpos] = angles
        mujoco.mj_kinematics(self._model, self._data)
        here = self.pose(self._data)
        return np.asarray(np.concatenate([target.pos - here.pos, here.turn_to(target)]) * self._weights)

    def _step(self, error: Vector) -> Vector:
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
        jacobian = self._weights[:, None] * self._jacobian[:, self._dofs]  # [6, 6]
        return np.asarray(jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + self._damping, error))
