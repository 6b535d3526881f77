"""An arm whose driver takes rotations in the base frame: commands in the tool's frame are turned for it.

Knows no driver. `frame-check` shows which arms are so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Optional

import numpy as np

from stillframe_client.jaco2 import rotations

if TYPE_CHECKING:
    from stillframe_client.jaco2.arms.base import Arm, ArmInfo
    from stillframe_client.jaco2.domain import ArmState, Twist


class BaseFrameTurns:
    """The arm, but for the frame of its rotations."""

    def __init__(self, arm: Arm):
        self._arm = arm

    def connect(self, timeout_s: float) -> ArmInfo:
        """Reach it. Raises ArmError."""
        info = self._arm.connect(timeout_s)
        return replace(info, details={**info.details, "rotations": "taken in the base frame"})

    def state(self) -> Optional[ArmState]:
        """The newest report."""
        return self._arm.state()

    def send(self, twist: Twist) -> None:
        """Turn the rotation by the newest report; without one nothing turns. Raises ArmError."""
        state = self._arm.state()
        turn = np.zeros(3) if state is None else rotations.rotate(state.pose.orientation, twist.angular_rad_s)
        self._arm.send(replace(twist, angular_rad_s=turn))

    def start(self) -> None:
        """Let commands take effect."""
        self._arm.start()

    def stop(self) -> None:
        """Drop all commands and stop."""
        self._arm.stop()

    def home(self, timeout_s: float) -> None:
        """Move home and wait. Raises ArmError."""
        self._arm.home(timeout_s)

    def close(self) -> None:
        """Let go of it."""
        self._arm.close()
