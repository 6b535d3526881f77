"""A tool without an arm: it moves as it is told, but for a share; for the sim arm and for tests.

Knows no limit: it goes wherever it is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import numpy as np

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.domain import ToolPose

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import Twist

CLOSING_1_S = 1.0  # of the hand: a second from open to closed
START_M = (0.0, -0.4, 0.3)
DOWN = (1.0, 0.0, 0.0, 0.0)  # the tool looks at the table


class KinematicBody:
    """Translation in the base frame, rotation in the tool's, as the real arm mixes them."""

    def __init__(self, pose: Optional[ToolPose] = None, *, under_travel: float = 0.0):
        self._pose = pose or ToolPose(np.array(START_M), np.array(DOWN))
        self._share = 1.0 - under_travel
        self._closure = 0.0

    def move(self, twist: Optional[Twist]) -> None:
        """Move for 10 ms."""
        if twist is None:
            return
        turned = rotations.from_vector(twist.angular_rad_s * (self._share * TICK_S))
        self._pose = ToolPose(
            self._pose.position_m + twist.linear_m_s * (self._share * TICK_S),
            rotations.multiply(self._pose.orientation, turned),  # in the tool's own frame
        )
        most = CLOSING_1_S * TICK_S
        self._closure += float(np.clip(twist.closure - self._closure, -most, most))

    def pose(self) -> ToolPose:
        """Where the tool is now."""
        return self._pose

    def closure(self) -> float:
        """How far the hand is closed."""
        return self._closure
