"""Where the reference was lately, less what has been given up of it since. Knows no arm.

To give something up costs the same however long the trail is: it is taken off when a place is read.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Deque, Optional, Tuple

import numpy as np

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.core.reference import Place

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import Vector

REMEMBERED = 256  # ticks


class Trail:
    """The places of one run."""

    def __init__(self) -> None:
        self._places: Deque[Tuple[float, Place]] = deque(maxlen=REMEMBERED)  # as if nothing had been given up
        self._given_up_m: Vector = np.zeros(3)
        self._given_up: Vector = np.array([0.0, 0.0, 0.0, 1.0])  # [4] a rotation of the base frame

    def add(self, now_s: float, place: Place) -> None:
        """Note where it is now."""
        orientation = rotations.multiply(rotations.inverse(self._given_up), place.orientation)
        self._places.append((now_s, Place(place.position_m + self._given_up_m, orientation)))

    def give_up(self, over_m: Vector, over_rad: Vector) -> None:
        """Take all of it back by that much, as vectors [3] of the base frame."""
        self._given_up_m = self._given_up_m + over_m
        self._given_up = rotations.multiply(rotations.from_vector(-over_rad), self._given_up)

    def at(self, time_s: float) -> Optional[Place]:
        """Where it was then; None before it began."""
        for at_s, place in reversed(self._places):
            if at_s <= time_s:
                orientation = rotations.multiply(self._given_up, place.orientation)
                return Place(place.position_m - self._given_up_m, orientation)
        return None
