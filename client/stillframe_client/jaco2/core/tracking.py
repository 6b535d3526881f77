"""From the policy's steps to the motion asked for: a reference that follows them, and a pull towards it.

Keeps no limit: safety.py has the last word. The pull compares what the arm reports with where the reference was when
the commands were given that it can have followed by then: neither a slow report nor the arm's latency looks like a
lag. It makes up for the 15 to 20 % that the arm under-travels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Optional, Tuple

import numpy as np

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.core.reference import Place, Reference, within
from stillframe_client.jaco2.core.safety import REST, Motion
from stillframe_client.jaco2.core.trail import Trail

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import ArmState, Step, Vector
    from stillframe_client.jaco2.settings import LimitSettings, MotionSettings


class Tracker:
    """Follows one arm; begins anew each time that it starts to run."""

    def __init__(self, motion: MotionSettings, limits: LimitSettings):
        self._motion, self._limits = motion, limits
        self._base = rotations.about_z(math.radians(motion.base_yaw_deg))
        self._reference: Optional[Reference] = None
        self._trail = Trail()

    def begin(self, arm: ArmState, now_s: float) -> None:
        """Start from where the arm is."""
        self._reference = Reference(Place(arm.pose.position_m, arm.pose.orientation), self._limits, now_s)
        self._trail = Trail()

    def take(self, step: Step, now_s: float) -> None:
        """Move the reference by the step from now on; what is left of the step before is dropped."""
        assert self._reference is not None, "begin() comes first"  # noqa: S101
        shift, turn = self._in_base(step.delta, self._reference.place.orientation)
        self._reference.take(shift, turn, step.lasts_s, now_s)

    def asked(self, arm: ArmState, now_s: float) -> Motion:
        """The motion for this tick."""
        if self._reference is None:
            return REST
        self._reference.advance(now_s)
        self._trail.add(now_s, self._reference.place)
        lag_m, lag_rad = self._lag(arm, self._reference)
        linear = self._reference.linear_m_s + self._motion.feedback_1_s * lag_m
        angular = self._reference.angular_rad_s + self._motion.feedback_1_s * lag_rad
        back = rotations.inverse(arm.pose.orientation)
        return Motion(np.asarray(linear), rotations.rotate(back, np.asarray(angular)))

    def _in_base(self, delta: Vector, orientation: Vector) -> Tuple[Vector, Vector]:
        """A step's shift and turn [3] as vectors of the base frame."""
        shift = rotations.rotate(self._base, delta[:3])
        turn = delta[3:]
        if self._motion.rotation == "euler_xyz":
            turn = rotations.to_vector(rotations.from_euler_xyz(turn))
        frame = orientation if self._motion.rotation_frame == "tool" else self._base
        return shift, rotations.rotate(frame, turn)

    def _lag(self, arm: ArmState, reference: Reference) -> Tuple[Vector, Vector]:
        """How far the arm was behind the reference when it reported: metres [3], radians [3]; bounded."""
        then = self._trail.at(arm.time_s - self._limits.latency_s)
        if then is None or not self._motion.feedback_1_s:
            return np.zeros(3), np.zeros(3)
        lag_m = then.position_m - arm.pose.position_m
        lag_rad = rotations.turn_between(arm.pose.orientation, then.orientation)
        near_m, near_rad = within(lag_m, self._motion.windup_m), within(lag_rad, self._motion.windup_rad)
        over_m, over_rad = lag_m - near_m, lag_rad - near_rad
        if over_m.any() or over_rad.any():  # an arm that is blocked does not store it up
            reference.give_up(over_m, over_rad)
            self._trail.give_up(over_m, over_rad)
        return near_m, near_rad
