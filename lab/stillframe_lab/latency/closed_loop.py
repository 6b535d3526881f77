"""Closed loop: the same episodes of pick, played with plain transformers and with stillframe, alternating.

Knows the simulator and two players; measures success and the time of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from stillframe.domain import Observation
from stillframe.engine.local import LocalPolicy
from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock
from stillframe_lab.evaluation.turns import rotated
from stillframe_lab.latency.race import Watch
from stillframe_lab.latency.stock import STOCK, greedy

SEED = 1_000
OURS = "exact drafts, adaptive reuse"
TASK = "pick"


class Player(Protocol):
    """An actor that records decoder passes and reuse."""

    passes: list[int]
    reused: list[float]

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """The action due now."""
        ...

    def reset(self) -> None:
        """Begin an episode."""
        ...

    def rest(self) -> None:
        """The pause after an answer."""
        ...


class StockPlayer:
    """Acts with plain transformers."""

    def __init__(self, model: Any, llama: Any):
        """`model`: a policy whose configuration says what its tokens mean."""
        self.passes: list[int] = []
        self.reused: list[float] = []
        self._model, self._llama = model, llama

    @torch.inference_mode()
    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """The action due now."""
        model = self._model
        prepared = model.prepare(Observation(observed["images"], observed["instruction"], state=observed.get("state")))
        (rows,) = model.embed([prepared])
        ids = greedy(self._llama, rows, len(prepared.no_motion_tokens))
        self.passes.append(len(ids))
        self.reused.append(0.0)
        scale = model.statistics.scales[prepared.unnorm_key]
        action: NDArray[np.float64] = scale.unnormalise(model.config.bins.decode(ids))
        return action

    def reset(self) -> None:
        """Nothing is kept."""

    def rest(self) -> None:
        """Nothing to do."""


class StillframePlayer:
    """Acts with stillframe's engine."""

    def __init__(self, model: PolicyModel, reuse: ReuseSettings, clock: Clock):
        self.passes: list[int] = []
        self.reused: list[float] = []
        self._policy = LocalPolicy(model, reuse, clock)
        self.reset = self._policy.reset

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """The action due now."""
        action = self._policy(observed)
        report = self._policy.last.report
        self.passes.append(report.passes)
        self.reused.append(report.cache.reuse_ratio)
        return action

    def rest(self) -> None:
        """Measure drift and refresh, as a daemon does."""
        self._policy.refresh()


def play_all(players: Mapping[str, Player], episodes: int, clock: Clock, watch: Watch) -> dict[str, Any]:
    """Play so many episodes with each player, on the same seeds, each seed another one first."""
    from stillframe_client.sim import JacoEnv
    from stillframe_client.sim.rollout import play

    names = [*players]
    played: dict[str, list[Any]] = {name: [] for name in names}
    with closing(JacoEnv(TASK)) as env:
        for number in range(episodes):
            for name in rotated(names, number):
                played[name].append(play(env, players[name], seed=SEED + number, clock=clock))
            watch("closed loop", number + 1, episodes)
    rows = {name: _row(name, players[name], played[name]) for name in names}
    for row in rows.values():
        row["speedup_vs_stock"] = rows[STOCK]["step_ms"]["p50"] / row["step_ms"]["p50"]
        row["mean_speedup_vs_stock"] = rows[STOCK]["step_ms"]["mean"] / row["step_ms"]["mean"]
    return {"task": TASK, "seed": SEED, "episodes": episodes, "rows": [*rows.values()]}


def _row(name: str, player: Player, played: list[Any]) -> dict[str, Any]:
    steps_ms = np.concatenate([episode.act_ms for episode in played])
    return {
        "name": name,
        "wins": sum(episode.success for episode in played),
        "failed_seeds": [episode.seed for episode in played if not episode.success],
        "steps": len(steps_ms),
        "passes_per_action": float(np.mean(player.passes)),
        "reuse_ratio": float(np.mean(player.reused)),
        "step_ms": {
            "p50": float(np.median(steps_ms)),
            "p99": float(np.percentile(steps_ms, 99)),
            "mean": float(np.mean(steps_ms)),
        },
    }


def missing() -> str | None:
    """Why the simulator cannot run here; None if it can."""
    try:
        check: Callable[[], None] = _check
        check()
    except Exception as problem:  # noqa: BLE001 (any error is the reason)
        return f"{type(problem).__name__}: {problem}".splitlines()[0]
    return None


def _check() -> None:
    from stillframe_client.sim.engine import require_drawing

    require_drawing()
