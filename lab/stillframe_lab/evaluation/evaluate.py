"""Closed-loop evaluation: play seeded episodes and summarise them.

Knows the simulator and an actor; not whether its policy is in this process or behind a URL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from stillframe.errors import ConfigError
from stillframe_client.sim import TASKS, JacoEnv, SensorNoise, kitchen
from stillframe_client.sim.cues import DELAY_STEPS, SIMPLE
from stillframe_client.sim.rollout import Episode, play
from stillframe_client.sim.scene import CAMERAS
from stillframe_client.sim.table_env import TableEnv
from stillframe_client.wire.camera_names import Mount, mount_of
from stillframe_lab.evaluation.chunk_actor import Actor, ChunkActor, asked_ms
from stillframe_lab.evaluation.trace import Trace, figures, percentiles

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
    execute: int | None = None  # actions of each chunk that are played; None: as the actor says
    masks: bool = False  # whether frames hold masks of what matters, the simulator's own


def with_defaults(plan: Evaluation) -> Evaluation:
    """The plan with the task's defaults filled in, so that results say what was played."""
    if plan.task != "remember":
        return plan
    return replace(plan, delay=DELAY_STEPS if plan.delay is None else plan.delay, variant=plan.variant or SIMPLE)


def with_execute(plan: Evaluation, actor: Actor) -> Evaluation:
    """The plan with what the actor says of chunks filled in, so that results say what was played.

    Raises ConfigError for a plan that the simulator does not know, before the policy is asked, and for more actions to
    play than a chunk has.
    """
    _scene(plan, ()).close()
    execute = actor.execute if plan.execute is None else plan.execute
    if not 1 <= execute <= actor.horizon:
        said = f"--execute is {execute}; this policy answers {actor.horizon} action{'s'[: actor.horizon - 1]} at once"
        raise ConfigError(f"{said}: expected 1 to {actor.horizon}")
    return replace(plan, execute=execute)


def evaluate(plan: Evaluation, actor: Actor, watch: Callable[[Episode], None]) -> list[Episode]:
    """Play every episode in order; `watch` sees each as it ends, and the trace has every frame of all.

    Raises ConfigError for a plan that the simulator does not know, or that plays more of a chunk than there is.
    """
    execute = with_execute(plan, actor).execute or 1
    sources = {} if plan.cameras else camera_sources(actor.cameras)
    env = _scene(plan, plan.cameras or tuple(sources.values()))
    player = ChunkActor(actor, execute, sources or None)
    played = []
    try:
        # No episode is timed with the policy's first keyframe or first delta frame.
        player.warm_up(env.reset(seed=plan.seed)[0], answers=2)
        for index in range(plan.episodes):
            played.append(play(env, player, seed=plan.seed + index))
            watch(played[-1])
    finally:
        env.close()
    return played


def camera_sources(cameras: tuple[str, ...]) -> dict[str, str]:
    """Of each of a policy's cameras the simulator's that stands for it: its namesake, else the one on its mount.

    A name that says no mount is taken for a camera beside the robot. Raises ConfigError for two on one mount.
    """
    sources = {name: _source(name) for name in cameras}
    if len({*sources.values()}) < len(sources):
        said = f"this policy sees {', '.join(cameras)}; the simulator has {', '.join(CAMERAS)}"
        raise ConfigError(f"{said}: expected at most one camera on the hand and one beside the robot")
    return sources


def _source(camera: str) -> str:
    if camera in CAMERAS:
        return camera
    return "wrist" if mount_of(camera) is Mount.HAND else "front"


def _scene(plan: Evaluation, cameras: tuple[str, ...]) -> TableEnv:
    """The simulated scene of a plan."""
    try:
        noise = SensorNoise(sigma=plan.noise_sigma, jpeg_quality=plan.jpeg_quality)
        looks: dict[str, Any] = {
            "hz": plan.hz,
            "cameras": cameras,
            "noise": noise,
            "distractor": plan.distractor,
            "masks": plan.masks,
        }
        if plan.task not in (*TASKS, *kitchen.TASKS):
            raise ValueError(f"unknown task {plan.task!r}; expected one of {', '.join((*TASKS, *kitchen.TASKS))}")
        if plan.task in TASKS:
            return JacoEnv(plan.task, delay=plan.delay, variant=plan.variant, **looks)
        if (plan.delay, plan.variant) != (None, None):
            raise ValueError(f"{plan.task} has neither delay nor variant; expected them with the task remember only")
        return kitchen.KitchenEnv(plan.task, **looks)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def summarise(plan: Evaluation, played: list[Episode], policy: str, trace: Trace) -> dict[str, Any]:
    """The document that `stillframe eval` prints and writes. Rates are shares of all episodes.

    `latency_ms` is that of answers, from picture to action, end to end; `ms_per_step` spreads it over all steps.
    """
    wins, answers_ms = sum(episode.success for episode in played), asked_ms(played, trace)
    several = plan.task not in kitchen.TASKS  # things of which one is the right one
    return {
        **asdict(plan),
        "policy": policy,
        "success": wins / len(played),
        "success_ci95": wilson(wins, len(played)),
        **({"wrong_cube": sum(episode.wrong_object for episode in played) / len(played)} if several else {}),
        "timed_out": sum(not (episode.success or episode.wrong_object) for episode in played) / len(played),
        **({"first_direction": sum(episode.first_right for episode in played) / len(played)} if several else {}),
        "steps_mean": float(np.mean([episode.steps for episode in played])),
        "latency_ms": percentiles(answers_ms),
        "ms_per_step": ms_per_step(played),
        **figures(trace, answers_ms),
        "failed_seeds": [episode.seed for episode in played if not episode.success],
    }


def ms_per_step(played: Sequence[Episode]) -> float:
    """From picture to action, end to end: the mean over all steps, those that come out of a chunk among them."""
    return float(np.mean(np.concatenate([episode.act_ms for episode in played])))


def wilson(wins: int, trials: int) -> list[float]:
    """Wilson's score interval of a proportion, [low, high]."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = wins / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    return [max(0.0, middle - half), min(1.0, middle + half)]
