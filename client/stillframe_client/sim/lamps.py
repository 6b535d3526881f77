"""Lamps on the table, each with a small white marker beside it: where they stand and what they look like.

Knows metres and colours; draws nothing, touches nothing, and keeps no time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillframe_client.sim.cues import Flash
from stillframe_client.sim.shapes import Rgb, Shape
from stillframe_client.sim.state import Vector

# In the front camera's picture, and so near to it that the arm hardly hides a lamp (in 1 % of an expert's steps).
LAMPS_LOW_M, LAMPS_HIGH_M = np.array([0.28, -0.23]), np.array([0.62, 0.23])
OFF_CUBES_M = 0.09  # from a cube's centre: no cube hides a lamp, no hand above a cube does
APART_M = 0.11
MARKER_BESIDE_M = np.array([0.0, 0.036, 0.0])
BULB_M, MARKER_M = 0.022, 0.011  # radii
FOOT_HALF_M = np.array([0.026, 0.026, 0.004])

GREY, WHITE = "grey", "white"
GREY_RGB: Rgb = (0.36, 0.36, 0.38)
WHITE_RGB: Rgb = (1.0, 1.0, 1.0)
BULB_RGB = {
    GREY: GREY_RGB,
    "red": (1.0, 0.10, 0.10),
    "green": (0.10, 0.95, 0.20),
    "blue": (0.15, 0.30, 1.0),
    WHITE: WHITE_RGB,
}
DARK_RGB: Rgb = (0.10, 0.10, 0.10)


@dataclass(frozen=True)
class Lamps:
    """The lamps of one episode."""

    spots_m: Vector  # [lamps, 3] the bulbs' centres

    @classmethod
    def drawn(cls, rng: np.random.Generator, count: int, cubes_m: Vector) -> Lamps:
        """Put so many on free spots between cubes at [cubes, 3]."""
        while True:
            flat = rng.uniform(LAMPS_LOW_M, LAMPS_HIGH_M, (count, 2))
            if _nearest(flat, cubes_m[:, :2]) > OFF_CUBES_M and _nearest(flat, flat) > APART_M:
                return cls(np.column_stack([flat, np.full(count, BULB_M)]))

    def shapes(self, lit: Flash | None, rest: str = GREY) -> list[Shape]:
        """Every lamp as it looks with one of them lit, or none; the others show `rest`, grey or white."""
        parts = []
        for index, spot in enumerate(self.spots_m):
            flash = lit if lit and lit.lamp == index else None
            parts += _lamp(spot, flash.colour if flash else rest, marked=bool(flash and flash.marked))
        return parts


NO_LAMPS = Lamps(np.empty((0, 3)))


def _nearest(spots_m: Vector, others_m: Vector) -> float:
    """The least distance between two different points of [n, 2] and [m, 2]."""
    gaps = np.linalg.norm(spots_m[:, None] - others_m[None], axis=-1)
    return float(gaps[gaps > 0].min(initial=np.inf))


def _lamp(spot_m: Vector, shows: str, *, marked: bool) -> list[Shape]:
    foot = Shape("box", spot_m * [1, 1, 0] + [0, 0, FOOT_HALF_M[2]], FOOT_HALF_M, DARK_RGB)
    marker_m = spot_m * [1, 1, 0] + MARKER_BESIDE_M + [0, 0, MARKER_M]
    bulb = Shape("ball", spot_m, np.full(3, BULB_M), BULB_RGB[shows], glow=0.0 if shows == GREY else 0.8)
    marker = Shape("ball", marker_m, np.full(3, MARKER_M), WHITE_RGB if marked else DARK_RGB, glow=float(marked))
    return [foot, bulb, marker]
