"""What LIBERO's small policies are told, and how their numbers are scaled.

Knows the suites' instructions and the simulator's ranges; no demonstration and no network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.models.actions import ActionScale, Statistics
from stillframe.models.state import STATISTICS
from stillframe_lab.libero.pictures import Vector

_BOWLS = (
    "between the plate and the ramekin",
    "next to the ramekin",
    "from table center",
    "on the cookie box",
    "in the top drawer of the wooden cabinet",
    "on the ramekin",
    "next to the cookie box",
    "on the stove",
    "next to the plate",
    "on the wooden cabinet",
)
_THINGS = (
    "alphabet soup",
    "cream cheese",
    "salad dressing",
    "bbq sauce",
    "ketchup",
    "tomato sauce",
    "butter",
    "milk",
    "chocolate pudding",
    "orange juice",
)
# Suite -> the instruction of each of its tasks.
INSTRUCTIONS: Mapping[str, Sequence[str]] = {
    "libero_spatial": [f"pick up the black bowl {where} and place it on the plate" for where in _BOWLS],
    "libero_object": [f"pick up the {thing} and place it in the basket" for thing in _THINGS],
}
WORDS = [*dict.fromkeys(word for suite in INSTRUCTIONS.values() for text in suite for word in text.split(" "))]
STATE_NAMES = ("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "finger_left", "finger_right")
STATE_UNITS = ("m", "m", "m", "rad", "rad", "rad", "m", "m")
ACTION_LIMIT = (1.0, 1.0, 1.0, 0.5, 0.5, 0.5)  # of the simulator's commands; the experts turn at half speed at most
CONFIG = {"libero_pictures": "fast"}  # of config.json: what `stillframe eval --suite` is to draw
ENDS = (0.01, 0.99)  # of the state, in the demonstrations
SLACK = 0.1  # of that range, beyond both ends


def action_statistics(suite: str) -> dict[str, Any]:
    """q01 and q99 are the ends of what experts do; the gripper (0 closes, 1 opens) passes through."""
    low, high = [-end for end in ACTION_LIMIT] + [0.0], [*ACTION_LIMIT, 1.0]
    return {suite: {"action": {"q01": low, "q99": high, "mask": [True] * 6 + [False]}}}


def action_scale(suite: str) -> ActionScale:
    """The scale that policies answer in."""
    return Statistics(action_statistics(suite)).scales[suite]


def as_answered(actions: NDArray[np.float32], suite: str) -> NDArray[np.float32]:
    """Actions [..., 7] of the simulator, normalised as a policy says them: the gripper 1 open, 0 closed."""
    turned = np.concatenate([actions[..., :6], (1 - actions[..., 6:]) / 2], axis=-1)
    return action_scale(suite).normalise(turned).astype(np.float32)


def with_state(statistics: Mapping[str, Any], suite: str, states: Vector) -> dict[str, Any]:
    """The statistics with those of the state, of what demonstrations [states, 8] have."""
    low, high = np.quantile(states, ENDS, axis=0)
    slack = SLACK * (high - low)
    ends = {"q01": (low - slack).round(4).tolist(), "q99": (high + slack).round(4).tolist()}
    return {suite: {**statistics[suite], STATISTICS: {**ends, "mask": [True] * len(low)}}}
