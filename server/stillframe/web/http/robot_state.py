"""Read a robot's state (proprioception): numbers in the policy's order, or by its names for them.

Knows which numbers a policy reads; no dialect, no statistics, and nothing of what a number means.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import StateInfo
from stillframe.errors import BadRequest, Unprocessable, closest
from stillframe.web.http.msgpack_values import UnsupportedValue
from stillframe.web.http.normalize import normalize_base64
from stillframe.web.http.problems import pointer
from stillframe_client.wire import MAX_STATE_NUMBERS, UnsupportedDtype, WireError, decode_array

PLACE = "/state"
_LISTED = 16  # names in an error
_FINITE = "expected finite numbers: is the sensor's reading there?"
_FORMS = "a list or an array of numbers in the policy's order, or an object of its names and numbers"


def read_state(value: Any, reads: StateInfo, place: str = PLACE) -> NDArray[np.float64]:
    """Return the numbers that the policy reads, [len(reads.names)] in its order.

    A list, an array or a json_numpy object holds them in that order, alone or as a batch of one; any other mapping has
    them by name. Raises Unprocessable (wrong-state) or BadRequest (bad-codec), with a pointer from `place` on.
    """
    if isinstance(value, Mapping) and not _is_array(value):
        return _by_name(value, reads, place)
    numbers = state_numbers(value, place)
    if len(numbers) != len(reads.names):
        raise _wrong(f"The state has {_counted(len(numbers))}; this policy reads {expected_state(reads)}.", place)
    return numbers


def state_numbers(value: Any, place: str) -> NDArray[np.float64]:
    """Return a part of a state as float64 [n]: finite, and at most MAX_STATE_NUMBERS. Raises as read_state does."""
    if isinstance(value, Mapping) and _is_array(value):
        value = _decoded(value, place)
    if isinstance(value, np.ndarray):
        return _of_array(value, place)
    if isinstance(value, list):
        return _of_list(value[0] if len(value) == 1 and isinstance(value[0], list) else value, place)
    if _is_number(value):
        return _of_list([value], place)
    raise _wrong(f"The state is {_kind(value)}; expected {_FORMS}.", place)


def missing_state(reads: StateInfo) -> Unprocessable:
    """The error for a frame without a state, where the policy reads one."""
    detail = f"This policy reads the robot's state, and the frame has none; send 'state', {expected_state(reads)}."
    return Unprocessable("missing-state", detail, pointer=PLACE)


def expected_state(reads: StateInfo) -> str:
    """Name what a policy reads: '8 numbers: x [m], y [m], ...'."""
    named = [f"{name} [{unit}]" if unit else name for name, unit in zip(reads.names, reads.units, strict=True)]
    return f"{_counted(len(named))}: {_listed(named)}"


def _by_name(value: Mapping[str, Any], reads: StateInfo, place: str) -> NDArray[np.float64]:
    _check_count(len(value), place)
    unknown = [name for name in value if name not in reads.names]
    missing = [name for name in reads.names if name not in value]
    if unknown or missing:
        faults = [f"{what} {_listed(map(reprlib.repr, names))}" for what, names in _faults(unknown, missing) if names]
        hint = closest(unknown[0], missing) if unknown else ""
        raise _wrong(f"The state {', and '.join(faults)}; this policy reads {expected_state(reads)}.{hint}", place)
    return np.array([_one(value[name], name, place) for name in reads.names], np.float64)


def _faults(unknown: list[str], missing: list[str]) -> Iterable[tuple[str, list[str]]]:
    return ("has unknown names", unknown), ("lacks", missing)


def _one(value: Any, name: str, place: str) -> float:
    at = place + pointer(name)
    numbers = [_float(value)] if _is_number(value) else state_numbers(value, at)
    if len(numbers) != 1:
        raise _wrong(f"{name!r} of the state is {_counted(len(numbers))}; expected one.", at)
    if not math.isfinite(numbers[0]):
        raise _wrong(f"{name!r} of the state is {numbers[0]}; {_FINITE}", at)
    return float(numbers[0])


def _of_list(values: list[Any], place: str) -> NDArray[np.float64]:
    _check_count(len(values), place)
    for at, value in enumerate(values):
        if not _is_number(value):
            raise _wrong(f"Number {at} of the state is {_kind(value)}; expected a number.", place + pointer(at))
    return _finite(np.array([_float(value) for value in values], np.float64), place)


def _of_array(array: NDArray[Any], place: str) -> NDArray[np.float64]:
    if array.dtype.kind not in "fiu":
        raise _wrong(f"The state is an array of {array.dtype.name}; expected numbers, such as float64.", place)
    flat = array[0] if array.ndim == 2 and len(array) == 1 else array.reshape(-1) if array.ndim == 0 else array
    if flat.ndim != 1:
        raise _wrong(f"The state's shape is {array.shape}; expected (numbers,), or (1, numbers).", place)
    _check_count(len(flat), place)
    return _finite(flat.astype(np.float64), place)


def _finite(numbers: NDArray[np.float64], place: str) -> NDArray[np.float64]:
    for at in np.flatnonzero(~np.isfinite(numbers)):
        raise _wrong(f"Number {at} of the state is {numbers[at]}; {_FINITE}", place + pointer(at))
    return numbers


def _decoded(value: Mapping[str, Any], place: str) -> NDArray[Any]:
    """Decode a json_numpy array, or the same as C++ clients write it; its size is judged before its bytes."""
    if "__numpy__" not in value:
        value = {"__numpy__": value["__ndarray__"], "dtype": value.get("dtype"), "shape": value.get("shape")}
    value = {**value, "__numpy__": normalize_base64(value["__numpy__"])}
    try:
        return decode_array(value, max_bytes=MAX_STATE_NUMBERS * 8)
    except UnsupportedDtype as error:
        raise _wrong(f"The state's {error}", place) from error
    except WireError as error:
        raise BadRequest("bad-codec", str(error), pointer=place) from error


def _is_array(value: Mapping[str, Any]) -> bool:
    return "__numpy__" in value or "__ndarray__" in value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: float) -> float:
    """Return an int or float as float; one of hundreds of digits is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _check_count(count: int, place: str) -> None:
    if count > MAX_STATE_NUMBERS:
        raise _wrong(f"The state has {count} numbers; at most {MAX_STATE_NUMBERS} are accepted.", place)


def _kind(value: Any) -> str:
    if isinstance(value, UnsupportedValue):
        return f"an array that cannot be read: {value.why}"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return "a number"
    names = {bool: "a truth value", str: "text", bytes: "bytes", list: "a list", type(None): "null"}
    return names.get(type(value), "an object")


def _counted(count: int) -> str:
    return f"{count} number{'s' * (count != 1)}"


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(shown[:_LISTED]) + more


def _wrong(detail: str, place: str) -> Unprocessable:
    return Unprocessable("wrong-state", detail, pointer=place)
