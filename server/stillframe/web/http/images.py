"""Decode a picture (raw array, JPEG or PNG; in JSON or binary) into pixels.

Knows no camera and no model. Sizes are read from the header and checked before anything is decoded or allocated.
"""

from __future__ import annotations

import io
import reprlib
import warnings
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from stillframe.domain import Image
from stillframe.errors import BadRequest, RequestError, TooLarge, Unprocessable
from stillframe.web.http.image_headers import peek_size
from stillframe.web.http.limits import Limits
from stillframe.web.http.msgpack_values import UnsupportedValue
from stillframe.web.http.normalize import apply_orientation, normalize_base64
from stillframe_client.wire import UnsupportedDtype, WireError, decode_array, decode_base64

_FORMS = "an array of raw pixels, or JPEG or PNG (base64 in JSON, plain bytes in binary)"
_DTYPE_NAMES = {"uint8": "|u1", "u1": "|u1"}  # as C++ clients write it
_MODES = ("RGB", "RGBA", "L")  # 8-bit colour (transparency is dropped) and 8-bit grey
_CHANNELS = (3, 4)  # of an array; a fourth is transparency, dropped as well


def prepare_pillow() -> None:
    """Configure Pillow for this process: a decompression bomb is an error, codecs are loaded now.

    By default it only warns, and the first frame waits some ten milliseconds for the codecs. Its other warnings, as of
    damaged EXIF, are about clients' files and not logged.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
    PIL.Image.preinit()


def read_picture(value: Any, limits: Limits, pointer: str) -> Image:
    """Read one picture into [height, width, 3] uint8 RGB.

    A json_numpy object or an array holds raw pixels; a string holds base64 JPEG or PNG, bare or as a data: URI; bytes
    hold JPEG or PNG. Transparency is dropped, and a file is turned the way it says is up. Raises RequestError with
    `pointer`.
    """
    try:
        if isinstance(value, UnsupportedValue):
            raise UnsupportedDtype(f"{value.why} A picture is {_FORMS}.")
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
    height, width, _ = _checked_shape(list(array.shape))
    if array.dtype != np.uint8:
        raise UnsupportedDtype(f"dtype is {array.dtype}; expected uint8 with values from 0 to 255.")
    _check_size(height, width, limits)
    return np.array(array.reshape(array.shape[-3:])[..., :3], order="C")


def _raw(value: dict[str, Any], limits: Limits) -> Image:
    """Read a json_numpy array, or the same as C++ clients write it; shape and limits are judged before its bytes."""
    if "__numpy__" not in value:
        dtype = _DTYPE_NAMES.get(str(value.get("dtype")), value.get("dtype"))
        value = {"__numpy__": value["__ndarray__"], "dtype": dtype, "shape": value.get("shape")}
    height, width, channels = _checked_shape(value.get("shape"))
    _check_size(height, width, limits)
    value = {**value, "__numpy__": normalize_base64(value["__numpy__"])}
    pixels = decode_array(value, dtypes=("|u1",), max_bytes=limits.max_image_pixels * 4)
    plain = pixels.shape == (height, width, 3)
    return pixels if plain else np.array(pixels.reshape(height, width, channels)[..., :3], order="C")


def _checked_shape(shape: Any) -> tuple[int, int, int]:
    """Height, width and channels of a picture, alone or as a batch of one. Raises Unprocessable with what was found."""
    numbers = isinstance(shape, list) and {type(size) for size in shape} == {int}
    sides = (shape[1:] if len(shape) == 4 and shape[0] == 1 else shape) if numbers else []
    if len(sides) == 3 and sides[2] in _CHANNELS:
        return sides[0], sides[1], sides[2]
    found = reprlib.repr(tuple(shape) if isinstance(shape, list) else shape)
    detail = f"The array's shape is {found}; expected (height, width, 3): RGB, channels last"
    if len(sides) == 2:
        detail += ", and grey three times over"
    if len(sides) == 3 and sides[0] in _CHANNELS:
        detail += "; here they come first"
    raise Unprocessable("image-invalid", detail + ".")


def _payload(text: str) -> bytes:
    """Return the bytes of a bare base64 string or of a data: URI, of whatever type. Nothing is ever fetched."""
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if head.rpartition(";")[2].strip().lower() != "base64":
            raise Unprocessable("image-invalid", "The data: URI is not in base64; expected data:image/jpeg;base64,...")
    elif "://" in text[:64]:
        raise Unprocessable("image-invalid", f"The picture is an address; nothing is fetched. Send {_FORMS}.")
    return decode_base64(normalize_base64(text))


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
        return np.array(apply_orientation(picture).convert("RGB"))


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
