"""Turns, crops and resizes a picture as in training: in this order, and nothing else.

Knows no camera. The filter is PIL's bicubic, which widens with the scale and so does not alias, and the aspect ratio is
given up: both as the daemon resizes for its vision towers (PrismaticImageProcessor's resize-naive). A picture that is
resized here is therefore, to the bit, what the daemon would have made of the whole one; only less travels.
For a policy whose training pictures were resized otherwise, `resize = 0` leaves it to the daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence, Tuple

import numpy as np
import PIL.Image

if TYPE_CHECKING:
    from stillframe_client.jaco2.cameras.base import Picture


def prepare(picture: Picture, *, rotate: int, crop: Sequence[float], resize: int) -> Picture:
    """uint8 [height, width, 3] -> contiguous uint8 [resize, resize, 3], or as large as the crop where `resize` is 0.

    `rotate`: 0, 90, 180 or 270 degrees clockwise. `crop`: left, top, right, bottom as shares of the turned picture.
    Turning and cropping are views, so no more than the crop is copied, and nothing where nothing is to do. Raises
    ValueError where the crop has no pixel.
    """
    turned = np.rot90(picture, -rotate // 90) if rotate else picture
    left, top, right, bottom = crop_box(crop, turned.shape[1], turned.shape[0])
    part = np.ascontiguousarray(turned[top:bottom, left:right])
    if not resize or part.shape[:2] == (resize, resize):
        return part
    return np.asarray(PIL.Image.fromarray(part).resize((resize, resize), PIL.Image.Resampling.BICUBIC))


def crop_box(crop: Sequence[float], width: int, height: int) -> Tuple[int, int, int, int]:
    """Left, top, right, bottom in whole pixels, the nearest ones. Raises ValueError for no crop, or no pixel in it."""
    _check_crop(crop)
    left, right = (round(share * width) for share in (crop[0], crop[2]))
    top, bottom = (round(share * height) for share in (crop[1], crop[3]))
    if left >= right or top >= bottom:
        raise ValueError(f"crop {list(crop)} leaves no pixel of {width} x {height}; expected a wider one")
    return left, top, right, bottom


def _check_crop(crop: Sequence[float]) -> None:
    if len(crop) != 4 or not (0 <= crop[0] < crop[2] <= 1 and 0 <= crop[1] < crop[3] <= 1):
        raise ValueError(
            f"crop is {list(crop)}; expected left, top, right, bottom from 0 to 1, left < right and top < bottom"
        )
