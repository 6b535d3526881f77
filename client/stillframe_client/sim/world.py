"""The physical world between two decisions: an arm at a table with three cubes.

Knows no goal, no reward and no picture.
"""

from __future__ import annotations

import numpy as np

from stillframe_client.sim.arm import HOME_RAD
from stillframe_client.sim.assets import jaco_folder
from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.scene import build
from stillframe_client.sim.state import COLOURS, CUBE_HALF_M, FINGER_OPEN_RAD, SceneState, Vector
from stillframe_client.sim.table_world import TableWorld, yaw_of

CUBES_LOW_M, CUBES_HIGH_M = np.array([0.28, -0.24]), np.array([0.56, 0.24])
CUBES_APART_M = 0.12
CUBE_YAW_RAD = 0.4


class World(TableWorld):
    """The arm and the cubes."""

    def __init__(self, hz: int):
        super().__init__(hz, build(jaco_folder()), things=COLOURS, lit=COLOURS)
        self._cube_qpos = {colour: int(self.model.joint(colour).qposadr[0]) for colour in COLOURS}

    def reset(self, rng: np.random.Generator) -> None:
        """Bring the arm home, at rest and open, and scatter the cubes."""
        mujoco.mj_resetData(self.model, self.data)
        for colour, spot in zip(COLOURS, _apart(rng, len(COLOURS)), strict=True):
            yaw = rng.uniform(-CUBE_YAW_RAD, CUBE_YAW_RAD)
            at = self._cube_qpos[colour]
            self.data.qpos[at : at + 7] = [*spot, CUBE_HALF_M, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        self.arm.place(HOME_RAD, FINGER_OPEN_RAD)

    def state(self) -> SceneState:
        """Copy out the numbers of this instant."""
        poses = {colour: self.data.qpos[at : at + 7] for colour, at in self._cube_qpos.items()}
        return SceneState(
            **self.tool_fields(),
            cube_pos={colour: pose[:3].copy() for colour, pose in poses.items()},
            cube_yaw={colour: yaw_of(pose[3:]) for colour, pose in poses.items()},
        )


def _apart(rng: np.random.Generator, count: int) -> Vector:
    """Draw spots [count, 2] on the table until no two are too near."""
    while True:
        spots = rng.uniform(CUBES_LOW_M, CUBES_HIGH_M, (count, 2))
        gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1)
        if gaps[np.triu_indices(count, 1)].min() > CUBES_APART_M:
            return spots
