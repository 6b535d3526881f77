"""The ablation's races: which models, pictures and counts of reused tokens.

Knows the simulator, for its pictures; races are run by evaluation/race.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stillframe.daemon.config import load_config
from stillframe.daemon.serve import open_model
from stillframe.engine.local import LocalPolicy
from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import play
from stillframe_lab.ablation.plan import ADAPTIVE, COUNTS, NO_GAP_S, OFF, AblationPlan, arms, forced
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
    model = _open_model(plan.checkpoint)
    ways = {**_counts(plan.reuse), ADAPTIVE: arms(plan.reuse)[ADAPTIVE]}
    return race(model, record_episodes(model, TRAINED_EPISODES), ways)


def untrained_speed(plan: AblationPlan, folder: Path) -> dict[str, Any]:
    """The same pictures through another model. Its actions mean nothing, so the pictures are the trained policy's."""
    (episode,) = record_episodes(_open_model(plan.checkpoint), 1)
    return race(_open_model(folder), [episode[:UNTRAINED_FRAMES]], _counts(plan.reuse))


def record_episodes(model: PolicyModel, episodes: int) -> list[list[Observed]]:
    """The observations of so many episodes of pick, played without reuse."""
    policy, seen = LocalPolicy(model), []
    with closing(JacoEnv("pick")) as env:
        for seed in range(SEED, SEED + episodes):
            pictures: list[Observed] = []

            def act(observed: Observed, into: list[Observed] = pictures) -> Any:
                into.append(observed)
                return policy(observed)

            play(env, act, seed=seed)
            seen.append(pictures)
    return seen


def _counts(knobs: ReuseSettings) -> dict[str, ReuseSettings]:
    """Off, the baseline, and forced counts of tokens in every layer."""
    knobs = replace(knobs, kv_budget_mib=KV_BUDGET_MIB)
    plain = replace(knobs, mode="off", gap_s=NO_GAP_S)
    return {OFF: plain, **{f"{count} tokens": forced(knobs, count, kept=0) for count in COUNTS}}


def _open_model(folder: Path) -> PolicyModel:
    return open_model(load_config(None, {"checkpoint": folder, "device": "cpu", "dtype": "float32", "threads": 1}))
