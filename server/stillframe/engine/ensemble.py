"""Adaptive action ensemble: what a session's last chunks said of this step, weighted by likeness to the newest.

Knows numbers; no model. Source: microsoft/CogACT sim_cogact/adaptive_ensemble.py, where a frame is a step. Here a
chunk's age is the frames that were sent since, so one that was superseded counts as a step too.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.1  # how much likeness counts


class AdaptiveEnsemble:
    """Of one session and epoch."""

    def __init__(self, chunks: int, alpha: float = ALPHA):
        """`chunks` that have a say, the newest among them. Raises ValueError for none."""
        if chunks < 1:
            raise ValueError(f"an ensemble of {chunks} chunks; expected one or more")
        self._alpha = alpha
        self._most = chunks
        self._chunks: deque[tuple[int, NDArray[np.float64]]] = deque(maxlen=chunks)  # a frame's seq, its chunk

    def add(self, seq: int, chunk: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take the chunk [horizon, action_dim] of frame `seq`; return the action of its step [action_dim]."""
        self._chunks.append((seq, chunk))
        ages = [(seq - then, old) for then, old in reversed(self._chunks)]
        said = np.stack([old[age] for age, old in ages if 0 <= age < min(len(old), self._most)])  # [chunks, action_dim]
        weights = np.exp(self._alpha * _likeness(said, said[0]))
        action: NDArray[np.float64] = (weights / weights.sum()) @ said
        return action


def _likeness(actions: NDArray[np.float64], newest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosines [n] between rows and the newest."""
    lengths = np.linalg.norm(actions, axis=1) * np.linalg.norm(newest)
    cosines: NDArray[np.float64] = actions @ newest / (lengths + 1e-7)
    return cosines
