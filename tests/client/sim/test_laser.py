from __future__ import annotations

import numpy as np

from stillframe_client.sim import COLOURS, JacoEnv
from stillframe_client.sim.camera import SPOT_RGB


def test_a_hand_over_the_table_lights_the_table(blind: JacoEnv) -> None:
    """Pointing straight down from home, the spot is under the tool, at the table's height or on a cube's top."""
    blind.reset(seed=1)
    state = blind.state()

    assert np.allclose(state.laser_pos[:2], state.tool_pos[:2], atol=0.03)
    assert any(np.isclose(state.laser_pos[2], height, atol=1e-3) for height in (0.0, 0.048))


def test_a_hand_over_a_cube_lights_the_cube(blind: JacoEnv) -> None:
    """Once the expert hovers over the cube, the beam ends on the cube's top, not on the table below."""
    blind.reset(seed=1, options={"task": "reach", "colour": "red"})
    over = False
    while not over:
        _, _, over, _, _ = blind.step(blind.expert())
    state = blind.state()

    assert np.isclose(state.laser_pos[2], 2 * state.cube_pos["red"][2], atol=2e-3)


def test_the_spot_follows_a_held_cube(blind: JacoEnv) -> None:
    """With a cube in the hand the beam ends on that cube, inside the hand, wherever the hand is."""
    blind.reset(seed=1)
    blind.teleport(np.random.default_rng(0), holding="blue")
    state = blind.state()

    assert np.linalg.norm(state.laser_pos - state.cube_pos["blue"]) < 0.045


def test_the_spot_is_in_the_picture(seeing: JacoEnv) -> None:
    """The picture glows where the spot projects to: red and blue, not green."""
    seeing.reset(seed=4, options={"task": "reach", "colour": COLOURS[0]})
    u, v = seeing.project("front", seeing.state().laser_pos)[0].astype(int)
    spot = seeing.render("front")[v, u].astype(int)

    assert SPOT_RGB[1] < 0.2
    assert min(spot[0], spot[2]) > spot[1] + 80
