from __future__ import annotations

import numpy as np
import pytest

from stillframe_client.sim.arm import HOME_RAD, LEASH_M, REACH_LOW_M
from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.kinematics import Pose
from stillframe_client.sim.world import World


@pytest.fixture(scope="module")
def world() -> World:
    """The physical world without an episode."""
    made = World(hz=10)
    made.reset(np.random.default_rng(0))
    return made


def test_home_points_straight_down(world: World) -> None:
    """The stored home angles put the tool at (0.38, 0, 0.28) m, pointing down."""
    axis = np.zeros(9)
    mujoco.mju_quat2Mat(axis, world.arm.home.quat)

    assert world.arm.home.pos == pytest.approx([0.38, 0, 0.28], abs=1e-3)
    assert axis.reshape(3, 3)[:, 2] == pytest.approx([0, 0, -1], abs=1e-3)


@pytest.mark.parametrize("x", [0.28, 0.42, 0.56])
@pytest.mark.parametrize("y", [-0.24, 0.0, 0.24])
@pytest.mark.parametrize("z", [0.04, 0.20])
def test_every_cube_is_within_reach(world: World, x: float, y: float, z: float) -> None:
    """Over the whole area where cubes may lie there are angles that meet the pose."""
    pose = Pose(np.array([x, y, z]), world.arm.home.quat)
    metres, radians = world.arm.kinematics.miss(world.arm.angles_at(pose), pose)

    assert metres < 1e-3
    assert radians < 5e-3


def test_solving_moves_nothing(world: World) -> None:
    """Inverse kinematics works on a scratch copy."""
    before = world.data.qpos.copy()
    world.arm.angles_at(Pose(np.array([0.5, 0.2, 0.1]), world.arm.home.quat))

    assert np.array_equal(world.data.qpos, before)


def test_an_unreachable_pose_is_approached(world: World) -> None:
    """Out of reach the answer is finite and `miss` tells how far off it is."""
    pose = Pose(np.array([1.5, 0, 0.3]), world.arm.home.quat)
    angles = world.arm.angles_at(pose)

    assert np.isfinite(angles).all()
    assert world.arm.kinematics.miss(angles, pose)[0] > 0.3


def test_turning_there_and_back_is_no_turn(world: World) -> None:
    """`turn_to` undoes `moved`."""
    turn = np.array([0.1, -0.2, 0.3])
    pose = world.arm.home.moved(np.zeros(3), turn)

    assert world.arm.home.turn_to(pose) == pytest.approx(turn, abs=1e-12)


def test_the_command_stays_on_its_leash_and_above_the_table(world: World) -> None:
    """Pushing down for ever neither winds the command up nor drives it into the table."""
    world.arm.place(HOME_RAD, 0.25)
    for _ in range(40):
        world.act(np.array([0, 0, -0.02, 0, 0, 0, 1]))
        assert np.linalg.norm(world.arm.command.pos - world.arm.pose.pos) < 2 * LEASH_M
    assert world.arm.command.pos[2] >= REACH_LOW_M[2]
