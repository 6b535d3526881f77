"""The physical world of one kitchen task between two decisions, and which part of the stain has been wiped.

Knows no aim, no reward and no picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillframe_client.sim.arm import HOME_RAD
from stillframe_client.sim.assets import jaco_folder
from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.kitchen.layout import drawn
from stillframe_client.sim.kitchen.scene import FIXED, build
from stillframe_client.sim.kitchen.state import REST_HEIGHT_M, SPONGE, SPONGE_HALF_M, WIPES_BELOW_M, KitchenState
from stillframe_client.sim.state import FINGER_OPEN_RAD, Vector
from stillframe_client.sim.table_world import Snapshot, TableWorld


@dataclass(frozen=True)
class KitchenSnapshot(Snapshot):
    """One instant of a kitchen."""

    wiped: tuple[bool, ...]


class KitchenWorld(TableWorld):
    """The arm and one task's things."""

    def __init__(self, hz: int, things: tuple[str, ...]):
        model = build(jaco_folder(), things)
        bodies = [model.body(int(at)).name for at in model.geom_bodyid]
        lit = [model.geom(at).name for at, body in enumerate(bodies) if body in things]
        super().__init__(hz, model, things, lit)
        self.things = things
        self._body = {thing: int(model.body(thing).id) for thing in things}
        self._stain, self._wiped = np.empty((0, 3)), np.zeros(0, bool)

    def reset(self, rng: np.random.Generator) -> None:
        """See TableWorld."""
        mujoco.mj_resetData(self.model, self.data)
        layout = drawn(rng, self.things)
        for thing, (x_m, y_m, yaw) in layout.places.items():
            self._put(thing, [x_m, y_m, REST_HEIGHT_M[thing]], [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])
        self._stain, self._wiped = layout.stain, np.zeros(len(layout.stain), bool)
        self.arm.place(HOME_RAD, FINGER_OPEN_RAD)

    def act(self, action: Vector) -> None:
        """See TableWorld; what the sponge lies on afterwards is wiped."""
        super().act(action)
        if len(self._stain):
            self._wiped |= self._under_sponge()

    def snapshot(self) -> KitchenSnapshot:
        """See TableWorld."""
        taken = super().snapshot()
        return KitchenSnapshot(taken.physics, taken.command, taken.finger_command, tuple(self._wiped.tolist()))

    def restore(self, taken: Snapshot) -> None:
        """See TableWorld. Raises TypeError for a snapshot of another world."""
        if not isinstance(taken, KitchenSnapshot):
            raise TypeError(f"found a {type(taken).__name__}; expected a snapshot that this world has taken")
        super().restore(taken)
        self._wiped = np.array(taken.wiped, bool)

    def state(self) -> KitchenState:
        """Copy out the numbers of this instant."""
        return KitchenState(
            **self.tool_fields(),
            pos={thing: self.data.xpos[body].copy() for thing, body in self._body.items()},
            axis={thing: self.data.xmat[body].reshape(3, 3)[:, 0].copy() for thing, body in self._body.items()},
            stain=self._stain,
            wiped=tuple(self._wiped.tolist()),
        )

    def _put(self, thing: str, at_m: list[float], quat: list[float]) -> None:
        if thing in FIXED:
            mocap = int(self.model.body_mocapid[self._body[thing]])
            self.data.mocap_pos[mocap], self.data.mocap_quat[mocap] = at_m, quat
        else:
            first = int(self.model.joint(thing).qposadr[0])
            self.data.qpos[first : first + 7] = [*at_m, *quat]

    def _under_sponge(self) -> Vector:
        """[cells] whether the middle of each lies below the sponge, and that is low enough."""
        body = self._body[SPONGE]
        turn, half = self.data.xmat[body].reshape(3, 3), np.array(SPONGE_HALF_M)
        underside_m = self.data.xpos[body][2] - float(np.abs(turn[2]) @ half)
        own = (self._stain - self.data.xpos[body]) @ turn  # [cells, 3] in the sponge's frame
        below = (np.abs(own[:, :2]) <= half[:2]).all(axis=1)
        return np.asarray(below & (underside_m < WIPES_BELOW_M))
