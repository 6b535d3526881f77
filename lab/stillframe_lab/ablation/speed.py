"""The ablation's races: which models, pictures and counts of reused tokens.

Knows the simulator, for its pictures; races are run by evaluation/race.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import play
from stillframe_lab.ablation.cell import open_cpu_model
from stillframe_lab.ablation.plan import ADAPTIVE, ADAPTIVE_BLIND, COUNTS, NO_GAP_S, OFF, AblationPlan, arms, forced
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.evaluation.chunk_actor import ChunkActor
from stillframe_lab.evaluation.evaluate import camera_sources
from stillframe_lab.evaluation.race import Observed, race

SEED = 3_000
TRAINED_EPISODES = 4  # of pick
UNTRAINED_FRAMES = 20  # a big model takes seconds for each
KV_BUDGET_MIB = 256.0  # for each way, of one session


@dataclass(frozen=True)
class UntrainedModel:
    """A model of random weights, for timing only."""

    name: str
    make: Callable[[Path], None]  # writes a checkpoint into a folder


def trained_speed(plan: AblationPlan) -> dict[str, Any]:
    """The deployment's own policy on its own episodes: off, forced counts, and mode adaptive as configured."""
    model = open_cpu_model(plan.checkpoint, dtype="float32")
    ways = {**_counts(plan.reuse), ADAPTIVE: arms(plan.reuse)[ADAPTIVE]}
    return race(model, record_episodes(model, TRAINED_EPISODES), ways)


def untrained_speed(plan: AblationPlan, folder: Path) -> dict[str, Any]:
    """The same pictures through another model. Its actions mean nothing, so the pictures are the trained policy's."""
    (episode,) = record_episodes(open_cpu_model(plan.checkpoint, dtype="float32"), 1)
    return race(open_cpu_model(folder, dtype="float32"), [episode[:UNTRAINED_FRAMES]], _counts(plan.reuse))


def family_speed(model: PolicyModel, knobs: ReuseSettings, execute: int, episodes: int) -> dict[str, Any]:
    """A policy on its own episodes, asked as often as it is there: off, the published method's parts, and ours."""
    ways = arms(replace(knobs, kv_budget_mib=KV_BUDGET_MIB))
    raced = {name: way for name, way in ways.items() if name != ADAPTIVE_BLIND}
    return race(model, record_episodes(model, episodes, execute), raced)


class _RecordingActor(LocalActor):
    """Keeps what it was asked about."""

    def __init__(self, model: PolicyModel):
        super().__init__(model, ReuseSettings(), measure_every=0)
        self.seen: list[list[Observed]] = []  # of each episode

    def reset(self) -> None:
        """Begin an episode."""
        super().reset()
        self.seen.append([])

    def __call__(self, observed: Observed) -> Any:
        """The action due now."""
        self.seen[-1].append(observed)
        return super().__call__(observed)


def record_episodes(model: PolicyModel, episodes: int, execute: int = 1) -> list[list[Observed]]:
    """What a policy is asked about in so many episodes of pick, without reuse: every `execute` steps."""
    actor = _RecordingActor(model)
    sources = camera_sources(actor.cameras)
    player = ChunkActor(actor, execute, sources)
    with closing(JacoEnv("pick", cameras=tuple(sources.values()))) as env:
        for seed in range(SEED, SEED + episodes):
            play(env, player, seed=seed)
    return actor.seen


def expert_episodes(cameras: tuple[str, ...], episodes: int, every: int) -> list[list[Observed]]:
    """What a policy of these cameras would be asked about, every so many steps, while the expert picks."""
    sources = camera_sources(cameras)
    with closing(JacoEnv("pick", cameras=tuple(sources.values()))) as env:
        recorded = [_expert_episode(env, seed)[::every] for seed in range(SEED, SEED + episodes)]
    return [
        [{**seen, "images": {name: seen["images"][own] for name, own in sources.items()}} for seen in episode]
        for episode in recorded
    ]


def _expert_episode(env: JacoEnv, seed: int) -> list[Observed]:
    seen: list[Observed] = []

    def act(observed: Observed) -> Any:
        seen.append(observed)
        return env.expert()

    play(env, act, seed=seed)
    return seen


def _counts(knobs: ReuseSettings) -> dict[str, ReuseSettings]:
    """Off, the baseline, and forced counts of tokens in every layer."""
    knobs = replace(knobs, kv_budget_mib=KV_BUDGET_MIB)
    plain = replace(knobs, mode="off", gap_s=NO_GAP_S)
    return {OFF: plain, **{f"{count} tokens": forced(knobs, count, kept=0) for count in COUNTS}}
