"""Object masks: which patches of a camera a mask of its picture touches, and how near the others lie to one that is.

Knows pictures' sizes and grids of patches; not what is masked, nor where the mask came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Masks = Mapping[str, NDArray[np.bool_]]  # camera -> [height, width] of its picture as the client sent it


def touched_patches(
    mask: NDArray[np.bool_], grid: tuple[int, int], center_crop: float | None, *, padded: bool
) -> NDArray[np.bool_]:
    """Which patches [rows * columns] show a pixel of the mask, at least in part.

    The model sees the central `center_crop` of the picture's area (None: all of it), stretched over the grid; `padded`:
    the picture with bars that make it a square.
    """
    down, across = (
        _edges(length, max(mask.shape) if padded else length, count, center_crop)
        for length, count in zip(mask.shape, grid, strict=True)
    )
    marked = np.pad(mask.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)  # pixels above and to the left
    (top, bottom), (left, right) = down, across
    inside = marked[bottom][:, right] - marked[top][:, right] - marked[bottom][:, left] + marked[top][:, left]
    touched: NDArray[np.bool_] = (inside > 0).reshape(-1)
    return touched


def masked_patches(
    masks: Masks, cameras: Sequence[str], grid: tuple[int, int], center_crop: float | None, *, padded: bool
) -> Tensor:
    """Of all cameras' patches [patch tokens]; all of a camera without a mask, of which it is not known what matters."""
    every = np.ones(grid[0] * grid[1], np.bool_)
    parts = [
        touched_patches(masks[camera], grid, center_crop, padded=padded) if camera in masks else every
        for camera in cameras
    ]
    return torch.from_numpy(np.concatenate(parts))


def nearness(masked: Tensor, cameras: int, grid: tuple[int, int]) -> Tensor:
    """[patch tokens] 1 for one that is masked, 1/2 beside it, 1/3 two patches away: what stands in for attention."""
    seen = masked.float().view(cameras, 1, *grid)
    apart = torch.full_like(seen, max(grid))
    for step in reversed(range(max(grid))):
        # A square round each masked patch; smaller ones are laid over it.
        reached = functional.max_pool2d(seen, 2 * step + 1, 1, step) > 0
        apart = torch.where(reached, float(step), apart)
    return (1.0 / (1.0 + apart)).flatten()


def _edges(length: int, shown: int, count: int, center_crop: float | None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First pixel of each patch along a side of `length`, and one past its last; `shown`: with bars on both ends."""
    side = 1.0 if center_crop is None else center_crop**0.5
    at = ((1 - side) / 2 + side * np.arange(count + 1) / count) * shown - (shown - length) / 2
    whole = np.round(at)
    at = np.clip(np.where(np.abs(at - whole) < 1e-6, whole, at), 0, length)  # no pixel for a rounding
    return np.floor(at[:-1]).astype(np.intp), np.ceil(at[1:]).astype(np.intp)
