from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from stillframe_client.sim import COLOURS, JacoEnv
from stillframe_client.sim.cues import Flash
from stillframe_client.sim.lamps import APART_M, BULB_RGB, OFF_CUBES_M, WHITE, WHITE_RGB, Lamps

BULB, MARKER = 1, 2  # of each lamp's three shapes


@pytest.fixture(scope="module")
def shown(needs_gl: None) -> Iterator[JacoEnv]:  # noqa: ARG001 -- for its skip
    """An environment with three lamps."""
    env = JacoEnv("remember", variant="distractor")
    yield env
    env.close()


@pytest.fixture
def lamps() -> Lamps:
    """Three, far from everything."""
    return Lamps.drawn(np.random.default_rng(0), 3, np.array([[9.0, 9.0, 0.0]]))


def test_they_stand_clear_of_cubes_and_of_each_other(shown: JacoEnv) -> None:
    """Nine centimetres from every cube, eleven from every other lamp, and no two episodes alike."""
    spots = []
    for seed in range(100):
        shown.reset(seed=seed)
        flat, state = shown.lamps.spots_m[:, :2], shown.state()
        spots.append(flat)
        for index, spot in enumerate(flat):
            others = np.delete(flat, index, axis=0)

            assert min(np.linalg.norm(spot - state.cube_pos[colour][:2]) for colour in COLOURS) > OFF_CUBES_M
            assert np.linalg.norm(others - spot, axis=1).min() > APART_M
    assert len({each.tobytes() for each in spots}) == 100


@pytest.mark.parametrize("seed", range(6))
def test_each_is_seen_whole(shown: JacoEnv, seed: int) -> None:
    """With the arm at home, lighting one changes a ball's worth of pixels around its spot, its marker a few more."""
    shown.reset(seed=seed)
    dark = shown.light(None)["images"]["front"]
    for index, spot in enumerate(shown.lamps.spots_m):
        bulb, both = (shown.light(Flash(index, "green", marked))["images"]["front"] for marked in (False, True))
        at = np.argwhere((bulb != dark).any(-1)).mean(0)[::-1] + 0.5

        assert 100 < (bulb != dark).any(-1).sum() < 400
        assert 15 < (both != bulb).any(-1).sum() < 100
        assert np.linalg.norm(at - shown.project("front", spot[None])[0]) < 2


def test_only_the_lamp_that_is_lit_shows_a_colour(lamps: Lamps) -> None:
    """The others rest; the marker shines beside the one that is meant, and beside no other."""
    parts = lamps.shapes(Flash(1, "blue", marked=True))
    bulbs, markers = parts[BULB::3], parts[MARKER::3]

    assert [bulb.rgb for bulb in bulbs] == [BULB_RGB["grey"], BULB_RGB["blue"], BULB_RGB["grey"]]
    assert [marker.rgb == WHITE_RGB for marker in markers] == [False, True, False]
    assert not any(marker.rgb == WHITE_RGB for marker in lamps.shapes(Flash(1, "blue", marked=False))[MARKER::3])


def test_at_rest_they_are_grey_or_white(lamps: Lamps) -> None:
    """White says that the first of two cubes has been reached; it is never a marker."""
    grey, white = lamps.shapes(None), lamps.shapes(None, WHITE)

    assert {bulb.rgb for bulb in grey[BULB::3]} == {BULB_RGB["grey"]}
    assert {bulb.rgb for bulb in white[BULB::3]} == {WHITE_RGB}
    assert [part.rgb for part in grey[MARKER::3]] == [part.rgb for part in white[MARKER::3]]
