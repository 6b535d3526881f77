"""Which of an observation's values are pictures, where any key may hold one, and how they become uint8.

Knows no camera and no codec: values in, uint8 [height, width, 3 or 4] out. See stillframe_client.wire.openpi.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stillframe.errors import Unprocessable
from stillframe.web.http.image_headers import JPEG_HEAD, PNG_HEAD
from stillframe.web.http.msgpack_values import UnsupportedValue
from stillframe_client.wire.camera_names import split_words
from stillframe_client.wire.openpi import CHANNELS, FloatRangeError, channels_last, to_uint8, unbatched

_PICTURE_WORDS = frozenset(["image", "images", "img", "rgb", "rgba", "cam", "camera", "picture", "view", "frame"])
_MAYBE_PICTURES = (bytes, str, list, UnsupportedValue, np.ndarray)


def is_picture(value: Any) -> bool:
    """Return whether a value is a picture: an array of that shape, alone or as a batch of one; a JPEG or PNG."""
    if isinstance(value, bytes):
        return value.startswith((PNG_HEAD, JPEG_HEAD))
    if not isinstance(value, np.ndarray):
        return False
    shape = unbatched(value).shape
    return len(shape) == 3 and (shape[2] in CHANNELS or shape[0] in CHANNELS)


def might_be_picture(key: str, value: Any) -> bool:
    """Return whether a value that is no picture was probably meant as one, by its rank or its key."""
    if isinstance(value, np.ndarray) and value.ndim >= 3:
        return True
    return isinstance(value, _MAYBE_PICTURES) and not _PICTURE_WORDS.isdisjoint(split_words(key))


def as_picture(value: Any, place: str | None = None) -> Any:
    """Return an array as uint8, channels last; any other value as it is, for read_picture to refuse.

    Raises Unprocessable, with the pointer `place`, for floats outside 0 to 1.
    """
    if not isinstance(value, np.ndarray):
        return value
    try:
        return to_uint8(channels_last(unbatched(value)))
    except FloatRangeError as error:
        found = "NaN" if np.isnan(error.low) else f"{error.low:g} to {error.high:g}"
        detail = f"The picture's {value.dtype} values are {found}; expected 0 to 1, or uint8 from 0 to 255."
        raise Unprocessable("image-invalid", detail, pointer=place) from error
