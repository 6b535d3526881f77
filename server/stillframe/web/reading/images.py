"""Turns a picture as it was sent (raw array, JPEG, PNG; in JSON or in binary) into pixels.

Knows no camera and no model. Sizes are read from the header and judged before anything is decoded or allocated.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from stillframe.domain import Image
from stillframe.errors import BadRequest, RequestError, TooLarge, Unprocessable
from stillframe.web.limits import Limits
from stillframe.web.reading.headers import peek_size
from stillframe_client.wire import UnsupportedDtype, WireError, decode_array, decode_base64

_FORMS = "an array of raw pixels, or JPEG or PNG (base64 in JSON, plain bytes in binary)"
_DTYPE_NAMES = {"uint8": "|u1", "u1": "|u1"}  # as C++ clients write it
_MODES = ("RGB", "RGBA", "L")  # 8-bit colour (transparency is dropped) and 8-bit grey


def prepare_pillow() -> None:
    """Set Pillow up for this process: its decompression-bomb warning becomes an error, its codecs are loaded now.

    By default it only warns, and the first frame waits some ten milliseconds for the codecs.
    """
    warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
    PIL.Image.preinit()


def read_picture(value: Any, limits: Limits, pointer: str) -> Image:
    """Read one picture into [height, width, 3] uint8 RGB.

    A json_numpy object or an array holds raw pixels; a string holds base64 JPEG or PNG, bare or as a data: URI; bytes
    hold JPEG or PNG. Raises RequestError with `pointer`.
    """
    try:
        if isinstance(value, np.ndarray):
            return _pixels(value, limits)
        if isinstance(value, dict) and ("__numpy__" in value or "__ndarray__" in value):
            return _raw(value, limits)
        if isinstance(value, str):
            return _compressed(_payload(value), limits)
        if isinstance(value, bytes):
            return _compressed(value, limits)
        raise Unprocessable("image-invalid", f"The picture is {_kind(value)}; expected {_FORMS}.")
    except UnsupportedDtype as error:
        raise Unprocessable("unsupported-dtype", str(error), pointer=pointer) from error
    except WireError as error:
        raise BadRequest("bad-codec", str(error), pointer=pointer) from error
    except RequestError as error:
        error.pointer = pointer
        raise


def _pixels(array: NDArray[Any], limits: Limits) -> Image:
    """Check an array that a binary message held, and take a copy: the message goes away."""
    if array.ndim != 3 or array.shape[2] != 3:
        raise Unprocessable("image-invalid", "The array's shape is not (height, width, 3): RGB, channels last.")
    if array.dtype != np.uint8:
        raise UnsupportedDtype(f"dtype is {array.dtype}; expected uint8 with values from 0 to 255.")
    _check_size(array.shape[0], array.shape[1], limits)
    return np.array(array, order="C")


def _raw(value: dict[str, Any], limits: Limits) -> Image:
    """Read a json_numpy array, or the same as C++ clients write it; shape and limits are judged before its bytes."""
    if "__numpy__" not in value:
        dtype = _DTYPE_NAMES.get(str(value.get("dtype")), value.get("dtype"))
        value = {"__numpy__": value["__ndarray__"], "dtype": dtype, "shape": value.get("shape")}
    shape = value.get("shape")
    if not isinstance(shape, list) or len(shape) != 3 or shape[2] != 3 or {type(size) for size in shape} != {int}:
        raise Unprocessable("image-invalid", "The array's shape is not (height, width, 3): RGB, channels last.")
    _check_size(shape[0], shape[1], limits)
    return decode_array(value, dtypes=("|u1",), max_bytes=limits.max_image_pixels * 3)


def _payload(text: str) -> bytes:
    """Return the bytes of a bare base64 string or of a data: URI. Nothing is ever fetched."""
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if head not in ("data:image/jpeg;base64", "data:image/png;base64"):
            raise Unprocessable("image-invalid", "The data: URI is neither image/jpeg;base64 nor image/png;base64.")
    elif "://" in text[:64]:
        raise Unprocessable("image-invalid", f"The picture is an address; nothing is fetched. Send {_FORMS}.")
    return decode_base64(text)


def _compressed(data: bytes, limits: Limits) -> Image:
    height, width = peek_size(data)
    _check_size(height, width, limits)
    try:
        return _decode(data, (height, width))
    except RequestError:
        raise
    except Exception as error:
        raise Unprocessable("image-invalid", "The JPEG or PNG is damaged or cut short; encode it again.") from error


def _decode(data: bytes, size: tuple[int, int]) -> Image:
    with PIL.Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
        if (picture.height, picture.width) != size:
            raise Unprocessable("image-invalid", "The picture's headers disagree about its size.")
        if picture.mode not in _MODES:
            raise Unprocessable("image-invalid", "The picture is not 8-bit RGB, RGBA or grey; convert it to RGB.")
        return np.array(picture.convert("RGB"))


def _check_size(height: int, width: int, limits: Limits) -> None:
    if height * width > limits.max_image_pixels or max(height, width) > limits.max_image_side_px:
        most = f"{limits.max_image_pixels} pixels and {limits.max_image_side_px} on a side"
        raise TooLarge("image-too-large", f"The picture is {height} x {width}; at most {most} are accepted.")
    if min(height, width) < limits.min_image_side_px:
        least = limits.min_image_side_px
        raise Unprocessable("image-invalid", f"The picture is {height} x {width}; expected at least {least} on a side.")


def _kind(value: Any) -> str:
    names = {dict: "an object without __numpy__", bool: "a truth value", list: "a list of numbers", type(None): "null"}
    return names.get(type(value), "a number or a truth value")
