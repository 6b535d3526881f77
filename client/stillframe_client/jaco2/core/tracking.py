"""From the policy's steps to the motion asked for: a reference pose that the steps move, and a pull towards it.

Knows no limit: safety.py has the last word. The pull compares what the arm reports with where the reference was then,
so a slow report does not look like a lag; it makes up for the 15 to 20 % that the arm under-travels.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Deque, Optional, Tuple

import numpy as np

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.core.safety import REST, Motion

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import ArmState, Step, Vector
    from stillframe_client.jaco2.settings import MotionSettings

REMEMBERED = 256  # ticks of the reference
NO_TURN = np.array([0.0, 0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class _Reference:
    position_m: Vector  # [3]
    orientation: Vector  # [4]

    def moved(self, shift_m: Vector, turn_rad: Vector) -> _Reference:
        """Shifted and turned by vectors of the base frame."""
        turned = rotations.multiply(rotations.from_vector(turn_rad), self.orientation)
        return _Reference(self.position_m + shift_m, turned)


class Tracker:
    """Follows one arm; begins anew each time that it starts to run."""

    def __init__(self, motion: MotionSettings):
        self._motion = motion
        self._base = rotations.about_z(math.radians(motion.base_yaw_deg))
        self._unpulled: Optional[_Reference] = None  # the reference, but for what was given up since the start
        self._given_up_m, self._given_up = np.zeros(3), NO_TURN  # of the reference, and as a rotation of the base frame
        self._shift_m_s = self._turn_rad_s = np.zeros(3)  # of the reference, until _ends_s
        self._moved_s = self._ends_s = 0.0
        self._trail: Deque[Tuple[float, _Reference]] = deque(maxlen=REMEMBERED)  # likewise

    def begin(self, arm: ArmState, now_s: float) -> None:
        """Start from where the arm is."""
        self._unpulled = _Reference(arm.pose.position_m, arm.pose.orientation)
        self._given_up_m, self._given_up = np.zeros(3), NO_TURN
        self._moved_s = self._ends_s = now_s
        self._trail.clear()

    def take(self, step: Step, now_s: float) -> None:
        """Move the reference by the step from now on; what is left of the step before is dropped."""
        assert self._unpulled is not None, "begin() comes first"  # noqa: S101
        self._advance(now_s)
        shift, turn = self._in_base(step.delta, self._pulled(self._unpulled).orientation)
        self._shift_m_s, self._turn_rad_s = shift / step.lasts_s, turn / step.lasts_s
        self._ends_s = now_s + step.lasts_s

    def asked(self, arm: ArmState, now_s: float) -> Motion:
        """The motion for this tick."""
        if self._unpulled is None:
            return REST
        self._advance(now_s)
        self._trail.append((now_s, self._unpulled))
        lag_m, lag_rad = self._lag(arm)
        forward = now_s < self._ends_s
        linear = (self._shift_m_s if forward else 0.0) + self._motion.feedback_1_s * lag_m
        angular = (self._turn_rad_s if forward else 0.0) + self._motion.feedback_1_s * lag_rad
        back = rotations.inverse(arm.pose.orientation)
        return Motion(np.asarray(linear), rotations.rotate(back, np.asarray(angular)))

    def _advance(self, now_s: float) -> None:
        """Bring the reference to this time."""
        assert self._unpulled is not None  # noqa: S101
        lasted_s = min(now_s, self._ends_s) - self._moved_s
        if lasted_s > 0:
            turn_rad = rotations.rotate(rotations.inverse(self._given_up), self._turn_rad_s * lasted_s)
            self._unpulled = self._unpulled.moved(self._shift_m_s * lasted_s, turn_rad)
        self._moved_s = max(now_s, self._moved_s)

    def _in_base(self, delta: Vector, orientation: Vector) -> Tuple[Vector, Vector]:
        """A step's shift and turn [3] as vectors of the base frame."""
        shift = rotations.rotate(self._base, delta[:3])
        turn = delta[3:]
        if self._motion.rotation == "euler_xyz":
            turn = rotations.to_vector(rotations.from_euler_xyz(turn))
        frame = orientation if self._motion.rotation_frame == "tool" else self._base
        return shift, rotations.rotate(frame, turn)

    def _lag(self, arm: ArmState) -> Tuple[Vector, Vector]:
        """How far the arm was behind the reference when it reported: metres [3], radians [3]; bounded."""
        then = self._reference_at(arm.time_s)
        if then is None or not self._motion.feedback_1_s:
            return np.zeros(3), np.zeros(3)
        lag_m = then.position_m - arm.pose.position_m
        lag_rad = rotations.turn_between(arm.pose.orientation, then.orientation)
        over_m, over_rad = _beyond(lag_m, self._motion.windup_m), _beyond(lag_rad, self._motion.windup_rad)
        if over_m.any() or over_rad.any():
            self._pull_back(over_m, over_rad)
        return lag_m - over_m, lag_rad - over_rad

    def _pull_back(self, over_m: Vector, over_rad: Vector) -> None:
        """Give up what is too much, also of the past: an arm that is blocked does not store it up."""
        self._given_up_m = self._given_up_m + over_m
        self._given_up = rotations.multiply(rotations.from_vector(-over_rad), self._given_up)

    def _pulled(self, unpulled: _Reference) -> _Reference:
        """What the reference is, or was, less what has been given up by now."""
        orientation = rotations.multiply(self._given_up, unpulled.orientation)
        return _Reference(unpulled.position_m - self._given_up_m, orientation)

    def _reference_at(self, time_s: float) -> Optional[_Reference]:
        """Where it was; None before it began."""
        for at_s, unpulled in reversed(self._trail):
            if at_s <= time_s:
                return self._pulled(unpulled)
        return None


def _beyond(vector: Vector, most: float) -> Vector:
    """The part of the vector beyond that length."""
    length = math.sqrt(float(vector @ vector))
    return np.zeros(3) if length <= most else vector * (1 - most / length)
