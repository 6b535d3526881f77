from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest
from PIL import Image

from stillframe_lab.libero.pictures import (
    as_openpi,
    as_openvla,
    axis_angle,
    lanczos,
    robot_state,
    through_jpeg,
    upright,
)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture without edges, other in each colour."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(5 * x + 3 * y), np.cos(4 * y), np.sin(6 * x * y)]
    return np.rint(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def test_pictures_are_turned_by_half_a_turn() -> None:
    """The last pixel of OpenGL's buffer is the first of the data sets'; a flip alone would leave one axis."""
    picture = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)

    assert upright(picture).tolist() == [
        [[15, 16, 17], [12, 13, 14], [9, 10, 11]],
        [[6, 7, 8], [3, 4, 5], [0, 1, 2]],
    ]
    assert upright(picture).flags["C_CONTIGUOUS"]


def test_lanczos_keeps_what_is_even_and_what_has_the_size() -> None:
    """Weights sum to one up to the edges, and at the same size nothing is filtered."""
    even, picture = np.full((256, 256, 3), 201, np.uint8), smooth(20, 30)

    assert np.array_equal(lanczos(even, (224, 224)), even[:224, :224])
    assert np.array_equal(lanczos(picture, (20, 30)), picture)


@pytest.mark.parametrize("size", [(224, 224), (96, 200), (300, 260)])
def test_lanczos_is_that_of_pillow_but_for_its_rounding_between_passes(size: tuple[int, int]) -> None:
    """On a smooth picture at most a level apart, smaller and larger; other filters are not."""
    picture = smooth(256, 256)
    theirs = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.LANCZOS))
    ours = lanczos(picture, size)

    assert ours.shape == (*size, 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_lanczos_has_three_lobes() -> None:
    """A bright line rings: darker beside it, brighter again, and nothing beyond three pixels of the larger grid."""
    line = np.full((16, 256, 3), 100, np.uint8)
    line[:, 128] = 255
    row = lanczos(line, (16, 224))[8, :, 0].astype(int) - 100
    centre = int(np.argmax(row))

    assert row[centre - 2 : centre + 3].min() < -5
    assert np.count_nonzero(row[: centre - 4]) == np.count_nonzero(row[centre + 5 :]) == 0


def test_openvla_sees_jpeg_and_openpi_does_not() -> None:
    """The one goes through the data set's JPEG, then Lanczos; the other through Pillow's bilinear alone."""
    picture = np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4, np.ones((32, 32), np.uint8))
    picture = np.stack([picture, picture[::-1], picture.T], axis=-1)
    bilinear = Image.fromarray(picture).resize((224, 224), Image.Resampling.BILINEAR)

    assert np.array_equal(as_openpi(picture, (224, 224)), np.asarray(bilinear))
    assert np.array_equal(as_openvla(picture, (224, 224)), lanczos(through_jpeg(picture), (224, 224)))
    assert 0 < np.abs(through_jpeg(picture).astype(int) - picture).max() < 40


@pytest.mark.parametrize(
    ("quaternion", "expected"),
    [
        ([0, 0, 0, 1], [0, 0, 0]),
        ([0, 0, 0, 1 + 1e-12], [0, 0, 0]),
        ([0, 0, 0, -1], [0, 0, 0]),
        ([1, 0, 0, 0], [pi, 0, 0]),
        ([0, sqrt(0.5), 0, sqrt(0.5)], [0, pi / 2, 0]),
        ([0, sqrt(0.5), 0, -sqrt(0.5)], [0, 3 * pi / 2, 0]),
        ([0, 0, -sqrt(0.5), sqrt(0.5)], [0, 0, -pi / 2]),
    ],
)
def test_turns_are_axis_angle_as_the_data_sets_have_them(quaternion: list[float], expected: list[float]) -> None:
    """Of x y z w; a negative w is a turn beyond half a turn, not its shorter equal."""
    assert axis_angle(np.array(quaternion, np.float64)) == pytest.approx(np.array(expected))


def test_the_state_is_eight_numbers() -> None:
    """Position, axis-angle, both fingers."""
    state = robot_state(np.array([1.0, 2, 3]), np.array([1.0, 0, 0, 0]), np.array([0.04, -0.04]))

    assert state == pytest.approx(np.array([1, 2, 3, pi, 0, 0, 0.04, -0.04]))
