"""The kitchen's things in numbers, and KitchenState: what the simulation can tell about one instant.

Knows no MuJoCo; experts and referees need nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stillframe_client.sim.state import CUBE_HALF_M, ToolState, Vector

POT, CUBE, BOX, SAUSAGE, PAN, SPONGE = "pot", "cube", "box", "sausage", "pan", "sponge"

# The pot: from the table up a vessel, its lid, a stem and the bar that is grasped. A body's place is its centre.
POT_RADIUS_M, POT_HALF_M = 0.05, 0.025
LID_RADIUS_M, LID_HALF_M = 0.052, 0.004
STEM_RADIUS_M, STEM_HALF_M = 0.008, 0.009
BAR_HALF_M = (0.036, 0.020, 0.014)
BAR_ABOVE_POT_M = POT_HALF_M + 2 * LID_HALF_M + 2 * STEM_HALF_M + BAR_HALF_M[2]

BOX_INNER_M, BOX_WALL_M, BOX_HEIGHT_M = 0.060, 0.004, 0.042  # half of the inner side, half of a wall, its height
FLOOR_HALF_M = 0.003  # of box and pan
PAN_RADIUS_M, PAN_RIM_M, PAN_HEIGHT_M = 0.085, 0.004, 0.024  # inner, half of the rim, its height
SAUSAGE_RADIUS_M, SAUSAGE_HALF_M = 0.020, 0.036  # of the straight part
SPONGE_HALF_M = (0.032, 0.024, 0.020)

REST_HEIGHT_M: Mapping[str, float] = {
    POT: POT_HALF_M,
    CUBE: CUBE_HALF_M,
    BOX: 0.0,
    SAUSAGE: SAUSAGE_RADIUS_M,
    PAN: 0.0,
    SPONGE: SPONGE_HALF_M[2],
}
# Above a thing's centre: where the middle between the fingertips is in a good grasp.
GRASP_ABOVE_M: Mapping[str, float] = {
    POT: BAR_ABOVE_POT_M + 0.010,
    CUBE: 0.018,
    SAUSAGE: 0.010,
    SPONGE: 0.016,
}

CELLS, CELL_HALF_M = 10, (0.016, 0.008, 0.0008)  # of the stain, one beside the other along y
WIPES_BELOW_M = 0.010  # a sponge whose underside is lower than this wipes


@dataclass(frozen=True)
class KitchenState(ToolState):
    """The arm and what is on the table at one instant."""

    pos: Mapping[str, Vector]  # thing -> [3] centre; of box and pan the middle of their foot
    axis: Mapping[str, Vector]  # thing -> [3] where its own x points to
    stain: Vector  # [cells, 3] the middle of each; none but where a table is to be wiped
    wiped: tuple[bool, ...]  # of each cell

    def grasp(self, thing: str) -> Vector:
        """Where the tool [3] is to be when the fingers close on it."""
        return np.asarray(self.pos[thing] + [0.0, 0.0, GRASP_ABOVE_M[thing]])
