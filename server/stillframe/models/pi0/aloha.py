"""ALOHA's numbers as openpi's base models know them, and back: joints that turn the other way, fingers by an angle.

Knows the fourteen numbers of two arms, each with a gripper last; no statistics but to wrap them. Source: openpi
policies/aloha_policy.py, `adapt_to_pi`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillframe.models.state import Scaling

Floats = NDArray[np.float64]
SIZE = 14
MIRRORED, GRIPPERS = [1, 2, 8, 9], [6, 13]  # shoulders and elbows
FINGER_M = (0.01844, 0.05800)  # a finger's way: where ALOHA says 0 and 1
ARM_M, HORN_M = 0.036, 0.022  # the linkage between a gripper's motor and its fingers
MOTOR_RAD = (0.5476, 1.6296)  # the motor's angle: where openpi says 0 and 1
COMMAND_RAD = (-0.6213, 1.4910)  # and what an ALOHA is told by 0 and 1


def to_openpi(state: Floats) -> Floats:
    """[..., 14] as ALOHA says it -> as the network knows it."""
    made = _mirrored(state)
    way_m = _between(made[..., GRIPPERS], FINGER_M)
    sine = (HORN_M**2 + way_m**2 - ARM_M**2) / (2 * HORN_M * way_m)
    made[..., GRIPPERS] = _share(np.arcsin(np.clip(sine, -1.0, 1.0)), MOTOR_RAD)
    return made


def from_openpi(state: Floats) -> Floats:
    """[..., 14] as the network knows it -> as ALOHA says it: what `to_openpi` undoes."""
    made = _mirrored(state)
    angle_rad = np.clip(_between(made[..., GRIPPERS], MOTOR_RAD), -np.pi / 2, np.pi / 2)
    sine = HORN_M * np.sin(angle_rad)
    made[..., GRIPPERS] = _share(sine + np.sqrt(sine**2 + ARM_M**2 - HORN_M**2), FINGER_M)
    return made


def commanded(actions: Floats) -> Floats:
    """[..., 14] of the network's, in the data's units -> what an ALOHA is told. Its grippers are radians by then."""
    made = _mirrored(actions)
    made[..., GRIPPERS] = _share(made[..., GRIPPERS] + MOTOR_RAD[0], COMMAND_RAD)
    return made


@dataclass(frozen=True)
class AlohaScale:
    """The scale of a state as ALOHA says it."""

    scale: Scaling

    @property
    def low(self) -> Floats:
        """The lower of both ends, as ALOHA says it."""
        return np.minimum(*map(from_openpi, (self.scale.low, self.scale.high)))

    @property
    def high(self) -> Floats:
        """The higher."""
        return np.maximum(*map(from_openpi, (self.scale.low, self.scale.high)))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which numbers vary at all."""
        return self.scale.mask

    def normalise(self, state: Floats) -> Floats:
        """[14] as ALOHA says it."""
        return self.scale.normalise(to_openpi(state))


def _mirrored(numbers: Floats) -> Floats:
    """A copy."""
    made = np.array(numbers, np.float64)
    made[..., MIRRORED] *= -1
    return made


def _between(share: Floats, ends: tuple[float, float]) -> Floats:
    return share * (ends[1] - ends[0]) + ends[0]


def _share(value: Floats, ends: tuple[float, float]) -> Floats:
    return (value - ends[0]) / (ends[1] - ends[0])
