"""What one nudge of the tool came to: along or about one axis, told and measured.

Knows no arm. Shifts are told in the base frame, turns in the tool's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stillframe_client.jaco2 import rotations

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import ToolPose, Vector

AXES = ("x", "y", "z")
MOVED_SHARE = 0.3  # of what was told: less is none


@dataclass(frozen=True, eq=False)
class Nudge:
    """One axis."""

    is_turn: bool
    axis: int
    told: float  # metres or radians along or about the axis, with its sign
    before: ToolPose
    after: ToolPose

    @property
    def name(self) -> str:
        """As the operator reads it."""
        sign = "+" if self.told > 0 else "-"
        return f"turn {sign}{AXES[self.axis]}" if self.is_turn else f"shift {sign}{AXES[self.axis]}"

    @property
    def measured(self) -> Vector:
        """[3] metres in the base frame, or a rotation vector in the tool's."""
        if not self.is_turn:
            shift: Vector = self.after.position_m - self.before.position_m
            return shift
        back = rotations.inverse(self.before.orientation)
        return rotations.to_vector(rotations.multiply(back, self.after.orientation))

    @property
    def length(self) -> float:
        """Of what was measured."""
        return float(np.linalg.norm(self.measured))

    @property
    def has_moved(self) -> bool:
        """Whether the tool followed at all."""
        return self.length > MOVED_SHARE * abs(self.told)

    @property
    def direction(self) -> Vector:
        """[3] of unit length: where a positive command of this axis leads."""
        unit: Vector = self.measured / max(self.length, 1e-9) * np.sign(self.told)
        return unit

    def line(self) -> str:
        """What moved, in numbers."""
        scale, unit = (1.0, "rad") if self.is_turn else (1e3, "mm")
        digits = 3 if self.is_turn else 1
        moved = "  ".join(
            f"{axis} {scale * part:+.{digits}f}"
            for axis, part in zip(AXES, self.measured)  # noqa: B905 -- three each
        )
        frame = "tool's frame" if self.is_turn else "base frame"
        share = f"{100 * self.length / abs(self.told):.0f} %"
        told = f"{scale * abs(self.told):.{digits}f} {unit}"
        return f"{self.name:<9} told {told:<9} measured {moved} {unit} in the {frame}, {share}"
