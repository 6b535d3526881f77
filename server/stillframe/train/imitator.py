"""The policy being taught, at the wheel: drives while DAgger takes pictures, and is scored in closed loop.

Knows a checkpoint folder; no training state.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stillframe.local import LocalPolicy
from stillframe.models.registry import load_policy
from stillframe.train.demonstrations import Look
from stillframe_client.sim import JacoEnv


def load_imitator(checkpoint: Path) -> LocalPolicy:
    """The checkpoint as the daemon would serve it on a CPU, on one thread: every process of a pool has its own."""
    torch.set_num_threads(1)
    return LocalPolicy(load_policy(checkpoint, dtype=torch.float32, device=torch.device("cpu")))


class Apprentice:
    """An imitator whose hand the expert takes in a share of the steps."""

    def __init__(self, imitator: LocalPolicy, expert_share: float):
        self._imitator = imitator
        self._expert_share = expert_share

    def begin(self, rng: np.random.Generator) -> None:
        """Nothing to draw: every step decides for itself."""

    def act(self, env: JacoEnv, look: Look, rng: np.random.Generator) -> NDArray[np.float64]:
        """The policy's action, or the expert's."""
        if rng.random() < self._expert_share:
            return env.expert()
        return self._imitator({"images": look(), "instruction": env.goal.instruction})
