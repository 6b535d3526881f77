"""Puts the arm somewhere new at once, so that demonstrations can start anywhere an imitator may stray.

Knows no goal; moves nothing on the table, except what it is asked to hold.
"""

from __future__ import annotations

import numpy as np

from stillframe_client.sim.arm import HOME_RAD
from stillframe_client.sim.experts import GRASP_ABOVE_CUBE_M
from stillframe_client.sim.kinematics import Pose
from stillframe_client.sim.state import FINGER_OPEN_RAD, Vector
from stillframe_client.sim.table_world import TableWorld

ANYWHERE_LOW_M, ANYWHERE_HIGH_M = np.array([0.25, -0.28, 0.04]), np.array([0.60, 0.28, 0.32])
TRIES = 60
TILT_RAD = 0.06  # standard deviation of each component
CLOSING_S = 0.7


def place_anywhere(
    world: TableWorld, rng: np.random.Generator, near: Vector | None = None, finger_rad: float = FINGER_OPEN_RAD
) -> None:
    """Put the tool at a random reachable pose, or within some centimetres of the cube at `near` [3], touching nothing.

    Falls back to home when all tries collide.
    """
    for _ in range(TRIES):
        spot = rng.uniform(ANYWHERE_LOW_M, ANYWHERE_HIGH_M) if near is None else near + _beside(rng)
        pose = world.arm.home.moved(spot - world.arm.home.pos, rng.normal(0, TILT_RAD, 3))
        if _place(world, pose, finger_rad) and world.robot_is_clear():
            return
    world.arm.place(HOME_RAD, finger_rad)


def hold(world: TableWorld, rng: np.random.Generator, cube: Vector) -> None:
    """Grasp the cube, or what is grasped as one, at [3] by closing the fingers around it, then lift it by up to 12 cm.

    The grasp is physical, so it may slip, as it may for a policy.
    """
    off_centre = np.array([*rng.uniform(-0.008, 0.008, 2), GRASP_ABOVE_CUBE_M + rng.uniform(-0.004, 0.006)])
    pose = world.arm.home.moved(cube + off_centre - world.arm.home.pos, rng.normal(0, TILT_RAD / 2, 3))
    _place(world, pose, FINGER_OPEN_RAD)
    for _ in range(round(CLOSING_S * world.hz)):
        world.act(np.zeros(7))
    rise_m, most_m = rng.uniform(0, 0.12), 0.15 / world.hz
    for _ in range(round(rise_m / most_m)):
        world.act(np.array([0, 0, most_m, 0, 0, 0, 0]))


def _beside(rng: np.random.Generator) -> Vector:
    """An offset [3] from a cube: mostly right above or around a grasp, sometimes a hand's width away."""
    spread = rng.choice([0.008, 0.03, 0.07])
    return np.array([*rng.normal(0, spread, 2), rng.uniform(0.012, 0.16)])


def _place(world: TableWorld, pose: Pose, finger_rad: float) -> bool:
    """Place the arm; whether it could reach the pose to within a few millimetres."""
    angles = world.arm.angles_at(pose)
    world.arm.place(angles, finger_rad)
    miss_m, _ = world.arm.kinematics.miss(angles, pose)
    return miss_m < 0.005
