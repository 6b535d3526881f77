"""The physical world between two decisions: arm, cubes, what touches what.

Knows no goal, no reward and no picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillframe_client.sim.arm import HOME_RAD, Arm
from stillframe_client.sim.assets import jaco_folder
from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.kinematics import Pose
from stillframe_client.sim.laser import PalmLaser
from stillframe_client.sim.scene import TIMESTEP_S, build
from stillframe_client.sim.state import (
    COLOURS,
    CUBE_HALF_M,
    FINGER_CLOSED_RAD,
    FINGER_OPEN_RAD,
    MAX_SPEED_M_S,
    MAX_TURN_RAD_S,
    SceneState,
    Vector,
)

RATES_HZ = (5, 10, 20)
CUBES_LOW_M, CUBES_HIGH_M = np.array([0.28, -0.24]), np.array([0.56, 0.24])
CUBES_APART_M = 0.12
CUBE_YAW_RAD = 0.4
_ALL = int(mujoco.mjtState.mjSTATE_INTEGRATION)


@dataclass(frozen=True)
class Snapshot:
    """The physics and the arm's commands at one instant of one World."""

    physics: Vector
    command: Pose
    finger_command: float


class World:
    """One compiled scene, stepped at `hz` decisions per second."""

    def __init__(self, hz: int):
        if hz not in RATES_HZ:
            raise ValueError(f"hz is {hz!r}; expected one of {', '.join(map(str, RATES_HZ))}")
        self.hz = hz
        self.model = build(jaco_folder())
        self.data = mujoco.MjData(self.model)
        self.arm = Arm(self.model, self.data)
        self.arm.place(HOME_RAD, FINGER_OPEN_RAD)
        self.laser = PalmLaser(self.model, self.data)
        self._substeps = round(1 / (hz * TIMESTEP_S))
        self._cube_qpos = {colour: int(self.model.joint(colour).qposadr[0]) for colour in COLOURS}
        self._cube_geoms = {int(self.model.geom(colour).id): colour for colour in COLOURS}
        root = self.model.body_rootid[self.model.geom_bodyid]  # [geoms]
        self._is_robot = root == self.model.body("arm_b_base").id

    def reset(self, rng: np.random.Generator) -> None:
        """Bring the arm home, at rest and open, and scatter the cubes."""
        mujoco.mj_resetData(self.model, self.data)
        for colour, spot in zip(COLOURS, _apart(rng, len(COLOURS)), strict=True):
            yaw = rng.uniform(-CUBE_YAW_RAD, CUBE_YAW_RAD)
            at = self._cube_qpos[colour]
            self.data.qpos[at : at + 7] = [*spot, CUBE_HALF_M, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        self.arm.place(HOME_RAD, FINGER_OPEN_RAD)

    def act(self, action: Vector) -> None:
        """Carry out one action [7], clipped to the arm's speed, for one control period."""
        shift = np.clip(action[:3], -MAX_SPEED_M_S / self.hz, MAX_SPEED_M_S / self.hz)
        turn = np.clip(action[3:6], -MAX_TURN_RAD_S / self.hz, MAX_TURN_RAD_S / self.hz)
        finger_rad = FINGER_CLOSED_RAD if action[6] < 0.5 else FINGER_OPEN_RAD
        self.arm.drive(shift, turn, finger_rad=finger_rad, substeps=self._substeps)

    def snapshot(self) -> Snapshot:
        """What `restore` needs to come back to this instant."""
        physics = np.empty(mujoco.mj_stateSize(self.model, _ALL))
        mujoco.mj_getState(self.model, self.data, physics, _ALL)
        return Snapshot(physics, self.arm.command, self.arm.finger_command)

    def restore(self, taken: Snapshot) -> None:
        """Come back to an instant of this world: what follows is as it would have been, to the bit."""
        mujoco.mj_setState(self.model, self.data, taken.physics, _ALL)
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_setState(self.model, self.data, taken.physics, _ALL)  # the solver's start too, which that has moved
        self.arm.command, self.arm.finger_command = taken.command, taken.finger_command

    @property
    def time_s(self) -> float:
        """Since the reset."""
        return float(self.data.time)

    def state(self) -> SceneState:
        """Copy out the numbers of this instant."""
        tool = self.arm.pose
        poses = {colour: self.data.qpos[at : at + 7] for colour, at in self._cube_qpos.items()}
        return SceneState(
            tool_pos=tool.pos,
            laser_pos=self.laser.spot(),
            tool_turn=self.arm.home.turn_to(tool),
            finger_angle=self.arm.finger_angle,
            finger_command=self.arm.finger_command,
            cube_pos={colour: pose[:3].copy() for colour, pose in poses.items()},
            cube_yaw={colour: _yaw(pose[3:]) for colour, pose in poses.items()},
            hz=self.hz,
        )

    def touched(self) -> str | None:
        """The colour of a cube that the arm or hand touches; the first by contact when there are several."""
        for one, other in self.data.contact.geom:
            cube = self._cube_geoms.get(int(one)) or self._cube_geoms.get(int(other))
            if cube and self._is_robot[[one, other]].any():
                return cube
        return None

    def robot_is_clear(self) -> bool:
        """Whether the robot touches neither cube nor table (its own links may rest on each other)."""
        robot = self._is_robot[self.data.contact.geom.reshape(-1, 2)]  # [contacts, 2]
        return not bool((robot[:, 0] != robot[:, 1]).any())


def _apart(rng: np.random.Generator, count: int) -> Vector:
    """Draw spots [count, 2] on the table until no two are too near."""
    while True:
        spots = rng.uniform(CUBES_LOW_M, CUBES_HIGH_M, (count, 2))
        gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1)
        if gaps[np.triu_indices(count, 1)].min() > CUBES_APART_M:
            return spots


def _yaw(quat: Vector) -> float:
    w, x, y, z = quat
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))
