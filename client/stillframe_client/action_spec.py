"""ActionSpec: the shape and magnitude that a reply's actions may have.

Knows no connection and no robot. It is no safety limit: a robot's own limits belong to its driver.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, List, Mapping, Optional

import numpy as np

from stillframe_client.actions import is_number
from stillframe_client.errors import BadReply
from stillframe_client.replies import ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

ACTION_DIM = 7  # of the wire's contract, where nothing else was named: dx, dy, dz, droll, dpitch, dyaw, gripper
MAX_HORIZON = 1024  # actions of a chunk, where the daemon named no horizon
MAX_ACTION_DIM = 1024
MAX_MAGNITUDE = 1e6  # metres, radians, or whatever the robot's units are
_STATISTICS = ("q01", "q99", "min", "max", "mean", "std")


@dataclass(frozen=True)
class ActionSpec:
    """The actions' dimensions and largest magnitude; None: not known."""

    action_dim: Optional[int] = None
    horizon: int = MAX_HORIZON
    magnitude: float = MAX_MAGNITUDE  # the largest that a number may be, either way

    def check(self, actions: NDArray[np.float64]) -> None:
        """Raise BadReply for actions [horizon, action_dim] outside the spec."""
        horizon, action_dim = actions.shape
        if action_dim != (self.action_dim or action_dim) or action_dim > MAX_ACTION_DIM:
            expected = f"{self.action_dim}, as was named" if self.action_dim else f"at most {MAX_ACTION_DIM}"
            raise BadReply(
                f"An action of the answer has {action_dim} numbers; expected {expected}. If another policy is served "
                "now, call info(), or make a new client."
            )
        if horizon > self.horizon:
            raise BadReply(f"The answer holds {horizon} actions; expected at most {self.horizon}.")
        largest = float(np.abs(actions).max())
        if largest > self.magnitude:
            raise BadReply(f"The answer holds {largest:.6g}; no number of an action may be over {self.magnitude:g}.")

    def learned(self, actions: NDArray[np.float64]) -> ActionSpec:
        """The same, with action_dim from the first reply where the daemon named none."""
        return self if self.action_dim else replace(self, action_dim=actions.shape[1])


def action_spec_of(info: ModelInfo) -> ActionSpec:
    """The spec of a model card: its fields, its horizon, a million times its statistics' largest magnitude.

    A policy may act beyond its statistics, but not by such factors.
    """
    named = [number for stats in _maps(info.card.get("norm_stats")) for number in _numbers(stats)]
    return ActionSpec(
        action_dim=len(info.action_names) or None,
        horizon=min(max(info.chunk_horizon, 1), MAX_HORIZON),
        magnitude=MAX_MAGNITUDE * min(max([1.0, *named]), MAX_MAGNITUDE),
    )


def _maps(value: Any) -> List[Mapping[str, Any]]:
    return [part for part in value.values() if isinstance(part, dict)] if isinstance(value, dict) else []


def _numbers(stats: Mapping[str, Any]) -> List[float]:
    """The magnitudes in one data set's statistics."""
    rows = [stats.get(name) for name in _STATISTICS]
    numbers = [part for row in rows if isinstance(row, (list, np.ndarray)) for part in row]
    return [abs(float(number)) for number in numbers if is_number(number) and math.isfinite(number)]
