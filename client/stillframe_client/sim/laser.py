"""A laser pointer in the palm: the spot where the hand points, on the table or on the thing beneath it.

Knows the tool's axis and some geoms; draws nothing. With it one fixed camera can see how high the tool is and what it
is over, which a single view of a hand in mid-air hardly tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.scene import TOOL_SITE
from stillframe_client.sim.state import COLOURS, Vector

ABOVE_TOOL_M = 0.06  # the beam starts this far behind the point between the fingertips
STEEPEST = -0.2  # a hand that points less downward than this lights nothing near


class PalmLaser:
    """The beam of one MjData; robot parts do not stop it."""

    def __init__(self, model: Any, data: Any, geoms: Sequence[str] = COLOURS):
        """`geoms`: the names of those that stop the beam; the cubes unless said."""
        self._model, self._data = model, data
        self._tool = model.site(TOOL_SITE).id
        self._geoms = [int(model.geom(name).id) for name in geoms]

    def spot(self) -> Vector:
        """Where the beam ends [3]: the surface of one of the geoms, or the table's plane at z = 0."""
        beam = self._data.site_xmat[self._tool].reshape(3, 3)[:, 2].copy()
        start = self._data.site_xpos[self._tool] - ABOVE_TOOL_M * beam
        to_table = start[2] / -min(beam[2], STEEPEST)
        hits = [hit for hit in (self._to_geom(geom, start, beam) for geom in self._geoms) if hit >= 0]
        return np.asarray(start + min([to_table, *hits]) * beam)

    def _to_geom(self, geom: int, start: Vector, beam: Vector) -> float:
        """Distance along the beam to a geom, or -1."""
        data, kind = self._data, int(self._model.geom_type[geom])
        size = self._model.geom_size[geom]
        return float(mujoco.mju_rayGeom(data.geom_xpos[geom], data.geom_xmat[geom], size, start, beam, kind))
