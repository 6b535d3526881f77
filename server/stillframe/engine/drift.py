"""How far reuse moved an answer, and the controller that keeps it within a budget.

Knows normalised actions; no model and no tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Caution stays where it is while STEP_DOWN / (STEP_UP + STEP_DOWN) of the answers, 9 %, are over budget: so the 90th
# percentile of drift is what is held to the budget.
STEP_UP = 0.2  # of full caution, for an answer over budget
STEP_DOWN = 0.02  # for an answer within half of it
BLIND_ANSWERS = 6  # of delta frames without a measurement, after which drift counts as not known


def drift_of(answer: NDArray[np.float64], dense: NDArray[np.float64]) -> float:
    """Distance of two chunks [horizon, action_dim] in normalised units: the worst dimension's, of the worst action."""
    return float(np.abs(answer - dense).max())


def drift_by_action(answer: NDArray[np.float64], dense: NDArray[np.float64]) -> tuple[float, ...]:
    """The same of each action of a chunk by itself, the first due first."""
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
