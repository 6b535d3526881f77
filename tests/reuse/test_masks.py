"""Which patches a mask touches, against a plain loop over its pixels, and how near the others are."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.reuse.masks import masked_patches, nearness, touched_patches

some = settings(max_examples=max(20, settings().max_examples // 2), derandomize=True)
crops = st.sampled_from([None, 0.9, 0.5, 1.0])
sides = st.integers(3, 40)


def seen_in(pixel: int, length: int, shown: int, count: int, crop: float | None) -> set[int]:
    """Patches along one side in which a pixel of the picture is seen, at least in part."""
    side = 1.0 if crop is None else math.sqrt(crop)
    scale = count / (side * shown)
    first, last = ((at + (shown - length) / 2 - (1 - side) / 2 * shown) * scale for at in (pixel, pixel + 1))
    low, high = math.floor(first + 1e-6), math.ceil(last - 1e-6)
    return {patch for patch in range(low, high) if 0 <= patch < count}


@some
@given(
    size=st.tuples(sides, sides),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    crop=crops,
    padded=st.booleans(),
    data=st.data(),
)
def test_a_patch_is_touched_by_each_pixel_that_it_shows(
    size: tuple[int, int], grid: tuple[int, int], crop: float | None, data: st.DataObject, *, padded: bool
) -> None:
    """Stretched, cropped or with bars; several pixels together touch what each touches."""
    mask, expected = np.zeros(size, np.bool_), set()
    for _ in range(data.draw(st.integers(0, 3))):
        row, column = (data.draw(st.integers(0, side - 1)) for side in size)
        mask[row, column] = True
        shown = [max(size) if padded else side for side in size]
        along = zip((row, column), size, shown, grid, strict=True)
        rows, columns = (seen_in(*own, crop) for own in along)
        expected |= {one * grid[1] + other for one in rows for other in columns}

    assert set(np.flatnonzero(touched_patches(mask, grid, crop, padded=padded)).tolist()) == expected


def test_bars_show_nothing() -> None:
    """A wide picture in the middle of a square: of four rows of patches the outer two are bars."""
    touched = touched_patches(np.ones((10, 20), np.bool_), (4, 4), None, padded=True)

    assert touched.reshape(4, 4).tolist() == [[False] * 4, [True] * 4, [True] * 4, [False] * 4]


def test_a_camera_without_a_mask_matters_whole() -> None:
    """In the cameras' order, whatever the masks'."""
    mask = np.zeros((4, 4), np.bool_)
    mask[0, 3] = True
    masked = masked_patches({"wrist": mask}, ["front", "wrist"], (2, 2), None, padded=False)

    assert masked.tolist() == [True] * 4 + [False, True, False, False]


def test_nearness_falls_with_the_distance() -> None:
    """In steps of patches to the nearest that is masked, camera by camera; nothing is near where none is."""
    masked = torch.zeros(2, 3, 5, dtype=torch.bool)
    masked[0, 0, 0] = masked[0, 1, 1] = True
    near = nearness(masked.flatten(), 2, (3, 5)).view(2, 3, 5)
    expected = [[1, 1 / 2, 1 / 2, 1 / 3, 1 / 4], [1 / 2, 1, 1 / 2, 1 / 3, 1 / 4], [1 / 2, 1 / 2, 1 / 2, 1 / 3, 1 / 4]]

    torch.testing.assert_close(near[0], torch.tensor(expected))
    assert set(near[1].flatten().tolist()) == {float(torch.tensor(1 / 6))}
