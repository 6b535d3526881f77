"""The policy being taught, at the wheel: drives while DAgger takes pictures, and is scored in closed loop.

Knows a checkpoint folder and the engine's step; no training state.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stillframe.domain import Observation
from stillframe.engine.step import step
from stillframe.models.registry import load_policy
from stillframe_client.sim import JacoEnv


class Imitator:
    """Acts by plain greedy decoding, on one CPU thread."""

    def __init__(self, checkpoint: Path):
        torch.set_num_threads(1)
        self._model = load_policy(checkpoint, dtype=torch.float32, device=torch.device("cpu"))

    def __call__(self, observed: dict[str, Any]) -> NDArray[np.float64]:
        """Observation -> action [7]."""
        observation = Observation(observed["images"], observed["instruction"])
        return step(self._model, observation, time.perf_counter).chunk.actions[0]


class Apprentice:
    """An imitator whose hand the expert takes in a share of the steps."""

    def __init__(self, imitator: Imitator, expert_share: float):
        self._imitator = imitator
        self._expert_share = expert_share

    def begin(self, rng: np.random.Generator) -> None:
        """Nothing to draw: every step decides for itself."""

    def act(self, env: JacoEnv, observed: dict[str, Any], rng: np.random.Generator) -> NDArray[np.float64]:
        """The policy's action, or the expert's."""
        return env.expert() if rng.random() < self._expert_share else self._imitator(observed)
