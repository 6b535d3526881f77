from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stillframe_client.sim import COLOURS, JacoEnv
from stillframe_client.sim.scene import FINGERTIP_RGB

CHANNEL = {colour: index for index, colour in enumerate(COLOURS)}


def test_pictures_are_rgb_bytes(seeing: JacoEnv) -> None:
    """Every camera gives [224, 224, 3] uint8, upright and in the order asked for."""
    images = seeing.reset(seed=0)[0]["images"]

    assert list(images) == ["front", "wrist"]
    assert all(image.shape == (224, 224, 3) and image.dtype == np.uint8 for image in images.values())


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5])  # in these the laser's spot is on the table
def test_projection_lands_on_the_cube(seeing: JacoEnv, seed: int) -> None:
    """The pixel under a cube's projected centre has that cube's colour."""
    seeing.reset(seed=seed)
    picture, cubes = seeing.render("front").astype(int), seeing.state().cube_pos
    for colour in COLOURS:
        u, v = seeing.project("front", cubes[colour][None])[0]
        pixel = picture[int(v), int(u)]

        assert pixel.argmax() == CHANNEL[colour]
        assert pixel[CHANNEL[colour]] > 1.5 * np.delete(pixel, CHANNEL[colour]).max()


def test_right_in_the_picture_is_positive_y(seeing: JacoEnv) -> None:
    """The front camera faces the arm: y grows to its right, x towards it and so downwards, z upwards."""
    seeing.reset(seed=0)
    origin, x, y, z = seeing.project("front", np.array([[0.4, 0, 0], [0.5, 0, 0], [0.4, 0.1, 0], [0.4, 0, 0.1]]))

    assert y[0] > origin[0] + 10
    assert x[1] > origin[1] + 10
    assert z[1] < origin[1] - 10


def test_a_cube_is_wider_than_a_patch(seeing: JacoEnv) -> None:
    """One and a half patches of 14 pixels from corner to corner: a policy can tell where in a patch it lies."""
    seeing.reset(seed=0)
    corners = np.array([[x, y, z] for x in (0.396, 0.444) for y in (-0.024, 0.024) for z in (0, 0.048)])
    width, height = np.ptp(seeing.project("front", corners), axis=0)

    assert 14 < width < 20
    assert 18 < height < 26


def test_the_fingertips_show_whether_the_hand_is_open(seeing: JacoEnv) -> None:
    """Bright tips: their spread across the picture tells an open hand from a fist."""
    spread = {}
    for name, finger_rad in (("open", 0.25), ("fist", 1.25)):
        seeing.reset(seed=0)
        seeing.teleport(np.random.default_rng(2), finger_rad=finger_rad)
        columns = np.nonzero(_is_tip(seeing.render("front")))[1]
        spread[name] = columns.max() - columns.min()

    assert spread["open"] > 1.5 * spread["fist"]


def test_the_table_is_textured(seeing: JacoEnv) -> None:
    """Table patches differ from each other, yet less than a cube differs from the table."""
    seeing.reset(seed=0)
    corner = seeing.render("front")[160:216, 8:64].astype(float)  # [56, 56, 3] of bare wood

    assert 1.5 < corner.mean(axis=2).std() < 25


def test_closing_one_scene_leaves_another_as_it_was(seeing: JacoEnv) -> None:
    """Two scenes in one process: what one frees, by closing or by being forgotten, is not the other's."""
    seeing.reset(seed=0)
    before = seeing.render("front")
    for forget in (False, True):
        other = JacoEnv("pick")
        other.reset(seed=1)
        seeing.render("front")  # so that the other's context is not the current one
        if not forget:
            other.close()
        del other

        assert np.array_equal(seeing.render("front"), before)


def test_a_point_behind_the_camera_is_refused(seeing: JacoEnv) -> None:
    """It has no pixel, and a mirrored one would be worse than an error."""
    with pytest.raises(ValueError, match="behind the front camera"):
        seeing.project("front", np.array([[2.0, 0, 1.5]]))


def _is_tip(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    assert FINGERTIP_RGB[2] < 0.1, "the test looks for yellow"
    return np.asarray((red > 110) & (green > 80) & (blue < 40))


def test_a_mask_shows_the_hand_and_the_named_cube(seeing: JacoEnv) -> None:
    """Where their colours are in the picture, and nowhere near another cube; from either camera."""
    seeing.reset(seed=0, options={"colour": "red"})
    picture, mask = seeing.render("front").astype(int), seeing.mask("front")
    cubes = seeing.state().cube_pos
    places = {colour: seeing.project("front", cubes[colour][None])[0].astype(int) for colour in COLOURS}

    assert mask.shape == (224, 224)
    assert mask.dtype == np.bool_
    assert {colour for colour, (u, v) in places.items() if mask[v, u]} == {"red"}
    assert mask[_is_tip(picture.astype(np.uint8))].mean() > 0.9
    assert 0.01 < mask.mean() < 0.2
    assert seeing.mask("wrist").mean() > mask.mean()


def test_masks_come_with_observations_if_they_are_asked_for(needs_gl: None) -> None:  # noqa: ARG001 -- for its skip
    """Of each camera; pictures are the same to the bit as without."""
    plain, masked = (JacoEnv("pick", cameras=("front",), masks=masks) for masks in (False, True))
    try:
        one, other = (env.reset(seed=3)[0] for env in (plain, masked))
        again = masked.observe()
        assert "masks" not in one
        assert [*other["masks"]] == ["front"]
        assert np.array_equal(other["masks"]["front"], masked.mask("front"))
        assert np.array_equal(one["images"]["front"], other["images"]["front"])
        assert np.array_equal(one["images"]["front"], again["images"]["front"])
    finally:
        plain.close()
        masked.close()
