"""Whether a data set's statistics can scale an action: finite numbers in order, of a robot's magnitude, not all equal.

Knows lists of JSON; no tensors, no family.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import CheckpointError
from stillframe.files.kinds import shown

LOG = logging.getLogger(__name__)
ENDS = ("q01", "q99")  # of what demonstrations did: -1 and 1 of the normalised range
MOST = 1e6  # of any robot's units: ticks of an encoder, millimetres, degrees


def numbers(
    key: str, name: str, values: Any, *, part: str = "action", names: tuple[str, str] = ENDS
) -> NDArray[np.float64]:
    """`part`.`name` of data set `key`, a list of plain finite numbers: JSON's true and "0.5" are none."""
    expected = f"expected {part}.{names[0]} and {part}.{names[1]}, lists of numbers"
    if not isinstance(values, list | tuple) or not values or any(isinstance(value, list | dict) for value in values):
        raise CheckpointError(f"statistics {shown(key)!r}: {expected}")
    for dimension, value in enumerate(values):
        if type(value) not in (int, float):
            raise CheckpointError(
                f"statistics {shown(key)!r}: {expected}; {name} of dimension {dimension} is {shown(repr(value))}"
            )
        if not abs(value) <= MOST:  # not a number is not less either
            raise CheckpointError(
                f"statistics {shown(key)!r}: {name} of dimension {dimension} is {shown(value)}; "
                f"expected a number of at most {MOST:g}: compute the statistics again, from data without gaps"
            )
    return np.asarray(values, np.float64)


def mask_of(key: str, values: Any) -> NDArray[np.bool_]:
    """action.mask of data set `key`: which dimensions are scaled."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, bool) for value in values):
        raise CheckpointError(
            f"statistics {shown(key)!r}: mask is {shown(repr(values))}; expected a list of true and false"
        )
    return np.asarray(values, np.bool_)


def check_span(
    key: str,
    q01: NDArray[np.float64],
    q99: NDArray[np.float64],
    mask: NDArray[np.bool_],
    names: tuple[str, str] = ENDS,
) -> None:
    """Refuse what would mirror the arm's motion, or leave none. One constant dimension of several is fine."""
    for dimension in np.flatnonzero(mask & (q01 > q99)):
        raise CheckpointError(
            f"statistics {shown(key)!r}: dimension {dimension} has {names[0]} {q01[dimension]} "
            f"above {names[1]} {q99[dimension]}; expected the lower first, for actions would be mirrored"
        )
    if mask.any() and bool((q01 == q99)[mask].all()):
        raise CheckpointError(
            f"statistics {shown(key)!r}: {names[0]} and {names[1]} are equal in every dimension that is scaled, "
            f"{q01[mask].tolist()}; the arm would never move: compute the statistics again, from episodes where it does"
        )


def log_differences(folder: Path, chosen: Mapping[str, Any], inside: Mapping[str, Any]) -> None:
    """Log where statistics beside a checkpoint scale actions differently from those `inside` its config.json."""
    differing = [key for key in sorted({*chosen, *inside}) if _scaling(chosen.get(key)) != _scaling(inside.get(key))]
    if inside and differing:
        used, left = shown(", ".join(chosen)), shown(", ".join(differing))
        text = (
            "%s: dataset_statistics.json (%s) scales actions; norm_stats in config.json differ in %s and are not used"
        )
        LOG.warning(text, folder, used, left)


def _scaling(entry: Any) -> Any:
    """What scales actions in a data set's entry, not yet checked."""
    action = entry.get("action") if isinstance(entry, Mapping) else None
    return [action.get(key) for key in ("q01", "q99", "mask")] if isinstance(action, Mapping) else action
