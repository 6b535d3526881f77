"""Ranges of an action's numbers and which end of the gripper is open, from the statistics.

Knows statistics; no route.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stillframe.domain import PolicyInfo

GRIPPER = "gripper"  # an action's number of that name


def gripper_meaning(info: PolicyInfo) -> str:
    """Return which gripper value is open, in un-normalised numbers: statistics may scale 0 and 1 to others.

    For the default key; without one, for each distinct meaning, with its data sets.
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
    """Return the numbers for 0 and 1 of the gripper."""
    return action_range(entry, at, (0.0, 1.0))


def action_range(entry: Mapping[str, Any], at: int, plain: tuple[float, float]) -> tuple[float, float]:
    """Return the range of one action number: q01 to q99 where it is scaled, else `plain`."""
    mask = entry.get("mask") or [True] * len(entry["q01"])
    return (float(entry["q01"][at]), float(entry["q99"][at])) if at < len(mask) and mask[at] else plain
