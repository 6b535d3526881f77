"""A robot's state as a policy reads it: so many numbers, scaled by a data set's statistics, clipped to [-1, 1].

Knows numbers and statistics; no tensor of a network, no family. Source: OpenVLA-OFT's normalize_proprio.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import StateInfo
from stillframe.errors import CheckpointError, Unprocessable
from stillframe.files.kinds import shown
from stillframe.models.scales import mask_of, numbers

POINTER = "/state"
STATISTICS = "proprio"  # their name in a data set's entry
NAMED = 16  # numbers that an error names


class Scaling(Protocol):
    """What makes a state's numbers normal; `low` and `high` are the contract's ends of each, `mask` which have any."""

    @property
    def low(self) -> NDArray[np.float64]: ...  # noqa: D102 (as above)
    @property
    def high(self) -> NDArray[np.float64]: ...  # noqa: D102
    @property
    def mask(self) -> NDArray[np.bool_]: ...  # noqa: D102
    def normalise(self, state: NDArray[np.float64]) -> NDArray[np.float64]: ...  # noqa: D102


@dataclass(frozen=True)
class StateScale:
    """One data set's ends of each number; those that are not masked pass through."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mask: NDArray[np.bool_]
    slack: float = 1e-8  # that the reference adds to each range

    def normalise(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        """[numbers] in the robot's units -> [-1, 1], all of them clipped."""
        with np.errstate(over="ignore"):  # of a range next to nothing: clipped
            scaled = 2 * (state - self.low) / (self.high - self.low + self.slack) - 1
        return np.clip(np.where(self.mask, scaled, state), -1.0, 1.0)


class StateReader:
    """What one policy reads of a state."""

    def __init__(self, names: Sequence[str], units: Sequence[str], scales: Mapping[str, Scaling]):
        """`names` and `units` of each number; `scales` by unnorm_key."""
        self._names = tuple(names)
        self._units = tuple(units)
        self._scales = dict(scales)

    @property
    def info(self) -> StateInfo:
        """For the contract."""
        stats = {
            key: {"low": scale.low.tolist(), "high": scale.high.tolist(), "mask": scale.mask.tolist()}
            for key, scale in self._scales.items()
        }
        return StateInfo(self._names, self._units, stats)

    def read(self, state: NDArray[np.float64] | None, unnorm_key: str) -> NDArray[np.float64]:
        """Check a state and scale it. Raises Unprocessable, which names the numbers that it reads."""
        if state is None:
            detail = f"this policy reads the robot's state, and the frame has none; send {self._expected}"
            raise Unprocessable("missing-state", detail, pointer=POINTER)
        given = np.asarray(state)
        if given.shape != (len(self._names),) or given.dtype.kind not in "fiu":
            found = f"{len(given)} numbers" if given.ndim == 1 and given.dtype.kind in "fiu" else _described(given)
            detail = f"the state is {found}; this policy reads {self._expected}"
            raise Unprocessable("wrong-state", detail, pointer=POINTER)
        for at, number in enumerate(given.tolist()):
            if not np.isfinite(number):
                detail = f"number {at} of the state, {self._names[at]}, is {number}; expected {self._expected}, finite"
                raise Unprocessable("wrong-state", detail, pointer=f"{POINTER}/{at}")
        return self._scales[unnorm_key].normalise(given.astype(np.float64))

    @property
    def _expected(self) -> str:
        """'8 numbers: x [m], y [m], ...'."""
        named = [f"{name} [{unit}]" if unit else name for name, unit in zip(self._names, self._units, strict=True)]
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        return f"{len(named)} numbers: {', '.join(named[:NAMED])}{more}"


def state_scales(norm_stats: Mapping[str, Any], size: int, ends: tuple[str, str]) -> dict[str, StateScale]:
    """Read what scales a state of `size` numbers in every data set. CheckpointError for one that lacks it.

    `ends`: the names of the statistics that become -1 and 1.
    """
    return {key: _scale(key, entry, size, ends) for key, entry in norm_stats.items()}


def _scale(key: str, entry: Any, size: int, ends: tuple[str, str]) -> StateScale:
    found = entry.get(STATISTICS) if isinstance(entry, Mapping) else None
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f"statistics {shown(key)!r} have no {STATISTICS!r}, but the policy reads a state of {size} numbers; "
            "put the dataset_statistics.json beside the weights that training wrote"
        )
    low, high = (numbers(key, name, found.get(name), part=STATISTICS, names=ends) for name in ends)
    mask = mask_of(key, found.get("mask", [True] * len(low)))
    if not len(low) == len(high) == len(mask) == size:
        lengths = f"{len(low)}, {len(high)} and {len(mask)} numbers"
        raise CheckpointError(
            f"statistics {shown(key)!r}: {STATISTICS}.{ends[0]}, {ends[1]} and mask have {lengths}; the state's "
            f"projector takes {size}: check that statistics and weights belong together"
        )
    for at in np.flatnonzero(mask & (low > high)):
        raise CheckpointError(
            f"statistics {shown(key)!r}: number {at} of the state has {ends[0]} {low[at]} above {ends[1]} {high[at]}; "
            "expected the lower first, for the state would be mirrored"
        )
    return StateScale(low, high, mask)


def _described(given: NDArray[Any]) -> str:
    return f"an array of shape {given.shape} of {reprlib.repr(given.dtype.name)}"
