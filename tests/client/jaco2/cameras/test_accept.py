from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2.cameras.accept import Expected
from stillframe_client.jaco2.cameras.base import CameraUnusable
from stillframe_client.jaco2.settings import CameraSettings


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (np.zeros((6, 8, 3), np.float32), "dtype float32; expected uint8"),
        (np.zeros((6, 8), np.uint8), "This is grey"),
        (np.zeros((6, 8, 4), np.uint8), "fourth channel is alpha"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (None, "a NoneType; expected a numpy array"),
    ],
    ids=["floats", "grey", "alpha", "empty", "none"],
)
def test_what_is_no_picture_is_refused(given: Any, text: str) -> None:
    """The text says what came instead."""
    with pytest.raises(CameraUnusable, match=text):
        Expected(None, CameraSettings()).check(given)


def test_width_comes_before_height(noise: Any) -> None:
    """A size is width x height, as in the settings: 8 x 6 is a picture of shape [6, 8, 3]."""
    expected = Expected((8, 6), CameraSettings())
    expected.check(noise(1, 6, 8))
    with pytest.raises(CameraUnusable, match="a picture of 6 x 8 came"):
        expected.check(noise(1, 8, 6))


@pytest.mark.parametrize("rotate", [90, 270])
def test_a_crop_that_leaves_nothing_is_found_with_the_first_picture(noise: Any, rotate: int) -> None:
    """Before the arm is armed, not at the first frame that the policy asks for; seen as it is turned."""
    narrow = {"crop": (0.0, 0.0, 0.05, 1.0)}
    with pytest.raises(CameraUnusable, match="leaves no pixel of 8 x 60"):
        Expected(None, CameraSettings(rotate=rotate - 90, **narrow)).check(noise(1, 60, 8))
    Expected(None, CameraSettings(rotate=rotate, **narrow)).check(noise(1, 60, 8))
