"""Where things lie when an episode begins: drawn until no two are too near.

Knows metres; no physics and no aim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillframe_client.sim.kitchen.state import BOX, CELL_HALF_M, CELLS, CUBE, PAN, POT, SAUSAGE, SPONGE
from stillframe_client.sim.state import Vector

# Of each thing's middle on the table, and of its yaw. Fingers close along y, so what is long lies along x, roughly.
LOW_M = {POT: (0.30, -0.22), BOX: (0.32, -0.22), PAN: (0.32, -0.20)}
HIGH_M = {POT: (0.54, 0.22), BOX: (0.52, 0.22), PAN: (0.48, 0.20)}
ANY_LOW_M, ANY_HIGH_M = (0.29, -0.24), (0.55, 0.24)
YAW_RAD = {POT: 0.3, CUBE: 0.4, BOX: 0.3, SAUSAGE: 0.35, PAN: 0.6, SPONGE: 0.3}
APART_M = 0.20  # two things' middles: an open hand on the one does not touch the other
STAIN_LOW_M, STAIN_HIGH_M = np.array([0.32, -0.10]), np.array([0.52, 0.10])
OFF_STAIN_M = 0.11  # from the sponge's middle to the stain's nearest cell


@dataclass(frozen=True)
class Layout:
    """One episode's table."""

    places: dict[str, tuple[float, float, float]]  # thing -> x, y, yaw
    stain: Vector  # [cells, 3]; none but for a sponge


def drawn(rng: np.random.Generator, things: tuple[str, ...]) -> Layout:
    """Draw a place for each, and a stain where there is a sponge."""
    stain = _stain(rng) if SPONGE in things else np.empty((0, 3))
    while True:
        spots = np.array([rng.uniform(LOW_M.get(one, ANY_LOW_M), HIGH_M.get(one, ANY_HIGH_M)) for one in things])
        gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1)[np.triu_indices(len(things), 1)]
        off = np.linalg.norm(spots[:, None] - stain[None, :, :2], axis=-1)
        if gaps.min(initial=np.inf) > APART_M and off.min(initial=np.inf) > OFF_STAIN_M:
            break
    yaws = [float(rng.uniform(-YAW_RAD[one], YAW_RAD[one])) for one in things]
    places = {one: (float(x), float(y), yaw) for one, (x, y), yaw in zip(things, spots, yaws, strict=True)}
    return Layout(places, stain)


def _stain(rng: np.random.Generator) -> Vector:
    """The middles of its cells [cells, 3], from left to right as the front camera sees them."""
    middle = rng.uniform(STAIN_LOW_M, STAIN_HIGH_M)
    along = (np.arange(CELLS) - (CELLS - 1) / 2) * 2 * CELL_HALF_M[1]
    return np.column_stack([np.full(CELLS, middle[0]), middle[1] + along, np.full(CELLS, CELL_HALF_M[2])])
