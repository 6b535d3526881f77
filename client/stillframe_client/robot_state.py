"""Checks a robot's state (proprioception) before it is sent: numbers in the policy's order, or by name.

Knows no policy: how many numbers one reads, and under which names, the daemon judges; `ModelInfo.state` says it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence, Union

import numpy as np

from stillframe_client.wire.names import MAX_STATE_NUMBERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    State = Union[NDArray[Any], Sequence[float], Mapping[str, float]]

_EXPECTED = "expected a list or an array of numbers in the policy's order, or a mapping from its names to numbers"


def state_field(name: str, value: Any) -> Union[List[float], Dict[str, float]]:
    """Return a state as plain float64 numbers, by name where it was. An array may be a batch of one, [1, n].

    Raises ValueError for anything else: text, truth values, NaN, infinity, more than MAX_STATE_NUMBERS.
    """
    if isinstance(value, Mapping):
        _check_count(name, len(value))
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{name} has a name of type {type(key).__name__}; expected text (str).")
        return {str(key): _number(f"{name}[{str(key)!r}]", number) for key, number in value.items()}
    return [_number(f"{name}[{at}]", number) for at, number in enumerate(_items(name, value))]


def _items(name: str, value: Any) -> Sequence[Any]:
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiu":
            raise ValueError(f"{name} is an array of {value.dtype}; {_EXPECTED}.")
        flat = value[0] if value.ndim == 2 and len(value) == 1 else value
        if flat.ndim != 1:
            raise ValueError(f"{name} has shape {value.shape}; expected (numbers,), or (1, numbers).")
        value = list(flat)
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} is of type {type(value).__name__}; {_EXPECTED}.")
    _check_count(name, len(value))
    return value


def _check_count(name: str, count: int) -> None:
    if count > MAX_STATE_NUMBERS:
        raise ValueError(f"{name} has {count} numbers; at most {MAX_STATE_NUMBERS} can be sent.")


def _number(name: str, value: Any) -> float:
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "fiu":
        value = value.reshape(-1)[0]
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise ValueError(f"{name} is of type {type(value).__name__}; expected a number.")
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}; expected a finite number: is the sensor's reading there?")
    return number
