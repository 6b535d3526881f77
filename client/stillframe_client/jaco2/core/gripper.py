"""The hand's closure out of the policy's gripper: hysteresis and votes, or as it comes.

Knows no hand: closure is a share, 0 open to 1 closed; the policy says 1 for open and 0 for closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from stillframe_client.jaco2.settings import MotionSettings

SLACK = 0.05  # beyond 0 and 1 that a regression may stray


def is_gripper(value: float) -> bool:
    """Whether the number can be of this convention; one of -1 to 1 shows itself by its negatives."""
    return -SLACK <= value <= 1 + SLACK


class Gripper:
    """Remembers the last decision and who voted against it."""

    def __init__(self, motion: MotionSettings):
        self._motion = motion
        self._closed: Optional[bool] = None  # not decided yet
        self._votes = 0

    def closure(self, gripper: float, now: float) -> float:
        """Closure, 0 to 1, for the policy's gripper, 0 closed to 1 open. `now`: the hand's, until it is decided."""
        motion = self._motion
        if motion.gripper == "continuous":
            return self._share(1.0 - min(max(gripper, 0.0), 1.0))
        self._vote(gripper)
        return now if self._closed is None else self._share(float(self._closed))

    def _vote(self, gripper: float) -> None:
        if gripper < self._motion.close_below:
            says = True
        elif gripper > self._motion.open_above:
            says = False
        else:
            self._votes = 0
            return
        self._votes = self._votes + 1 if says is not self._closed else 0
        if self._votes >= self._motion.votes:
            self._closed, self._votes = says, 0

    def _share(self, closed: float) -> float:
        """Between what counts as open and as closed."""
        low, high = self._motion.open_percent, self._motion.closed_percent
        return (low + (high - low) * closed) / 100.0
