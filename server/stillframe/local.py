"""A checkpoint as a function: observation in, action out, in this process and without a daemon.

Knows the engine's step; no HTTP. Training, evaluation and notebooks use it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import Observation
from stillframe.engine.step import step
from stillframe.models.base import PolicyModel


class LocalPolicy:
    """Acts by plain greedy decoding. One thread at a time."""

    def __init__(self, model: PolicyModel):
        self._model = model

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """{"images": {camera: uint8 [H, W, 3]}, "instruction": str} -> the action due now, [7]."""
        observation = Observation(observed["images"], observed["instruction"])
        action: NDArray[np.float64] = step(self._model, observation, time.perf_counter).chunk.actions[0]
        return action
