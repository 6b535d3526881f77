from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe_client.jaco2.cameras.prepare import crop_box, prepare

WHOLE = (0.0, 0.0, 1.0, 1.0)
CORNERS = {"top left": (0, 0), "top right": (0, -1), "bottom right": (-1, -1), "bottom left": (-1, 0)}
CLOCKWISE = list(CORNERS)


def numbered(height: int, width: int) -> np.ndarray:
    """A picture [height, width, 3] in which each pixel says its row and its column."""
    rows, columns = np.indices((height, width))
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("corner", CLOCKWISE)
def test_corners_move_clockwise(corner: str, quarters: int) -> None:
    """A light in one corner of a wide picture is in the next corner, clockwise, for each 90 degrees."""
    picture = np.zeros((4, 9, 3), np.uint8)
    picture[CORNERS[corner]] = 255
    turned = prepare(picture, rotate=90 * quarters, crop=WHOLE, resize=0)
    reached = CLOCKWISE[(CLOCKWISE.index(corner) + quarters) % 4]

    assert turned.shape == ((4, 9, 3) if quarters == 2 else (9, 4, 3))
    assert turned[CORNERS[reached]].tolist() == [255] * 3
    assert turned.sum() == 3 * 255


def test_a_crop_is_left_top_right_bottom() -> None:
    """Shares of the width, of the height, of the width, of the height; the far edges do not belong to it."""
    part = prepare(numbered(100, 200), rotate=0, crop=(0.25, 0.1, 0.75, 0.9), resize=0)

    assert part.shape == (80, 100, 3)
    assert part[0, 0].tolist() == [10, 50, 0]
    assert part[-1, -1].tolist() == [89, 149, 0]


def test_the_crop_is_of_the_turned_picture() -> None:
    """After 90 degrees clockwise, the left half of what is seen is the lower half of what came."""
    half = prepare(numbered(10, 6), rotate=90, crop=(0.0, 0.0, 0.5, 1.0), resize=0)

    assert half.shape == (6, 5, 3)
    assert set(half[..., 0].ravel().tolist()) == {5, 6, 7, 8, 9}


def test_where_nothing_is_to_do_nothing_is_copied() -> None:
    """The same memory comes back: for no resize, and for one to the size that it has."""
    picture = numbered(16, 16)

    for resize in (0, 16):
        same = prepare(picture, rotate=0, crop=WHOLE, resize=resize)
        assert np.shares_memory(same, picture)
        assert np.array_equal(same, picture)


@pytest.mark.parametrize("resize", [0, 8])
@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_no_more_than_the_crop_is_copied(rotate: int, resize: int) -> None:
    """Of a picture of 3 MB, what is made on the way is as large as the crop; the rest is views."""
    picture = np.zeros((1000, 1000, 3), np.uint8)
    prepare(picture, rotate=rotate, crop=WHOLE, resize=8)  # PIL loads what it needs
    tracemalloc.start()
    part = prepare(picture, rotate=rotate, crop=(0.5, 0.5, 0.6, 0.6), resize=resize)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert part.flags.c_contiguous
    assert most_bytes < 500_000


@given(
    rotate=st.sampled_from([0, 90, 180, 270]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    resize=st.sampled_from([0, 1, 7, 16]),
)
def test_what_comes_out_is_contiguous_and_of_the_size_asked_for(
    rotate: int, height: int, width: int, resize: int
) -> None:
    """Any picture, turned any way: [resize, resize, 3] or the picture's own size, uint8, contiguous."""
    picture = prepare(numbered(height, width), rotate=rotate, crop=WHOLE, resize=resize)
    own = (width, height, 3) if rotate in (90, 270) else (height, width, 3)

    assert picture.shape == ((resize, resize, 3) if resize else own)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous


def test_turning_four_times_by_a_quarter_changes_nothing(noise: Any) -> None:
    """And once by three quarters is three times by one."""
    picture = noise(1, 5, 7)
    quarters = [picture]
    for _ in range(4):
        quarters.append(prepare(quarters[-1], rotate=90, crop=WHOLE, resize=0))

    assert np.array_equal(quarters[4], picture)
    assert np.array_equal(quarters[3], prepare(picture, rotate=270, crop=WHOLE, resize=0))
    assert np.array_equal(quarters[2], prepare(picture, rotate=180, crop=WHOLE, resize=0))


@pytest.mark.parametrize("size", [(480, 640), (100, 90), (224, 224)], ids=["smaller", "larger", "same"])
def test_it_is_resized_to_the_bit_as_the_daemon_would(noise: Any, size: tuple[int, int]) -> None:
    """A picture sent at 224 pixels is the one that the daemon's vision towers would have got of the whole one."""
    daemon = PixelPipeline((224, 224), ((0.5,) * 3,), ((0.5,) * 3,))
    picture = noise(1, *size)

    assert np.array_equal(prepare(picture, rotate=0, crop=WHOLE, resize=224), daemon.views(picture))


def test_a_smaller_picture_is_not_aliased() -> None:
    """Columns of black and white by turns become an even grey, not stripes, when there is no room for them."""
    picture = np.zeros((64, 640, 3), np.uint8)
    picture[:, ::2] = 255
    small = prepare(picture, rotate=0, crop=WHOLE, resize=64)

    assert 120 <= small[:, 2:-2].min() <= small[:, 2:-2].max() <= 135


@pytest.mark.parametrize(
    "crop",
    [(0.5, 0.0, 0.5, 1.0), (0.0, 0.9, 1.0, 0.1), (0.0, 0.0, 1.0), (0.0, 0.0, 1.0, 1.1), (float("nan"), 0.0, 1.0, 1.0)],
    ids=["empty", "upside down", "three", "outside", "nan"],
)
def test_a_crop_that_is_none_is_refused(crop: tuple[float, ...]) -> None:
    """The text gives what was expected."""
    with pytest.raises(
        ValueError, match=r"crop is \[.*\]; expected left, top, right, bottom from 0 to 1, left < right"
    ):
        crop_box(crop, 640, 480)


def test_a_crop_without_a_pixel_is_refused() -> None:
    """Shares that are right may still lie within one pixel."""
    with pytest.raises(ValueError, match=r"leaves no pixel of 10 x 8"):
        crop_box((0.0, 0.0, 0.04, 1.0), 10, 8)
    assert crop_box((0.0, 0.0, 0.06, 1.0), 10, 8) == (0, 0, 1, 8)
