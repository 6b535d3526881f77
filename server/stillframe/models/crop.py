"""Centre crop at the model's size, for a policy that was trained on randomly cropped images.

Knows images; no checkpoint. Source: OpenVLA's evaluation, which takes tf.image.crop_and_resize (bilinear, corners
aligned) of the centre and converts it to bytes as tf.image.convert_image_dtype does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import Image

_UNIT = np.float32(1 / 255)
_BYTE = np.float32(255.5)  # TensorFlow's conversion from 0..1 to a byte: times 255.5, truncated


class Samples(NamedTuple):
    """Sample points along one side: between which two pixels each is, and how far from the first."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    beyond: NDArray[np.float32]  # 0 to 1


def cropped(image: Image, share: float, size: tuple[int, int]) -> Image:
    """uint8 [height, width, 3] -> uint8 [*size, 3]: the central `share` of its area.

    In float32 and in the reference's order of operations, so equal to it to the bit.
    """
    rows, columns = (samples(length, wanted, share) for length, wanted in zip(image.shape[:2], size, strict=True))
    top, bottom = (_across(image[at], columns) for at in (rows.first, rows.second))
    down = top + (bottom - top) * rows.beyond[:, None, None]
    return (np.clip(down, 0, 1) * _BYTE).astype(np.uint8)


@lru_cache(64)
def samples(length: int, wanted: int, share: float) -> Samples:
    """`wanted` sample points from end to end of the central sqrt(share) of `length` pixels."""
    one, last = np.float32(1), np.float32(length - 1)
    side = np.sqrt(np.float32(share))
    start = (one - side) / np.float32(2)
    end = start + side
    step = (end - start) * last / np.float32(wanted - 1)
    places = start * last + np.arange(wanted, dtype=np.float32) * step
    first = np.floor(places)
    return Samples(first.astype(np.intp), np.ceil(places).astype(np.intp), places - first)


def _across(lines: Image, columns: Samples) -> NDArray[np.float32]:
    """Interpolate along each line, in 0 to 1."""
    left, right = (lines[:, at].astype(np.float32) * _UNIT for at in (columns.first, columns.second))
    return np.asarray(left + (right - left) * columns.beyond[:, None], np.float32)  # which it is already
