"""Closed-loop evaluation: many seeded episodes, one table row.

Knows the simulator and a way to act; not whether the policy is in this process or behind a URL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from stillframe.errors import ConfigError
from stillframe_client.sim import JacoEnv, SensorNoise
from stillframe_client.sim.rollout import Act, Episode, play

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Evaluation:
    """What to play: `episodes` seeds from `seed` on."""

    task: str
    episodes: int
    seed: int
    hz: int = 10
    noise_sigma: float = 0.0  # grey levels
    jpeg_quality: int | None = None


def evaluate(plan: Evaluation, act: Act, watch: Callable[[Episode], None]) -> list[Episode]:
    """Play every episode in order; `watch` sees each as it ends. Raises ConfigError for a plan that has no scene."""
    env = _scene(plan)
    played = []
    try:
        act(env.reset(seed=plan.seed)[0])  # so that no episode pays for the policy's first frame
        for index in range(plan.episodes):
            played.append(play(env, act, seed=plan.seed + index))
            watch(played[-1])
    finally:
        env.close()
    return played


def _scene(plan: Evaluation) -> JacoEnv:
    """What the plan is played in."""
    try:
        noise = SensorNoise(sigma=plan.noise_sigma, jpeg_quality=plan.jpeg_quality)
        return JacoEnv(plan.task, hz=plan.hz, noise=noise)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def summarise(plan: Evaluation, played: list[Episode], policy: str) -> dict[str, Any]:
    """The document that `stillframe eval` prints and writes. Rates are shares of all episodes."""
    wins = sum(episode.success for episode in played)
    return {
        **asdict(plan),
        "policy": policy,
        "success": wins / len(played),
        "success_ci95": wilson(wins, len(played)),
        "wrong_cube": sum(episode.wrong_object for episode in played) / len(played),
        "timed_out": sum(not (episode.success or episode.wrong_object) for episode in played) / len(played),
        "steps_mean": float(np.mean([episode.steps for episode in played])),
        "latency_ms": latency_ms(played),
        "failed_seeds": [episode.seed for episode in played if not episode.success],
    }


def latency_ms(played: list[Episode]) -> dict[str, float]:
    """From picture to action, end to end, over all steps of all episodes."""
    every = np.concatenate([episode.act_ms for episode in played])
    return {"p50": float(np.percentile(every, 50)), "p99": float(np.percentile(every, 99))}


def wilson(wins: int, trials: int) -> list[float]:
    """Wilson's score interval of a proportion, [low, high]."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = wins / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    return [max(0.0, middle - half), min(1.0, middle + half)]
