"""Flow matching: the times from noise to actions, and how a time is written for the network.

Knows numbers; no network. Openpi and lerobot step through other times: one adds -0.1 in float32 step by step, the other
multiplies. The fastest channel of the code turns 1571 radians a unit of time, so that is to be seen in actions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Flow:
    """How chunks are drawn."""

    steps: int = 10
    accumulated: bool = True  # times as openpi has them; else as lerobot
    min_period: float = 4e-3  # of the code's channels, in units of time
    max_period: float = 4.0

    @property
    def times(self) -> Tensor:
        """[steps] float32: 1 is noise."""
        if not self.accumulated:
            return torch.tensor([1.0 + step * (-1.0 / self.steps) for step in range(self.steps)], dtype=torch.float32)
        times, step = [np.float32(1.0)], np.float32(-1.0 / self.steps)
        while len(times) < self.steps:
            times.append(np.float32(times[-1] + step))
        return torch.tensor(np.array(times))

    @property
    def stride(self) -> float:
        """From one time to the next, negative."""
        return -1.0 / self.steps

    def codes(self, width: int) -> Tensor:
        """Each time as a row [steps, width] float32."""
        return time_codes(self.times, width, self.min_period, self.max_period)


def time_codes(
    times: Tensor, width: int, min_period: float = Flow.min_period, max_period: float = Flow.max_period
) -> Tensor:
    """Times [...] as rows [..., width] float32: sines, then cosines, taken in float64."""
    share = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64)
    period = min_period * (max_period / min_period) ** share
    angles = times.double()[..., None] * (1.0 / period * 2 * math.pi)
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()
