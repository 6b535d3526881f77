"""Where the tool should be: a reference that makes the steps' motion within the limits' speed and acceleration.

Knows no arm. An arm that is compared with it is asked to make up for what it did not do, and never for its own run-up:
that would be an overshoot, and a policy that sees late would swing. Steps that follow each other are velocities, run
into each other at the limits' acceleration; the last one is finished: what its run-up took is made good after its time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stillframe_client.jaco2 import rotations

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import Vector
    from stillframe_client.jaco2.settings import LimitSettings


@dataclass(frozen=True, eq=False)
class Place:
    """A pose of the base frame."""

    position_m: Vector  # [3]
    orientation: Vector  # [4]

    def moved(self, shift_m: Vector, turn_rad: Vector) -> Place:
        """Shifted and turned by vectors of the base frame."""
        turned = rotations.multiply(rotations.from_vector(turn_rad), self.orientation)
        return Place(self.position_m + shift_m, turned)


class Reference:
    """The reference of one run, from where it began."""

    def __init__(self, start: Place, limits: LimitSettings, now_s: float):
        self.place, self._moved_s = start, now_s
        self._linear = _Part(limits.linear_m_s * limits.speed, limits.linear_m_s2)
        self._angular = _Part(limits.angular_rad_s * limits.speed, limits.angular_rad_s2)

    @property
    def linear_m_s(self) -> Vector:
        """How fast the tool should move: [3]."""
        return self._linear.velocity

    @property
    def angular_rad_s(self) -> Vector:
        """How fast it should turn: [3] in the base frame."""
        return self._angular.velocity

    def take(self, shift_m: Vector, turn_rad: Vector, lasts_s: float, now_s: float) -> None:
        """Make this movement from now on; what is left of the one before is dropped."""
        self.advance(now_s)
        self._linear.take(shift_m, lasts_s)
        self._angular.take(turn_rad, lasts_s)

    def advance(self, now_s: float) -> None:
        """Move up to this time."""
        lasted_s = now_s - self._moved_s
        if lasted_s > 0:
            self.place = self.place.moved(self._linear.move(lasted_s), self._angular.move(lasted_s))
            self._moved_s = now_s

    def give_up(self, over_m: Vector, over_rad: Vector) -> None:
        """Take it back by that much."""
        self.place = self.place.moved(-over_m, -over_rad)


class _Part:
    """Translation or rotation: three numbers, a speed and an acceleration."""

    def __init__(self, most: float, acceleration: float):
        self._most, self._acceleration = most, acceleration
        self.velocity = self._asked = self._direction = np.zeros(3)  # per second, per second, of unit length
        self._left = self._left_s = 0.0  # of the step's way in its direction, and of its time

    def take(self, way: Vector, lasts_s: float) -> None:
        self._left, self._left_s = math.sqrt(float(way @ way)), lasts_s
        self._direction = way / self._left if self._left else np.zeros(3)
        self._asked = within(way / lasts_s, self._most)

    def move(self, lasted_s: float) -> Vector:
        """The movement [3] of that time."""
        change = self._acceleration * lasted_s
        want = self._asked if self._left_s > lasted_s / 2 else self._finishing(change)
        self.velocity = self.velocity + within(want - self.velocity, change)
        moved = self.velocity * lasted_s
        self._left -= max(float(moved @ self._direction), 0.0)  # what the braking of the step before takes is no part
        self._left_s -= lasted_s
        return moved

    def _finishing(self, change: float) -> Vector:
        """Onward in the step's direction as long as it has to go, and no faster than it can still come to rest."""
        left, speed = max(self._left, 0.0), math.sqrt(float(self._asked @ self._asked))
        return self._direction * min(speed, math.sqrt(change * change + 2 * self._acceleration * left) - change)


def within(vector: Vector, most: float) -> Vector:
    """The vector, shortened to that length where it is longer."""
    length = math.sqrt(float(vector @ vector))
    return vector if length <= most else vector * (most / length)
