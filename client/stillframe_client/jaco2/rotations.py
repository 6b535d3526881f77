"""Unit quaternions x, y, z, w, rotation vectors and matrices.

Knows no frame: which one turns into which is the caller's. Written for one at a time: a hundred a second.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import Vector

SMALL_RAD = 1e-9


def multiply(left: Vector, right: Vector) -> Vector:
    """The rotation `right`, then `left`: [4], of unit length."""
    ax, ay, az, aw = left
    bx, by, bz, bw = right
    product = np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )
    return normalised(product)


def inverse(quaternion: Vector) -> Vector:
    """The rotation back."""
    back: Vector = quaternion * np.array([-1.0, -1.0, -1.0, 1.0])
    return back


def normalised(quaternion: Vector) -> Vector:
    """Of unit length, with w from 0. Raises ValueError for zero, or what is not finite."""
    length = math.sqrt(float(quaternion @ quaternion))
    if not (math.isfinite(length) and length > 1e-6):
        raise ValueError(f"the quaternion {quaternion.tolist()} is no rotation; expected a length of about 1")
    unit: Vector = quaternion / (length if quaternion[3] >= 0 else -length)
    return unit


def from_vector(vector: Vector) -> Vector:
    """The rotation about `vector` [3] by its length in radians."""
    angle = math.sqrt(float(vector @ vector))
    if angle < SMALL_RAD:
        return normalised(np.array([*(vector / 2), 1.0]))
    return normalised(np.array([*(vector * (math.sin(angle / 2) / angle)), math.cos(angle / 2)]))


def to_vector(quaternion: Vector) -> Vector:
    """The rotation vector [3], of at most pi."""
    unit = normalised(quaternion)
    axis, half_sine = unit[:3], math.sqrt(float(unit[:3] @ unit[:3]))
    if half_sine < SMALL_RAD:
        small: Vector = axis * 2.0
        return small
    vector: Vector = axis * (2.0 * math.atan2(half_sine, float(unit[3])) / half_sine)
    return vector


def from_euler_xyz(angles: Vector) -> Vector:
    """Roll, pitch, yaw [3] about the fixed axes x, then y, then z."""
    x, y, z = (from_vector(row) for row in np.diag(angles))
    return multiply(z, multiply(y, x))


def rotate(quaternion: Vector, vector: Vector) -> Vector:
    """`vector` [3] turned by the rotation."""
    axis, w = quaternion[:3], float(quaternion[3])
    across = np.array(_cross(axis, vector)) * 2.0
    turned: Vector = vector + w * across + np.array(_cross(axis, across))
    return turned


def about_z(angle_rad: float) -> Vector:
    """The rotation about z."""
    return np.array([0.0, 0.0, math.sin(angle_rad / 2), math.cos(angle_rad / 2)])


def turn_between(start: Vector, end: Vector) -> Vector:
    """The rotation vector [3], in the frame that both turn into, from one orientation to the other."""
    return to_vector(multiply(end, inverse(start)))


def turned_towards(start: Vector, end: Vector, share: float) -> Vector:
    """The orientation after that share, 0 to 1, of the way."""
    return multiply(from_vector(turn_between(start, end) * share), start)


def _cross(a: Vector, b: Vector) -> tuple:  # type: ignore[type-arg]  # three floats; numpy's takes 20 us
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
