"""What is drawn beside the world's own things: boxes and balls, seen and never felt.

Knows no MuJoCo and no meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Tuple

from stillframe_client.sim.state import Vector

Rgb = Tuple[float, float, float]  # 0 to 1


@dataclass(frozen=True)
class Shape:
    """One box, its sides along the axes, or one ball."""

    kind: Literal["box", "ball"]
    pos_m: Vector  # [3] centre
    half_m: Vector  # [3] half of each side; a ball's radius three times
    rgb: Rgb
    glow: float = 0.0  # 1: it shines by itself, whatever the light
