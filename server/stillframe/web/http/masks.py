"""The field `masks` of a frame: of a camera's picture, which pixels show what matters for the task.

Knows arrays and PNG; no camera's place and no policy. Sizes are judged before anything is decoded.
"""

from __future__ import annotations

import io
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from stillframe.domain import Image
from stillframe.errors import BadRequest, RequestError, Unprocessable, closest
from stillframe.web.http.image_headers import PNG_HEAD, peek_size
from stillframe.web.http.msgpack_values import UnsupportedValue
from stillframe.web.http.normalize import normalize_base64
from stillframe.web.http.parsing import Fields
from stillframe.web.http.problems import pointer
from stillframe_client.wire import WireError, decode_array, decode_base64

FORMS = "an array [height, width] of uint8, or a grey PNG (base64 in JSON, plain bytes in binary); 0: does not matter"
_GREY = ("1", "L")  # modes of a PNG

Mask = NDArray[np.bool_]


def read_masks(fields: Fields, pictures: Mapping[str, Image], keys: Mapping[str, str]) -> dict[str, Mask]:
    """Camera -> [height, width], True where it matters; none where the frame says none.

    `pictures` are the frame's own, by camera, and `keys` the client's names of them. A mask is as large as its picture.
    Raises RequestError with a pointer to what is wrong.
    """
    said = fields.get("masks")
    if said is None:
        return {}
    if not isinstance(said, Mapping) or "__numpy__" in said:
        detail = "'masks' has to be an object of cameras' names and masks, or null."
        raise BadRequest("bad-field", detail, pointer="/masks")
    cameras = {key: camera for camera, key in keys.items()}
    found: dict[str, Mask] = {}
    for key, value in said.items():
        camera = cameras.get(str(key), str(key))
        if camera not in pictures:
            names = [*keys.values()]
            detail = f"There is no picture {reprlib.repr(key)} to go with this mask; the frame has {', '.join(names)}."
            raise Unprocessable("unknown-camera", f"{detail}{closest(str(key), names)}", pointer="/masks")
        found[camera] = _mask(value, pictures[camera], pointer("masks", str(key)))
    return found


def _mask(value: Any, picture: Image, place: str) -> Mask:
    try:
        return _read(value, picture.shape[:2])
    except WireError as error:
        raise BadRequest("bad-codec", str(error), pointer=place) from error
    except RequestError as error:
        error.pointer = place
        raise


def _read(value: Any, size: tuple[int, ...]) -> Mask:
    if isinstance(value, np.ndarray):
        _check(value.shape, size)
        if value.dtype != np.uint8:
            raise Unprocessable("mask-invalid", f"The mask's dtype is {value.dtype}; expected {FORMS}.")
        return np.array(value != 0)
    if isinstance(value, Mapping) and "__numpy__" in value:
        shape = value.get("shape")
        _check(tuple(shape) if isinstance(shape, list) else shape, size)
        plain = {**value, "__numpy__": normalize_base64(value["__numpy__"])}
        return np.asarray(decode_array(plain, dtypes=("|u1",), max_bytes=size[0] * size[1]) != 0)
    if isinstance(value, str):
        value = decode_base64(normalize_base64(value.partition(",")[2] if value[:5].lower() == "data:" else value))
    if isinstance(value, bytes):
        return _png(value, size)
    why = f" {value.why}" if isinstance(value, UnsupportedValue) else ""
    raise Unprocessable("mask-invalid", f"The mask is no {FORMS}.{why}")


def _png(data: bytes, size: tuple[int, ...]) -> Mask:
    if not data.startswith(PNG_HEAD):
        raise Unprocessable("mask-invalid", f"The mask is no PNG; expected {FORMS}.")
    _check(peek_size(data), size)
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            mode, pixels = picture.mode, np.asarray(picture) if picture.mode in _GREY else None
    except Exception as error:
        raise Unprocessable("mask-invalid", "The mask's PNG is damaged or cut short; encode it again.") from error
    if pixels is None or pixels.shape != size:
        raise Unprocessable("mask-invalid", f"The mask's PNG is of mode {mode}; expected one grey channel, 1 or 8 bit.")
    return np.array(pixels != 0)


def _check(shape: Any, size: tuple[int, ...]) -> None:
    """Raise Unprocessable for another size than the picture's."""
    if shape != size:
        found = " x ".join(str(side) for side in shape) if isinstance(shape, tuple) and len(shape) < 5 else "no size"
        detail = f"The mask is {found}; its picture is {size[0]} x {size[1]}, and so its mask has to be."
        raise Unprocessable("mask-invalid", detail)
