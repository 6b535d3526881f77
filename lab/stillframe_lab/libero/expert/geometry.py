"""Turns and boxes: a rotation of a quaternion, of a yaw, what turns one into another, a turned box's corners.

Knows arrays; no robot.
"""

from __future__ import annotations

from math import acos, cos, sin

import numpy as np

from stillframe_lab.libero.pictures import Vector

Turn = Vector  # [3, 3]
DOWN = np.diag([1.0, -1.0, -1.0])  # of a hand that points at the floor; its fingers move along y


def turn_of(quaternion: Vector) -> Turn:
    """Of x y z w."""
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def yawed(yaw_rad: float) -> Turn:
    """A turn about the vertical."""
    return np.array([[cos(yaw_rad), -sin(yaw_rad), 0], [sin(yaw_rad), cos(yaw_rad), 0], [0, 0, 1]])


def turn_between(now: Turn, wanted: Turn) -> Vector:
    """Axis times angle [3], in the world, that turns `now` into `wanted`; of half a turn the axis is not defined."""
    apart = wanted @ now.T
    angle = acos(min(1.0, max(-1.0, (np.trace(apart) - 1) / 2)))
    axis = np.array([apart[2, 1] - apart[1, 2], apart[0, 2] - apart[2, 0], apart[1, 0] - apart[0, 1]])
    length = float(np.linalg.norm(axis))
    return axis / length * angle if length > 1e-9 else np.zeros(3)


def box_in_world(pose: Vector, bounds: Vector) -> Vector:
    """The lowest and highest corner [2, 3] of a box whose own are `bounds`, at `pose` [7]."""
    picks = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T  # [8, 3]
    corners = bounds[picks, np.arange(3)] @ turn_of(pose[3:]).T + pose[:3]
    return np.stack([corners.min(axis=0), corners.max(axis=0)])
