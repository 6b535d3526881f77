"""Between which numbers an answer's numbers lie, and which end of the gripper is open: the statistics decide.

Knows statistics; no route.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stillframe.domain import PolicyInfo

GRIPPER = "gripper"  # an action's number of that name


def gripper_words(info: PolicyInfo) -> str:
    """Which end is open, in the numbers that answers hold: a data set's statistics may scale 0 and 1 to others.

    Of the default's; without a default, of each kind that there is, with its data sets where there are several.
    """
    keys = list(info.norm_stats) if info.default_unnorm_key is None else [info.default_unnorm_key]
    if GRIPPER not in info.action_names or not keys:
        return info.gripper
    at = info.action_names.index(GRIPPER)
    alike: dict[str, list[str]] = {}
    for key in keys:
        alike.setdefault(_in_numbers(info.gripper, gripper_range(info.norm_stats[key], at)), []).append(key)
    if len(alike) == 1:
        return next(iter(alike))
    return "; ".join(f"{said} ({', '.join(of)})" for said, of in alike.items())


def _in_numbers(words: str, ends: tuple[float, float]) -> str:
    """'0 = close, 1 = open' in the numbers of a data set's range."""
    return re.sub(r"\b([01])(?= =)", lambda end: f"{ends[int(end[1])]:g}", words)


def gripper_range(entry: Mapping[str, Any], at: int) -> tuple[float, float]:
    """From what is 0 to what is 1 in the words for it."""
    return number_range(entry, at, (0.0, 1.0))


def number_range(entry: Mapping[str, Any], at: int, plain: tuple[float, float]) -> tuple[float, float]:
    """Of one number of an action: q01 and q99 where the data set scales it, else `plain`."""
    mask = entry.get("mask") or [True] * len(entry["q01"])
    return (float(entry["q01"][at]), float(entry["q99"][at])) if at < len(mask) and mask[at] else plain
