"""Pictures that tools draw themselves: a table of soft colours, and a red patch on a circle over it.

Knows numpy and Pillow; not what the pictures are shown to.
"""

from __future__ import annotations

import math

import numpy as np
import PIL.Image
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # [height, width, 3]

SIDE_PX = 224
COLOURS = 14  # of the background, along each side
PATCH, RADIUS = 1 / 8, 60 / 224  # of the shorter side
RED = (200, 30, 30)


def background(seed: int = 0, height: int = SIDE_PX, width: int = SIDE_PX) -> Picture:
    """14 x 14 random colours, enlarged."""
    colours = np.random.default_rng(seed).integers(40, 216, (COLOURS, COLOURS, 3), dtype=np.uint8)
    return np.asarray(PIL.Image.fromarray(colours).resize((width, height), PIL.Image.Resampling.BICUBIC))


def with_patch(picture: Picture, angle: float) -> Picture:
    """A copy with the patch at `angle`, in radians, on the circle round the middle."""
    drawn, (height, width, _) = picture.copy(), picture.shape
    side = min(height, width)
    patch, radius = round(PATCH * side), RADIUS * side
    left = round(width / 2 + radius * math.cos(angle) - patch / 2)
    top = round(height / 2 + radius * math.sin(angle) - patch / 2)
    drawn[top : top + patch, left : left + patch] = RED
    return drawn
