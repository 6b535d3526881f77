"""How far reuse moved an answer, and the controller that keeps it within a budget.

Knows normalised actions; no model and no tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEP_UP = 0.4  # of full caution, for an answer over budget
STEP_DOWN = 0.1  # for an answer within half of it: four good ones undo a bad one


def drift_of(answer: NDArray[np.float64], dense: NDArray[np.float64]) -> float:
    """Distance of two actions [horizon, action_dim] in normalised units: that of the worst dimension."""
    return float(np.abs(answer - dense).max())


@dataclass
class Caution:
    """How careful the next plans have to be: 0 as configured, 1 nothing reused. Rises fast and falls slowly."""

    budget: float  # normalised units
    level: float = 0.0

    def saw(self, drift: float) -> bool:
        """Take in the drift of one answer; return whether it was over budget."""
        over = drift > self.budget
        if over:
            self.level = min(1.0, self.level + STEP_UP)
        elif drift <= self.budget / 2:
            self.level = max(0.0, self.level - STEP_DOWN)
        return over
