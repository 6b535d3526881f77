"""What the robots see: a still scene in which one thing moves, as a few JPEGs that were made beforehand.

Knows no robot. A camera's picture changes as little from frame to frame, but for its noise.
"""

from __future__ import annotations

import io
import math

import numpy as np
import PIL.Image
from numpy.typing import NDArray

SIDE_PX, PATCH_PX, RADIUS_PX = 224, 28, 60
PICTURES = 40  # one turn of what moves: at 5 Hz eight seconds
JPEG_QUALITY = 90

Picture = NDArray[np.uint8]  # [height, width, 3]


def pictures() -> list[Picture]:
    """One turn of the moving thing; the last picture is followed by the first."""
    background = _background()
    return [_with_patch(background, 2 * math.pi * index / PICTURES) for index in range(PICTURES)]


def as_jpeg(picture: Picture) -> bytes:
    """As a camera would send it."""
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _background() -> Picture:
    """Soft shapes of many colours: 14 x 14 random ones, drawn large."""
    colours = np.random.default_rng(0).integers(40, 216, (14, 14, 3), dtype=np.uint8)
    return np.asarray(PIL.Image.fromarray(colours).resize((SIDE_PX, SIDE_PX), PIL.Image.Resampling.BICUBIC))


def _with_patch(background: Picture, angle: float) -> Picture:
    picture = background.copy()
    left, top = (round(SIDE_PX / 2 + RADIUS_PX * part - PATCH_PX / 2) for part in (math.cos(angle), math.sin(angle)))
    picture[top : top + PATCH_PX, left : left + PATCH_PX] = (200, 30, 30)
    return picture
