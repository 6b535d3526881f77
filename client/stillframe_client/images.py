"""Pictures on their way to the daemon: checked, then raw, JPEG or PNG.

Knows no HTTP and no model: the daemon resizes.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any, Dict, Union

import numpy as np
import PIL.Image

from stillframe_client.wire import encode_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENCODINGS = ("raw", "jpeg", "png")


def encode_picture(picture: NDArray[np.uint8], encoding: str, *, jpeg_quality: int = 95) -> Union[str, Dict[str, Any]]:
    """Write a picture [height, width, 3] as a JSON value: a json_numpy object ("raw") or base64 text ("jpeg", "png").

    JPEG is smallest and lossy, PNG is exact and slow, raw is exact and large. Raises ValueError for anything but uint8
    RGB, or for an encoding that is not one of ENCODINGS.
    """
    packed = pack_picture(picture, encoding, jpeg_quality=jpeg_quality)
    return base64.b64encode(packed).decode("ascii") if isinstance(packed, bytes) else encode_array(packed)


def pack_picture(
    picture: NDArray[np.uint8], encoding: str, *, jpeg_quality: int = 95
) -> Union[bytes, NDArray[np.uint8]]:
    """Write a picture for a binary message: the array itself ("raw"), or the file's bytes ("jpeg", "png").

    Raises as `encode_picture` does.
    """
    check_picture(picture)
    if encoding == "raw":
        return picture
    if encoding == "jpeg":
        return _compressed(picture, format="JPEG", quality=jpeg_quality)
    if encoding == "png":
        return _compressed(picture, format="PNG", compress_level=1)
    raise ValueError(f"encoding is {encoding!r}; expected one of {', '.join(ENCODINGS)}.")


def check_encoding(encoding: str) -> str:
    """Return `encoding`; raise ValueError unless it is one of ENCODINGS."""
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding is {encoding!r}; expected one of {', '.join(ENCODINGS)}.")
    return encoding


def check_picture(picture: Any) -> None:
    """Refuse what is not a uint8 RGB array [height, width, 3], saying what it is instead."""
    if not isinstance(picture, np.ndarray):
        raise ValueError(f"The picture is a {type(picture).__name__}; expected a numpy array: try np.asarray(picture).")
    if picture.dtype != np.uint8:
        raise ValueError(f"The picture has dtype {picture.dtype}; expected uint8 with values from 0 to 255.")
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"The picture has shape {picture.shape}; expected (height, width, 3), RGB, channels last.")


def _compressed(picture: NDArray[np.uint8], **options: Any) -> bytes:
    sink = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(picture)).save(sink, **options)
    return sink.getvalue()
