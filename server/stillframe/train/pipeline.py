"""From nothing to a checkpoint: demonstrations, cloning, DAgger rounds, more cloning, selection in closed loop.

Knows the order and the folders; each part is its own room. Whatever is finished on disk is not done again.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stillframe.models.actions import ActionScale, Statistics
from stillframe.train.demonstrations import DAGGER, SHAKY_EXPERT, ShakyExpert, collect
from stillframe.train.frames import FrameStore
from stillframe.train.fresh import UNNORM_KEY, action_statistics
from stillframe.train.imitator import Apprentice, Imitator
from stillframe.train.policy import Cloning, Progress
from stillframe.train.recipe import Recipe
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import play

SNAPSHOT_SHARES = (0.85, 0.9, 0.95, 1.0)  # of all steps: the candidates for selection


@dataclass(frozen=True)
class Score:
    """A candidate's closed-loop record on the selection seeds."""

    folder: str
    episodes: int
    successes: int
    wrong: int
    mean_steps: float


@dataclass(frozen=True)
class Reporter:
    """Where progress goes: a line of text for each stage, and the training's numbers."""

    stage: Callable[[str], None]
    progress: Callable[[Progress], None]


def collect_demonstrations(data: Path, recipe: Recipe, workers: int) -> list[FrameStore]:
    """The shaky expert's frames, one store per worker."""
    folders = [data / f"demos-{index}-of-{workers}" for index in range(workers)]
    jobs = [(folder, recipe.demo_frames // workers, (recipe.seed, 1, i)) for i, folder in enumerate(folders)]
    _in_processes(_demo_job, [job for job in jobs if not FrameStore.exists(job[0])], workers)
    return [FrameStore.open(folder) for folder in folders]


def train_policy(
    run: Path, data: Path, recipe: Recipe, device: torch.device, workers: int, reporter: Reporter
) -> tuple[Path, list[Score]]:
    """Run the whole recipe in folder `run`; returns the chosen checkpoint's folder and every candidate's score."""
    reporter.stage(f"demonstrations: {recipe.demo_frames} frames")
    demos = collect_demonstrations(data, recipe, workers)
    cloning = Cloning(run, recipe, device)
    rounds: list[FrameStore] = []
    for number, stop in enumerate(recipe.dagger_at):
        cloning.run(demos, rounds, stop, reporter.progress)
        reporter.stage(f"DAgger round {number + 1}: {recipe.dagger_frames} frames")
        rounds += _dagger_round(run, cloning, number, workers)
    candidates = [run / f"candidate-{int(share * recipe.steps)}" for share in SNAPSHOT_SHARES]
    for share, candidate in zip(SNAPSHOT_SHARES, candidates, strict=True):
        cloning.run(demos, rounds, int(share * recipe.steps), reporter.progress)
        if not candidate.exists():
            cloning.export(candidate)
    reporter.stage(f"selection: {recipe.select_episodes} episodes of pick for each of {len(candidates)} candidates")
    scores = select(candidates, recipe, workers)
    best = max(scores, key=lambda score: (score.successes, -score.wrong, -score.mean_steps))
    return Path(best.folder), scores


def select(candidates: Sequence[Path], recipe: Recipe, workers: int) -> list[Score]:
    """Play every candidate on the same seeds."""
    jobs = [(candidate, recipe.select_episodes, recipe.select_seed) for candidate in candidates]
    return _in_processes(_score_job, jobs, workers)


def _dagger_round(run: Path, cloning: Cloning, number: int, workers: int) -> list[FrameStore]:
    """The present policy drives, the expert labels."""
    recipe = cloning.recipe
    folders = [run / f"dagger-{number}-{index}-of-{workers}" for index in range(workers)]
    missing = [(i, folder) for i, folder in enumerate(folders) if not FrameStore.exists(folder)]
    if missing:
        checkpoint = run / f"dagger-{number}-policy"
        cloning.export(checkpoint)
        share = recipe.dagger_expert_share
        frames = recipe.dagger_frames // workers
        jobs = [(folder, frames, (recipe.seed, 2 + number, i), checkpoint, share) for i, folder in missing]
        _in_processes(_dagger_job, jobs, workers)
    return [FrameStore.open(folder) for folder in folders]


def _in_processes(job: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int) -> list[Any]:
    """Run each job in a process of its own, so that every one has its own GL context."""
    if not jobs:
        return []
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [future.result() for future in [pool.submit(job, *arguments) for arguments in jobs]]


def _scale() -> ActionScale:
    return Statistics(action_statistics()).scales[UNNORM_KEY]


def _demo_job(folder: Path, frames: int, seed: tuple[int, ...]) -> None:
    collect(folder, frames, seed, ShakyExpert(_scale()), SHAKY_EXPERT, _scale())


def _dagger_job(folder: Path, frames: int, seed: tuple[int, ...], checkpoint: Path, expert_share: float) -> None:
    collect(folder, frames, seed, Apprentice(Imitator(checkpoint), expert_share), DAGGER, _scale())


def _score_job(checkpoint: Path, episodes: int, first_seed: int) -> Score:
    env, imitator = JacoEnv("pick"), Imitator(checkpoint)
    played = [play(env, imitator, seed=first_seed + index) for index in range(episodes)]
    env.close()
    return Score(
        folder=str(checkpoint),
        episodes=episodes,
        successes=sum(episode.success for episode in played),
        wrong=sum(episode.wrong_object for episode in played),
        mean_steps=sum(episode.steps for episode in played) / episodes,
    )
