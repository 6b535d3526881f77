"""Crates that go by behind the table: something in the background moves in every picture, and means nothing.

Knows time and metres; draws nothing and touches nothing. No policy of ours saw them while it learnt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stillframe_client.sim.shapes import Shape

# Behind the table's far edge (x = -0.2): in the front camera's picture they end where the table begins.
CRATE_HALF_M = np.array([0.05, 0.17, 0.25])
CRATES_X_M, CRATES_Z_M = -0.45, 0.0
CRATES, SPACING_M = 4, 0.55  # so far apart that the one that comes round again is out of the picture
SLATS_Y_M, SLAT_HALF_M = (-0.12, -0.03, 0.08), np.array([0.01, 0.018, 0.25])
CRATE_RGB, SLAT_RGB = (0.45, 0.40, 0.35), (0.30, 0.27, 0.24)
SPEEDS_M_S = (0.26, 0.32)  # some 5 pixels of 224 in a step at 10 Hz
SWAY_M, SWAY_S = 0.01, 2.0  # they hurry and dawdle


@dataclass(frozen=True)
class Crates:
    """One episode's procession: the same at the same time, whatever the robot does."""

    start_m: float
    speed_m_s: float  # along y; negative to the left in the front camera's picture
    phase_rad: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Crates:
        """Where they start, how fast they go and which way."""
        speed = rng.uniform(*SPEEDS_M_S) * rng.choice((-1.0, 1.0))
        return cls(float(rng.uniform(0, CRATES * SPACING_M)), float(speed), float(rng.uniform(0, 2 * np.pi)))

    def boxes(self, time_s: float) -> list[Shape]:
        """Every crate with its slats, `time_s` after the episode began."""
        length = CRATES * SPACING_M
        sway_m = SWAY_M * math.sin(2 * math.pi * time_s / SWAY_S + self.phase_rad)
        gone = self.start_m + self.speed_m_s * time_s + sway_m
        centres = [(gone + index * SPACING_M) % length - length / 2 for index in range(CRATES)]
        return [box for y_m in centres for box in _crate(y_m)]


def _crate(y_m: float) -> list[Shape]:
    centre = np.array([CRATES_X_M, y_m, CRATES_Z_M])
    front = np.array([CRATE_HALF_M[0], 0.0, 0.0])
    slats = [Shape("box", centre + front + [0.0, beside_m, 0.0], SLAT_HALF_M, SLAT_RGB) for beside_m in SLATS_Y_M]
    return [Shape("box", centre, CRATE_HALF_M, CRATE_RGB), *slats]
