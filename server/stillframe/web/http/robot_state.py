"""Read a robot's state (proprioception): numbers in the policy's order, or by its names for them.

Knows which numbers a policy reads; no dialect, no statistics, and nothing of what a number means.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import StateInfo
from stillframe.errors import Unprocessable, closest
from stillframe.web.http.problems import pointer
from stillframe.web.http.state_numbers import check_count, counted, is_array, state_number, state_numbers, wrong_state

PLACE = "/state"
_LISTED = 16  # names in an error


def read_state(value: Any, reads: StateInfo, place: str = PLACE) -> NDArray[np.float64]:
    """Return the numbers that the policy reads, [len(reads.names)] in its order.

    A list, an array or a json_numpy object holds them in that order, alone or as a batch of one; any other mapping has
    them by name. Raises Unprocessable (wrong-state) or BadRequest (bad-codec), with a pointer from `place` on.
    """
    if isinstance(value, Mapping) and not is_array(value):
        return _by_name(value, reads, place)
    numbers = state_numbers(value, place)
    if len(numbers) != len(reads.names):
        raise wrong_state(f"The state has {counted(len(numbers))}; this policy reads {expected_state(reads)}.", place)
    return numbers


def missing_state(reads: StateInfo) -> Unprocessable:
    """The error for a frame without a state, where the policy reads one."""
    detail = f"This policy reads the robot's state, and the frame has none; send 'state', {expected_state(reads)}."
    return Unprocessable("missing-state", detail, pointer=PLACE)


def expected_state(reads: StateInfo) -> str:
    """Name what a policy reads: '8 numbers: x [m], y [m], ...'."""
    named = [f"{name} [{unit}]" if unit else name for name, unit in zip(reads.names, reads.units, strict=True)]
    return f"{counted(len(named))}: {_listed(named)}"


def _by_name(value: Mapping[str, Any], reads: StateInfo, place: str) -> NDArray[np.float64]:
    check_count(len(value), place)
    unknown = [name for name in value if name not in reads.names]
    missing = [name for name in reads.names if name not in value]
    if unknown or missing:
        faults = [f"{what} {_listed(map(reprlib.repr, names))}" for what, names in _faults(unknown, missing) if names]
        hint = closest(unknown[0], missing) if unknown else ""
        raise wrong_state(f"The state {', and '.join(faults)}; this policy reads {expected_state(reads)}.{hint}", place)
    return np.array([state_number(value[name], name, place + pointer(name)) for name in reads.names], np.float64)


def _faults(unknown: list[str], missing: list[str]) -> Iterable[tuple[str, list[str]]]:
    return ("has unknown names", unknown), ("lacks", missing)


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(shown[:_LISTED]) + more
