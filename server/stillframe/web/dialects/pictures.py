"""Which of an observation's values are pictures, where any key may hold one, and what openpi makes of an array.

Knows no camera and no codec: values in, uint8 [height, width, 3 or 4] out. Source: openpi's `_parse_image`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import Unprocessable
from stillframe.web.dialects.naming import words
from stillframe.web.http.image_headers import JPEG_HEAD, PNG_HEAD
from stillframe.web.http.unread import Unread

_CHANNELS = (3, 4)  # RGB, RGBA
_WORDS_FOR_IT = frozenset(["image", "images", "img", "rgb", "rgba", "cam", "camera", "picture", "view", "frame"])
_SLACK = 1e-5  # by which floats may leave 0..1: rounding


def is_picture(value: Any) -> bool:
    """Whether a value among others is a picture: an array of its shape, alone or as a batch of one; a JPEG or PNG."""
    if isinstance(value, bytes):
        return value.startswith((PNG_HEAD, JPEG_HEAD))
    if not isinstance(value, np.ndarray):
        return False
    shape = value.shape[1:] if value.ndim == 4 and value.shape[0] == 1 else value.shape
    return len(shape) == 3 and (shape[2] in _CHANNELS or shape[0] in _CHANNELS)


def may_be_meant(key: str, value: Any) -> bool:
    """Whether a value that is no picture was perhaps to be one."""
    if isinstance(value, np.ndarray) and value.ndim >= 3:
        return True
    return isinstance(value, bytes | str | list | Unread | np.ndarray) and not _WORDS_FOR_IT.isdisjoint(words(key))


def as_picture(value: Any, place: str | None = None) -> Any:
    """An array as uint8, channels last: openpi takes channels first too, and floats from 0 to 1.

    What is neither stays as it is: the reader of pictures says what is wrong with it. Raises Unprocessable for floats
    outside 0 to 1, which would become another picture.
    """
    if not isinstance(value, np.ndarray):
        return value
    if value.ndim == 4 and value.shape[0] == 1:
        value = value[0]
    if value.ndim == 3 and value.shape[2] not in _CHANNELS and value.shape[0] in _CHANNELS:
        value = value.transpose(1, 2, 0)
    return _as_bytes(value, place) if np.issubdtype(value.dtype, np.floating) else value


def _as_bytes(floats: NDArray[np.floating[Any]], place: str | None) -> NDArray[np.uint8]:
    """0..1 to 0..255, cut off as openpi does."""
    if floats.size:
        low, high = float(floats.min()), float(floats.max())
        if not (low >= -_SLACK and high <= 1 + _SLACK):  # a nan is in no range, and both are nan then
            found = "NaN" if np.isnan(low) else f"{low:g} to {high:g}"
            detail = f"The picture's {floats.dtype} values are {found}; expected 0 to 1, or uint8 from 0 to 255."
            raise Unprocessable("image-invalid", detail, pointer=place)
    return (floats.clip(0, 1) * 255).astype(np.uint8)
