"""DDIM: from noise to a chunk of actions in a few steps, steered by classifier-free guidance.

Knows a noise predictor and numbers; no session: noise is handed in. Source: microsoft/CogACT action_model
(gaussian_diffusion.py, squaredcos_cap_v2 over 100 steps, epsilon prediction, eta 0, x0 not clipped).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.models.guidance import Guidance

TRAINED_STEPS = 100
MOST_BETA = 0.999

Predictor = Callable[[Tensor, Tensor, Tensor], Tensor]  # actions, time steps, condition -> noise


def step_counts() -> list[int]:
    """The counts that some whole stride over the trained steps gives."""
    return sorted({len(range(0, TRAINED_STEPS, stride)) for stride in range(1, TRAINED_STEPS + 1)})


def timesteps(count: int) -> list[int]:
    """Time steps from the noisiest down. Raises ValueError for a count that no whole stride gives."""
    for stride in range(1, TRAINED_STEPS + 1):
        steps = range(0, TRAINED_STEPS, stride)
        if len(steps) == count:
            return [*reversed(steps)]
    raise ValueError(f"{count} denoising steps; expected one of {', '.join(map(str, step_counts()))}")


@cache
def kept_signal() -> NDArray[np.float64]:
    """[trained steps] share of the signal's power that is left after each step: the cumulated product of alphas."""

    def power(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    ends = [(step / TRAINED_STEPS, (step + 1) / TRAINED_STEPS) for step in range(TRAINED_STEPS)]
    betas = [min(1 - power(end) / power(begin), MOST_BETA) for begin, end in ends]
    return np.asarray(np.cumprod(1 - np.asarray(betas)), np.float64)


@dataclass(frozen=True)
class Denoising:
    """How chunks are drawn."""

    steps: int = 10
    guidance: float = 1.5  # at most 1: off

    @property
    def guided(self) -> bool:
        """Whether each step is predicted with and without the condition."""
        return self.guidance > 1


def denoise(
    predict: Predictor,
    noise: Tensor,
    condition: Tensor,
    nothing: Tensor,
    how: Denoising,
    guidance: Guidance | None = None,
) -> Tensor:
    """Chunks [batch, horizon, action_dim] out of noise of that shape; not clipped.

    `condition` [batch, width] steers; `nothing` [1, width] stands for none. A chunk's numbers do not depend on which
    others are drawn with it, but for rounding.
    """
    kept = kept_signal()
    actions, times = noise, timesteps(how.steps)
    for now, after in zip(times, [*times[1:], None], strict=True):
        power, next_power = kept[now], 1.0 if after is None else kept[after]

        def cleaned(points: Tensor, now: int = now, power: float = power) -> Tensor:
            eps = _predicted(predict, points, now, condition, nothing, how)
            return points * math.sqrt(1 / power) - eps * math.sqrt(1 / power - 1)

        clean, pull = (cleaned(actions), None) if guidance is None else _guided(cleaned, actions, power, guidance)
        # As the reference does: the noise that leads from here to `clean`, which rounds otherwise than eps itself.
        back = (actions * math.sqrt(1 / power) - clean) / math.sqrt(1 / power - 1)
        actions = clean * math.sqrt(next_power) + back * math.sqrt(1 - next_power)
        if pull is not None:
            actions = actions + pull * pull_share(power, next_power)
    return actions


def _guided(
    cleaned: Callable[[Tensor], Tensor], actions: Tensor, power: float, guidance: Guidance
) -> tuple[Tensor, Tensor]:
    """The clean chunks that `actions` lead to, and the pull on their velocity.

    With a = sqrt(power), b = sqrt(1 - power) and t = a / (a + b), actions / (a + b) = t clean + (1 - t) eps: a point of
    a flow whose velocity is clean - eps, and a step of DDIM is one of Euler's along it. So that velocity is what gets
    strength(t) J^T [weights (targets - clean)], J the derivative of `clean` by the flow's point.
    """
    size = math.sqrt(power) + math.sqrt(1 - power)

    def estimate(points: Tensor) -> tuple[Tensor, Tensor]:
        clean = cleaned(points)
        return clean, clean

    clean, _, pull = guidance.pulled(estimate, actions, size)
    return clean, pull * guidance.strength(math.sqrt(power) / size)


def pull_share(power: float, next_power: float) -> float:
    """What one step makes of a pull on the flow's velocity: its stride in t, times the next actions' size.

    (t' - t) (a' + b') = (a' b - a b') / (a + b).
    """
    signal, noise = math.sqrt(power), math.sqrt(1 - power)
    return (math.sqrt(next_power) * noise - signal * math.sqrt(1 - next_power)) / (signal + noise)


def _predicted(
    predict: Predictor, actions: Tensor, time: int, condition: Tensor, nothing: Tensor, how: Denoising
) -> Tensor:
    """The noise in the actions; with guidance both halves of one batch."""
    count = len(actions)
    if not how.guided:
        return predict(actions, torch.full((count,), time, device=actions.device), condition)
    both = torch.cat((condition, nothing.expand(count, -1)))
    times = torch.full((2 * count,), time, device=actions.device)
    eps = predict(torch.cat((actions, actions)), times, both)
    steered, free = eps[:count], eps[count:]
    return free + how.guidance * (steered - free)
