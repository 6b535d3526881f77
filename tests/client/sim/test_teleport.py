from __future__ import annotations

import numpy as np
import pytest

from stillframe_client.sim import COLOURS, JacoEnv


def test_the_arm_lands_anywhere_and_disturbs_nothing(blind: JacoEnv) -> None:
    """Poses spread over the table, at rest; no cube is moved."""
    blind.reset(seed=0)
    cubes, rng = blind.state().cube_pos, np.random.default_rng(0)
    tools = []
    for _ in range(30):
        blind.teleport(rng)
        tools.append(blind.state().tool_pos)

    assert np.ptp(tools, axis=0) == pytest.approx([0.3, 0.5, 0.25], abs=0.12)
    assert all(np.array_equal(blind.state().cube_pos[colour], cubes[colour]) for colour in COLOURS)


def test_near_means_near(blind: JacoEnv) -> None:
    """Close to the cube that was named, and nothing jumps away when time goes on."""
    blind.reset(seed=1)
    rng = np.random.default_rng(1)
    for _ in range(20):
        blind.teleport(rng, near="green")
        cube = blind.state().cube_pos["green"]
        blind.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))

        assert np.linalg.norm((blind.state().tool_pos - cube)[:2]) < 0.30
        assert np.linalg.norm(blind.state().cube_pos["green"] - cube) < 0.004


@pytest.mark.parametrize("finger_rad", [0.25, 0.7, 1.25])
def test_the_fingers_are_where_they_were_asked(blind: JacoEnv, finger_rad: float) -> None:
    """Angle and command agree, so the next step does not snap them elsewhere."""
    blind.reset(seed=2)
    blind.teleport(np.random.default_rng(0), finger_rad=finger_rad)

    assert blind.state().finger_angle == pytest.approx(finger_rad)
    assert blind.state().finger_command == pytest.approx(finger_rad)


@pytest.mark.parametrize("colour", COLOURS)
def test_holding_is_a_real_grasp(blind: JacoEnv, colour: str) -> None:
    """The cube sits between the fingers and goes up with the hand."""
    blind.reset(seed=3, options={"task": "push"})
    blind.teleport(np.random.default_rng(3), holding=colour)
    before = blind.state().cube_pos[colour][2]
    for _ in range(4):
        info = blind.step(np.array([0, 0, 0.015, 0, 0, 0, 0]))[4]

    assert info["touched"] == colour
    assert blind.state().cube_pos[colour][2] > before + 0.03


def test_a_teleport_is_not_a_mistake(blind: JacoEnv) -> None:
    """Starting with the wrong cube in the air does not end the episode; the expert still wins it."""
    blind.reset(seed=4, options={"task": "pick", "colour": "red"})
    blind.teleport(np.random.default_rng(6), holding="blue")
    over = False
    while not over:
        _, _, terminated, truncated, info = blind.step(blind.expert())
        over = terminated or truncated

    assert (info["success"], info["wrong_object"]) == (True, False)


def test_the_same_generator_gives_the_same_pose(blind: JacoEnv) -> None:
    """All chance comes from the generator that is passed in."""
    tools = []
    for _ in range(2):
        blind.reset(seed=5)
        blind.teleport(np.random.default_rng(9), near="red")
        tools.append(blind.state().tool_pos)

    assert np.array_equal(tools[0], tools[1])
