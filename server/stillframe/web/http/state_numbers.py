"""Read the numbers of a robot's state, or of a part of it, in any form that a wire has for them.

Knows no policy: how many there have to be, and what each is, robot_state.py says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import BadRequest, Unprocessable
from stillframe.web.http.msgpack_values import UnsupportedValue
from stillframe.web.http.normalize import normalize_base64
from stillframe.web.http.problems import pointer
from stillframe_client.wire import MAX_STATE_NUMBERS, UnsupportedDtype, WireError, decode_array

_FINITE = "expected finite numbers: is the sensor's reading there?"
_FORMS = "a list or an array of numbers in the policy's order, or an object of its names and numbers"


def state_numbers(value: Any, place: str) -> NDArray[np.float64]:
    """Return a part of a state as float64 [n]: finite, and at most MAX_STATE_NUMBERS.

    A list, an array or a json_numpy object has them alone or as a batch of one. Raises Unprocessable (wrong-state) or
    BadRequest (bad-codec), with a pointer from `place` on.
    """
    if is_array(value):
        value = _decoded(value, place)
    if isinstance(value, np.ndarray):
        return _of_array(value, place)
    if isinstance(value, list):
        return _of_list(value[0] if len(value) == 1 and isinstance(value[0], list) else value, place)
    if _is_number(value):
        return _of_list([value], place)
    raise wrong_state(f"The state is {_kind(value)}; expected {_FORMS}.", place)


def state_number(value: Any, name: str, place: str) -> float:
    """Return the one number that a state has under a name, from a number or an array of one. Raises the same."""
    numbers = [_float(value)] if _is_number(value) else state_numbers(value, place)
    if len(numbers) != 1:
        raise wrong_state(f"{name!r} of the state is {counted(len(numbers))}; expected one.", place)
    if not math.isfinite(numbers[0]):
        raise wrong_state(f"{name!r} of the state is {numbers[0]}; {_FINITE}", place)
    return float(numbers[0])


def is_array(value: Any) -> bool:
    """Whether a mapping is an array in JSON: json_numpy's form, or that of C++ clients."""
    return isinstance(value, Mapping) and ("__numpy__" in value or "__ndarray__" in value)


def check_count(count: int, place: str) -> None:
    """Raise Unprocessable for more numbers than a state may have."""
    if count > MAX_STATE_NUMBERS:
        raise wrong_state(f"The state has {count} numbers; at most {MAX_STATE_NUMBERS} are accepted.", place)


def counted(count: int) -> str:
    """'1 number', '8 numbers'."""
    return f"{count} number{'s' * (count != 1)}"


def wrong_state(detail: str, place: str) -> Unprocessable:
    """The error for a state that is there and does not hold."""
    return Unprocessable("wrong-state", detail, pointer=place)


def _of_list(values: list[Any], place: str) -> NDArray[np.float64]:
    check_count(len(values), place)
    for at, value in enumerate(values):
        if not _is_number(value):
            raise wrong_state(f"Number {at} of the state is {_kind(value)}; expected a number.", place + pointer(at))
    return _finite(np.array([_float(value) for value in values], np.float64), place)


def _of_array(array: NDArray[Any], place: str) -> NDArray[np.float64]:
    if array.dtype.kind not in "fiu":
        raise wrong_state(f"The state is an array of {array.dtype.name}; expected numbers, such as float64.", place)
    flat = array[0] if array.ndim == 2 and len(array) == 1 else array.reshape(-1) if array.ndim == 0 else array
    if flat.ndim != 1:
        raise wrong_state(f"The state's shape is {array.shape}; expected (numbers,), or (1, numbers).", place)
    check_count(len(flat), place)
    return _finite(flat.astype(np.float64), place)


def _finite(numbers: NDArray[np.float64], place: str) -> NDArray[np.float64]:
    for at in np.flatnonzero(~np.isfinite(numbers)):
        raise wrong_state(f"Number {at} of the state is {numbers[at]}; {_FINITE}", place + pointer(at))
    return numbers


def _decoded(value: Mapping[str, Any], place: str) -> NDArray[Any]:
    """Decode a json_numpy array, or the same as C++ clients write it; its size is judged before its bytes."""
    if "__numpy__" not in value:
        value = {"__numpy__": value["__ndarray__"], "dtype": value.get("dtype"), "shape": value.get("shape")}
    value = {**value, "__numpy__": normalize_base64(value["__numpy__"])}
    try:
        return decode_array(value, max_bytes=MAX_STATE_NUMBERS * 8)
    except UnsupportedDtype as error:
        raise wrong_state(f"The state's {error}", place) from error
    except WireError as error:
        raise BadRequest("bad-codec", str(error), pointer=place) from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: float) -> float:
    """Return an int or float as float; one of hundreds of digits is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _kind(value: Any) -> str:
    if isinstance(value, UnsupportedValue):
        return f"an array that cannot be read: {value.why}"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return "a number"
    names = {bool: "a truth value", str: "text", bytes: "bytes", list: "a list", type(None): "null"}
    return names.get(type(value), "an object")
