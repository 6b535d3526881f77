"""Checks pictures and encodes them: raw, JPEG or PNG.

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
    """Raise ValueError unless it is a uint8 RGB array [height, width, 3]; the text says what it is."""
    if not isinstance(picture, np.ndarray):
        raise ValueError(f"The picture is a {type(picture).__name__}; expected a numpy array: try np.asarray(picture).")
    if picture.dtype != np.uint8:
        raise ValueError(
            f"The picture has dtype {picture.dtype}; expected uint8 with values from 0 to 255.{_range_of(picture)}"
        )
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"The picture has shape {picture.shape}; expected (height, width, 3), RGB, channels last.{_advice(picture)}"
        )
    if not picture.size:
        raise ValueError(f"The picture has shape {picture.shape}: there are no pixels in it.")


def _range_of(picture: NDArray[Any]) -> str:
    """Advice for another dtype: nothing is scaled, clipped or rounded silently."""
    if picture.dtype.kind not in "fiu" or not picture.size:
        return ""
    low, high = picture.min(), picture.max()
    if picture.dtype.kind == "f" and low >= 0 and high <= 1:
        return " Floats from 0 to 1 are (255 * picture).round().astype(np.uint8)."
    return f" These go from {low:g} to {high:g}; if they are 0 to 255, pass picture.astype(np.uint8)."


def _advice(picture: NDArray[Any]) -> str:
    """Advice for another shape, where it is a known one."""
    shape = picture.shape
    if len(shape) == 4 and shape[0] == 1:
        return " This is a batch of one: pass picture[0]."
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 1):
        return " This is grey: pass np.repeat(picture.reshape(height, width, 1), 3, axis=2)."
    if len(shape) == 3 and shape[2] == 4:
        return " The fourth channel is alpha: pass picture[..., :3]."
    if len(shape) == 3 and shape[0] == 3:
        return " These are channels first: pass picture.transpose(1, 2, 0)."
    return ""


def _compressed(picture: NDArray[np.uint8], **options: Any) -> bytes:
    sink = io.BytesIO()
    try:
        PIL.Image.fromarray(np.ascontiguousarray(picture)).save(sink, **options)
    except (OSError, ValueError) as error:  # JPEG has at most 65,535 pixels a side
        kind = options["format"]
        raise ValueError(f"A picture of shape {picture.shape} cannot be written as {kind}: make it smaller.") from error
    return sink.getvalue()
