"""Adaptive action ensemble: what the last chunks said of this step, weighted by likeness to the newest.

Knows numbers; the session that it hangs on is the engine's. Source: microsoft/CogACT sim_cogact/adaptive_ensemble.py.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.1  # how much likeness counts


class AdaptiveEnsemble:
    """Of one session and epoch: a frame a step."""

    def __init__(self, horizon: int, alpha: float = ALPHA):
        """`horizon`: chunks that have a say. Raises ValueError for none."""
        if horizon < 1:
            raise ValueError(f"an ensemble of {horizon} chunks; expected one or more")
        self._alpha = alpha
        self._chunks: deque[NDArray[np.float64]] = deque(maxlen=horizon)

    def add(self, chunk: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take the newest chunk [horizon, action_dim]; return the action of this step [action_dim]."""
        self._chunks.append(chunk)
        newest_first = reversed(self._chunks)
        said = np.stack([old[age] for age, old in enumerate(newest_first) if age < len(old)])  # [chunks, action_dim]
        weights = np.exp(self._alpha * _likeness(said, said[0]))
        action: NDArray[np.float64] = (weights / weights.sum()) @ said
        return action


def _likeness(actions: NDArray[np.float64], newest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosines [n] between rows and the newest."""
    lengths = np.linalg.norm(actions, axis=1) * np.linalg.norm(newest)
    cosines: NDArray[np.float64] = actions @ newest / (lengths + 1e-7)
    return cosines
