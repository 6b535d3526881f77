"""How far apart two answers are, and the controller that keeps what reuse moves within a budget.

Knows actions and their statistics; no model and no tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import ActionChunk, PolicyInfo
from stillframe.errors import StillframeError

# Caution stays where it is while STEP_DOWN / (STEP_UP + STEP_DOWN) of the answers, 9 %, are over budget: so the 90th
# percentile of drift is what is held to the budget.
STEP_UP = 0.2  # of full caution, for an answer over budget
STEP_DOWN = 0.02  # for an answer within half of it
BLIND_ANSWERS = 8  # of delta frames without a measurement, after which drift counts as not known


def drift_by_action(answer: NDArray[np.float64], dense: NDArray[np.float64]) -> tuple[float, ...]:
    """How far apart two chunks [horizon, action_dim] are in each action: its worst dimension, normalised units."""
    return tuple(np.abs(answer - dense).max(axis=1).tolist())


@dataclass
class Caution:
    """How careful the next plans have to be: 0 as configured, 1 nothing reused. Rises fast and falls slowly."""

    budget: float  # normalised units
    level: float = 0.0

    def record(self, drift: float, share: float = 1.0) -> None:
        """Take in the drift of one answer. `share`: of the answers that it stands for, those that can drift at all.

        The others are keyframes, whose drift is 0.
        """
        if drift > self.budget:
            step = share * STEP_UP - (1.0 - share) * STEP_DOWN
        elif drift <= self.budget / 2:
            step = -STEP_DOWN
        else:
            step = -(1.0 - share) * STEP_DOWN
        self.level = min(1.0, max(0.0, self.level + step))

    @property
    def full(self) -> bool:
        """Whether even careful plans drifted too far: the next frame has to be whole."""
        return self.level >= 1.0


def chunk_distances(chunk: ActionChunk, other: ActionChunk, info: PolicyInfo) -> NDArray[np.float64]:
    """Distances [actions that both have, action_dim] of two chunks, in half ranges of the statistics of `other`.

    `info` is the policy that answered `other`. Raises StillframeError for actions of another length.
    """
    one, two = chunk.actions, other.actions
    if one.shape[1] != two.shape[1]:
        raise StillframeError(
            f"actions of the one have {one.shape[1]} numbers, those of {info.name} {two.shape[1]}; expected as many: "
            "compare policies of the same robot"
        )
    both = min(len(one), len(two))
    distances: NDArray[np.float64] = np.abs(one[:both] - two[:both]) / half_range(info.norm_stats[other.unnorm_key])
    return distances


def half_range(statistics: Mapping[str, Any]) -> NDArray[np.float64]:
    """[action_dim]: what is 1 in normalised units; 1 for what is not scaled, or does not vary."""
    low, high = (np.asarray(statistics[end], np.float64) for end in ("q01", "q99"))
    half = (high - low) / 2
    return np.where(np.asarray(statistics.get("mask", True)) & (half > 0), half, 1.0)
