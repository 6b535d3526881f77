"""Closed-loop evaluation: play seeded episodes and summarise them.

Knows the simulator and an actor; not whether its policy is in this process or behind a URL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import ConfigError
from stillframe_client.sim import JacoEnv, SensorNoise
from stillframe_client.sim.cues import DELAY_STEPS, SIMPLE
from stillframe_client.sim.rollout import Episode, play
from stillframe_client.sim.scene import CAMERAS
from stillframe_lab.evaluation.trace import Trace, figures

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
    cameras: tuple[str, ...] = ()  # none: those of the policy, or the front one
    distractor: bool = False
    delay: int | None = None  # of the task remember: steps between the last cue and a free arm
    variant: str | None = None  # of the same


class Actor(Protocol):
    """A policy that keeps a trace of its answers; actors.py has two."""

    @property
    def trace(self) -> Trace:
        """One frame for each answer."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """The names of the policy's cameras."""
        ...

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """The action due now."""
        ...

    def reset(self) -> None:
        """Begin an episode."""
        ...

    def rest(self) -> None:
        """Called in the pause after each answer."""
        ...


def with_defaults(plan: Evaluation) -> Evaluation:
    """The plan with the task's defaults filled in, so that results say what was played."""
    if plan.task != "remember":
        return plan
    return replace(plan, delay=DELAY_STEPS if plan.delay is None else plan.delay, variant=plan.variant or SIMPLE)


def evaluate(plan: Evaluation, actor: Actor, watch: Callable[[Episode], None]) -> list[Episode]:
    """Play every episode in order; `watch` sees each as it ends, and the trace has every frame of all.

    Raises ConfigError for a plan that the simulator does not know.
    """
    _scene(plan, ()).close()  # an invalid plan fails before the policy is asked
    env = _scene(plan, plan.cameras or simulator_cameras(actor.cameras))
    played = []
    try:
        _warm_up(env, actor, plan.seed)
        for index in range(plan.episodes):
            played.append(play(env, actor, seed=plan.seed + index))
            watch(played[-1])
    finally:
        env.close()
    return played


def simulator_cameras(cameras: tuple[str, ...]) -> tuple[str, ...]:
    """The simulator's cameras for a policy's: the same ones if they exist, else the front one under any name."""
    return cameras if set(cameras) <= set(CAMERAS) else ("front",)


def _warm_up(env: JacoEnv, actor: Actor, seed: int) -> None:
    """Answer two frames, so that no episode is timed with the policy's first keyframe or first delta frame."""
    observed, _ = env.reset(seed=seed)
    actor.reset()
    for _ in range(2):
        actor(observed)
        actor.rest()
    actor.trace.clear()


def _scene(plan: Evaluation, cameras: tuple[str, ...]) -> JacoEnv:
    """The simulated scene of a plan."""
    try:
        noise = SensorNoise(sigma=plan.noise_sigma, jpeg_quality=plan.jpeg_quality)
        return JacoEnv(
            plan.task,
            hz=plan.hz,
            cameras=cameras,
            noise=noise,
            distractor=plan.distractor,
            delay=plan.delay,
            variant=plan.variant,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def summarise(plan: Evaluation, played: list[Episode], policy: str, trace: Trace) -> dict[str, Any]:
    """The document that `stillframe eval` prints and writes. Rates are shares of all episodes."""
    wins = sum(episode.success for episode in played)
    return {
        **asdict(plan),
        "policy": policy,
        "success": wins / len(played),
        "success_ci95": wilson(wins, len(played)),
        "wrong_cube": sum(episode.wrong_object for episode in played) / len(played),
        "timed_out": sum(not (episode.success or episode.wrong_object) for episode in played) / len(played),
        "first_direction": sum(episode.first_right for episode in played) / len(played),
        "steps_mean": float(np.mean([episode.steps for episode in played])),
        "latency_ms": latency_ms(played),
        **figures(trace, [ms for episode in played for ms in episode.act_ms]),
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
