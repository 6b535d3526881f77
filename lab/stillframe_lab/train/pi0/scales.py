"""Statistics of the simulated arm as openpi writes them, and how labels are scaled by them.

Knows the arm's limits; no network. pi0 takes means and deviations, pi0.5 quantiles. The limits stand for quantiles: an
action is at them for as long as the arm is under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillframe.models.pi0.statistics import OPENPI_SLACK, Kind, Scale
from stillframe_lab.train.new_checkpoint import UNNORM_KEY, action_scale, action_statistics, state_statistics

# Of half the range: what the labels of the shaky expert's frames deviate by.
ACTION_SPREAD = (0.5, 0.5, 0.5, 0.2, 0.2, 0.2, 1.0)
STATE_SPREAD = (0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.6)


@dataclass(frozen=True)
class Scales:
    """Of state and actions."""

    state: Scale
    actions: Scale

    @classmethod
    def of(cls, *, adaptive: bool) -> Scales:
        """As pi0 or pi0.5 normalises."""
        action, state = action_statistics()[UNNORM_KEY]["action"], state_statistics()
        return cls(_scale(state, STATE_SPREAD, adaptive=adaptive), _scale(action, ACTION_SPREAD, adaptive=adaptive))

    @property
    def xyz_unit(self) -> float:
        """What 1 is of a move as the network draws it, as a share of the arm's limit."""
        return ACTION_SPREAD[0] if self.actions.kind == "mean_std" else 1.0

    def norm_stats(self) -> dict[str, Any]:
        """norm_stats.json."""
        return {
            "norm_stats": {
                "state": _numbers(self.state, STATE_SPREAD),
                "actions": _numbers(self.actions, ACTION_SPREAD),
            }
        }

    def scaled_actions(self, labels: Tensor) -> Tensor:
        """Labels [..., 7], 1 at the arm's limits and the gripper's 0 or 1 -> as the network draws them."""
        return torch.from_numpy(self.actions.normalise(action_scale().unnormalise(labels.numpy()))).float()

    def scaled_state(self, state: Tensor) -> Tensor:
        """[batch, 7] in the robot's units -> as the network reads it."""
        return torch.from_numpy(self.state.normalise(state.numpy())).float()


def _scale(ends: dict[str, Any], spread: tuple[float, ...], *, adaptive: bool) -> Scale:
    low, high = np.array(ends["q01"], np.float64), np.array(ends["q99"], np.float64)
    kind: Kind = "quantiles" if adaptive else "mean_std"
    first, second = (low, high) if adaptive else ((low + high) / 2, (high - low) / 2 * np.array(spread))
    return Scale(kind, first, second, low, high, *OPENPI_SLACK)


def _numbers(scale: Scale, spread: tuple[float, ...]) -> dict[str, list[float]]:
    low, high = scale.low, scale.high
    made = {"mean": (low + high) / 2, "std": (high - low) / 2 * np.array(spread), "q01": low, "q99": high}
    return {name: numbers.tolist() for name, numbers in made.items()}
