"""A laser pointer in the palm: the spot where the hand points, on the table or on the cube beneath it.

Knows the tool's axis and the cubes; draws nothing. With it one fixed camera can see how high the tool is and what it is
over, which a single view of a hand in mid-air hardly tells.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.scene import TOOL_SITE
from stillframe_client.sim.state import COLOURS, Vector

ABOVE_TOOL_M = 0.06  # the beam starts this far behind the point between the fingertips
STEEPEST = -0.2  # a hand that points less downward than this lights nothing near


class PalmLaser:
    """The beam of one MjData; robot parts do not stop it."""

    def __init__(self, model: Any, data: Any):
        self._model, self._data = model, data
        self._tool = model.site(TOOL_SITE).id
        self._cubes = [int(model.geom(colour).id) for colour in COLOURS]

    def spot(self) -> Vector:
        """Where the beam ends [3]: a cube's surface, or the table's plane at z = 0."""
        beam = self._data.site_xmat[self._tool].reshape(3, 3)[:, 2].copy()
        start = self._data.site_xpos[self._tool] - ABOVE_TOOL_M * beam
        to_table = start[2] / -min(beam[2], STEEPEST)
        hits = [hit for hit in (self._to_cube(cube, start, beam) for cube in self._cubes) if hit >= 0]
        return np.asarray(start + min([to_table, *hits]) * beam)

    def _to_cube(self, cube: int, start: Vector, beam: Vector) -> float:
        """Distance along the beam to a cube, or -1."""
        data, box = self._data, mujoco.mjtGeom.mjGEOM_BOX
        size = self._model.geom_size[cube]
        return float(mujoco.mju_rayGeom(data.geom_xpos[cube], data.geom_xmat[cube], size, start, beam, int(box)))
