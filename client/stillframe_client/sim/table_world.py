"""An arm at a table between two decisions, whatever lies on it: physics, snapshots, what touches what.

Knows no goal, no reward and no picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillframe_client.sim.arm import HOME_RAD, Arm
from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.kinematics import Pose
from stillframe_client.sim.laser import PalmLaser
from stillframe_client.sim.scene import TIMESTEP_S
from stillframe_client.sim.state import FINGER_CLOSED_RAD, FINGER_OPEN_RAD, MAX_SPEED_M_S, MAX_TURN_RAD_S, Vector

RATES_HZ = (5, 10, 20)
_ALL = int(mujoco.mjtState.mjSTATE_INTEGRATION)


@dataclass(frozen=True)
class Snapshot:
    """The physics and the arm's commands at one instant of one world."""

    physics: Vector
    command: Pose
    finger_command: float


class TableWorld:
    """One compiled scene, stepped at `hz` decisions per second."""

    def __init__(self, hz: int, model: Any, things: Sequence[str], lit: Sequence[str]):
        """`things`: the bodies that the arm may touch; `lit`: the geoms that stop the laser's beam.

        Raises ValueError for another rate than RATES_HZ.
        """
        if hz not in RATES_HZ:
            raise ValueError(f"hz is {hz!r}; expected one of {', '.join(map(str, RATES_HZ))}")
        self.hz = hz
        self.model = model
        self.data = mujoco.MjData(model)
        self.arm = Arm(model, self.data)
        self.arm.place(HOME_RAD, FINGER_OPEN_RAD)
        self.laser = PalmLaser(model, self.data, lit)
        self._substeps = round(1 / (hz * TIMESTEP_S))
        bodies = {int(model.body(name).id): name for name in things}
        self._thing_of = {geom: bodies[body] for geom, body in enumerate(model.geom_bodyid.tolist()) if body in bodies}
        root = model.body_rootid[model.geom_bodyid]  # [geoms]
        self._is_robot = root == model.body("arm_b_base").id

    def reset(self, rng: np.random.Generator) -> None:
        """Bring the arm home, at rest and open, and lay the table as it is drawn."""
        raise NotImplementedError

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

    def tool_fields(self) -> dict[str, Any]:
        """The fields of a ToolState at this instant."""
        tool = self.arm.pose
        return {
            "tool_pos": tool.pos,
            "laser_pos": self.laser.spot(),
            "tool_turn": self.arm.home.turn_to(tool),
            "finger_angle": self.arm.finger_angle,
            "finger_command": self.arm.finger_command,
            "hz": self.hz,
        }

    @property
    def time_s(self) -> float:
        """Since the reset."""
        return float(self.data.time)

    def touched(self) -> str | None:
        """The thing that the arm or hand touches; the first by contact when there are several."""
        for one, other in self.data.contact.geom:
            thing = self._thing_of.get(int(one)) or self._thing_of.get(int(other))
            if thing and self._is_robot[[one, other]].any():
                return thing
        return None

    def robot_is_clear(self) -> bool:
        """Whether the robot touches neither things nor table (its own links may rest on each other)."""
        robot = self._is_robot[self.data.contact.geom.reshape(-1, 2)]  # [contacts, 2]
        return not bool((robot[:, 0] != robot[:, 1]).any())


def yaw_of(quat: Vector) -> float:
    """Of a body with the orientation [4] w, x, y, z: its turn about the vertical, radians."""
    w, x, y, z = quat
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))
