"""An episode of over a thousand steps, with the gate and with full history: bytes and time of each step.

Knows the simulator and two arms; each acts in a scene of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Any

from stillframe.engine.history import HistoryManager
from stillframe.history.checkpoint import HistoryWeights
from stillframe.models.base import PolicyModel
from stillframe_client.sim import JacoEnv, SensorNoise
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.evaluation.trace import AnsweredFrame
from stillframe_lab.history.arms import FULL, GATE, history_of
from stillframe_lab.history.cell import NOTHING_REUSED, TASK
from stillframe_lab.history.plan import BUDGET, NOISE_SIGMA, HistoryPlan

DELAY = 1000  # steps
BLOCK = 20  # steps averaged into one point
MOST = 1_400  # steps; no such episode is longer


def long_episodes(plan: HistoryPlan, model: PolicyModel, weights: HistoryWeights, delay: int = DELAY) -> dict[str, Any]:
    """Both arms' episodes of the same seed, a step of each in turn."""
    arms = {arm: _Run(plan, model, weights, arm, delay) for arm in (GATE, FULL)}
    for _ in range(MOST):
        for run in arms.values():
            run.step()
        if all(run.over for run in arms.values()):
            break
    return {"delay": delay, "block": BLOCK, **{arm: run.figures() for arm, run in arms.items()}}


class _Run:
    """One arm's episode."""

    def __init__(self, plan: HistoryPlan, model: PolicyModel, weights: HistoryWeights, arm: str, delay: int):
        settings = history_of(arm, None if arm == FULL else BUDGET, weights.config, plan.history)
        self._own_s = 0.0  # this arm's own time: scorers get the time since the last frame
        recalling = HistoryManager(model, weights, settings, lambda: self._own_s)
        self._actor = LocalActor(model, NOTHING_REUSED, clock=time.thread_time, recalling=recalling)
        noise = SensorNoise(sigma=NOISE_SIGMA)
        self._env = JacoEnv(TASK, noise=noise, delay=delay, variant=plan.variant)
        self._observed, self._info = self._env.reset(seed=plan.seed)
        self._actor.reset()
        self.over, self._frozen = False, 0

    def step(self) -> None:
        """One step, unless the episode is over."""
        if self.over:
            return
        self._frozen += self._env.frozen
        began_s = time.thread_time()
        action = self._actor(self._observed)
        self._observed, _, terminated, truncated, self._info = self._env.step(action)
        self._own_s += time.thread_time() - began_s
        self.over = terminated or truncated
        if self.over:
            self._env.close()

    def figures(self) -> dict[str, Any]:
        """Blocks of steps: bytes at the end of each, and medians of times."""
        blocks = [*_blocks(self._actor.trace.frames)]
        return {
            "steps": self._info["steps"],
            "success": self._info["success"],
            "free_from": self._frozen + 1,
            "bytes": [block[-1].history.nbytes if block[-1].history else 0 for block in blocks],
            "prefill_ms": [_median(frame.stages_ms["prefill"] for frame in block) for block in blocks],
            "step_ms": [_median(sum(frame.stages_ms.values()) for frame in block) for block in blocks],
            "passes": [_median(float(frame.passes or 0) for frame in block) for block in blocks],
        }


def _blocks(frames: Sequence[AnsweredFrame]) -> Iterator[Sequence[AnsweredFrame]]:
    """Complete blocks without the first, which has the slow first frame."""
    for first in range(BLOCK, len(frames) - BLOCK + 1, BLOCK):
        yield frames[first : first + BLOCK]


def _median(values: Iterable[float]) -> float:
    return round(median(values), 3)
