"""The training pipeline: demonstrations, cloning, DAgger rounds, more cloning, selection in closed loop.

Knows the order and the folders; each part is its own module. Finished stages on disk are not done again.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from stillframe.tools.charts import loss_chart
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import play
from stillframe_client.sim.table_env import TableEnv
from stillframe_lab.train.cloning import Cloning, CloningTrainer, Progress
from stillframe_lab.train.demonstrations import (
    DAGGER,
    NOISY_EXPERT,
    Collection,
    DaggerPolicy,
    Mixture,
    NoisyExpert,
    collect,
    load_imitator,
)
from stillframe_lab.train.frame_store import FrameStore, Labels
from stillframe_lab.train.new_checkpoint import action_scale
from stillframe_lab.train.recipe import Recipe
from stillframe_lab.train.trainer import LOG_NAME

SNAPSHOT_SHARES = (0.85, 0.9, 0.95, 1.0)  # of all steps: the candidates for selection


@dataclass(frozen=True)
class Score:
    """A candidate's closed-loop results on the selection seeds."""

    folder: str
    episodes: int
    successes: int
    wrong: int
    mean_steps: float


@dataclass(frozen=True)
class SelectedPolicy:
    """The selected candidate, and the scores of all."""

    best: Score
    scores: list[Score]


EpisodeMaker = Callable[[Any], Iterator[tuple[TableEnv, int]]]  # recipe -> environments and seeds to be played


@dataclass(frozen=True)
class PolicyKind:
    """A kind of policy: what is collected for it, how its frames are labelled, what trains it."""

    collection: Callable[[Any, int, tuple[int, ...], Mixture], Collection]  # recipe, frames, seed, mixture
    labels: type[Labels]
    trainer: Callable[[Path, Any, torch.device, Path | None], Cloning[Any]]  # folder, recipe, device, start
    loss_name: str = "action loss, nats"
    charted_from: int = 0  # the step from which on it learns to act: of those before, the curve shows nothing
    expert: Mixture = NOISY_EXPERT  # of the demonstrations
    dagger: Mixture = DAGGER  # of the rounds
    episodes: EpisodeMaker | None = None  # of the selection; None: of pick, in a scene of three cubes


def _frames(recipe: Recipe, frames: int, seed: tuple[int, ...], mixture: Mixture) -> Collection:
    return Collection(frames, seed, mixture, recipe.cameras)


OPENVLA_KIND = PolicyKind(_frames, Labels, CloningTrainer)


class TrainingReporter(Protocol):
    """Receives progress."""

    def stage(self, line: str) -> None:
        """A stage begins."""
        ...

    def progress(self, trained: Progress) -> None:
        """A line of the training log."""
        ...


def collect_demonstrations(
    data: Path, recipe: Recipe, workers: int, kind: PolicyKind = OPENVLA_KIND
) -> list[FrameStore]:
    """The noisy expert's frames, shard by shard."""
    shards = _shards(data, "demos", recipe, recipe.demo_frames, stage=1, mixture=kind.expert, kind=kind)
    _in_processes(_demo_job, [shard for shard in shards if not FrameStore.exists(shard[0])], workers)
    return [FrameStore.open(folder, wanted.origin, kind.labels) for folder, wanted in shards]


def train_policy(
    run: Path,
    data: Path,
    recipe: Recipe,
    device: torch.device,
    workers: int,
    reporter: TrainingReporter,
    start: Path | None = None,
    kind: PolicyKind = OPENVLA_KIND,
) -> SelectedPolicy:
    """Run the whole recipe in folder `run`, from a checkpoint `start` or from random weights.

    Returns the selected checkpoint and every candidate's score.
    """
    reporter.stage(f"demonstrations: {recipe.demo_frames} frames, minutes")
    demos = collect_demonstrations(data, recipe, workers, kind)
    cloning = kind.trainer(run, recipe, device, start)
    rounds: list[FrameStore] = []
    for number, stop in enumerate(recipe.dagger_at):
        cloning.run(demos, rounds, stop, reporter.progress)
        reporter.stage(f"DAgger round {number + 1}: {recipe.dagger_frames} frames")
        rounds += _dagger_round(run, cloning, number, workers, kind)
    candidates = [run / f"candidate-{int(share * recipe.steps)}" for share in SNAPSHOT_SHARES]
    for share, candidate in zip(SNAPSHOT_SHARES, candidates, strict=True):
        cloning.run(demos, rounds, int(share * recipe.steps), reporter.progress)
        export_whole(cloning, candidate)
    reporter.stage(f"selection: {recipe.select_episodes} episodes for each of {len(candidates)} candidates")
    scores = select(candidates, recipe, workers, kind.episodes)
    best = max(scores, key=lambda score: (score.successes, -score.wrong, -score.mean_steps))
    return SelectedPolicy(best, scores)


def publish(trained: SelectedPolicy, recipe: Recipe, run: Path, out: Path, kind: PolicyKind = OPENVLA_KIND) -> None:
    """Copy the chosen checkpoint to `out`, with the run's loss curve and its figures."""
    shutil.copytree(trained.best.folder, out, dirs_exist_ok=True)
    log = read_log(run)
    title = f"{out.name}: behaviour cloning, DAgger rounds: {len(recipe.dagger_at)}"
    acting = [line for line in log if line["step"] > kind.charted_from]
    loss_chart(out / "loss.png", acting, title, kind.loss_name)
    selection = [{**asdict(score), "folder": Path(score.folder).name} for score in trained.scores]
    write_figures(out, {"recipe": asdict(recipe), "last": log[-1], "selection": selection})


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (run / LOG_NAME).read_text(encoding="utf-8").splitlines()]


def write_figures(out: Path, figures: Mapping[str, Any]) -> None:
    """What the checkpoint in `out` was made by."""
    (out / "training.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def select(
    candidates: Sequence[Path], recipe: Recipe, workers: int, episodes: EpisodeMaker | None = None
) -> list[Score]:
    """Play every candidate on the same seeds; `episodes` None: of pick."""
    jobs = [(candidate, recipe, episodes or pick_episodes) for candidate in candidates]
    return _in_processes(_score_job, jobs, workers)


def export_whole(cloning: Cloning[Any], folder: Path) -> None:
    """Write the policy as it is now, whole, unless a run that was stopped has done so."""
    if folder.is_dir():
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    cloning.export(part)
    part.rename(folder)


def _dagger_round(run: Path, cloning: Cloning[Any], number: int, workers: int, kind: PolicyKind) -> list[FrameStore]:
    """Collect frames driven by the current policy and labelled by the expert."""
    recipe, stage = cloning.recipe, 2 + number
    shards = _shards(run, f"dagger-{number}", recipe, recipe.dagger_frames, stage=stage, mixture=kind.dagger, kind=kind)
    missing = [shard for shard in shards if not FrameStore.exists(shard[0])]
    if missing:
        checkpoint = run / f"dagger-{number}-policy"
        export_whole(cloning, checkpoint)
        jobs = [(*shard, checkpoint, recipe.dagger_expert_share) for shard in missing]
        _in_processes(_dagger_job, jobs, workers)
    return [FrameStore.open(folder, wanted.origin, kind.labels) for folder, wanted in shards]


def _shards(
    folder: Path,
    name: str,
    recipe: Recipe,
    frames: int,
    *,
    stage: int,
    mixture: Mixture,
    kind: PolicyKind = OPENVLA_KIND,
) -> list[tuple[Path, Collection]]:
    """The shards of a collection: folder and contents."""
    each = frames // recipe.shards
    wanted = [kind.collection(recipe, each, (recipe.seed, stage, index), mixture) for index in range(recipe.shards)]
    return [
        (folder / "-".join((name, *one.variant, f"{index}-of-{recipe.shards}")), one)
        for index, one in enumerate(wanted)
    ]


def _in_processes(job: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int) -> list[Any]:
    """Run jobs in worker processes, each with its own GL context."""
    if not jobs:
        return []
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [future.result() for future in [pool.submit(job, *arguments) for arguments in jobs]]


def _demo_job(folder: Path, wanted: Collection) -> None:
    collect(folder, wanted, NoisyExpert(action_scale()), action_scale())


def _dagger_job(folder: Path, wanted: Collection, checkpoint: Path, expert_share: float) -> None:
    collect(folder, wanted, DaggerPolicy(load_imitator(checkpoint), expert_share), action_scale())


def pick_episodes(recipe: Recipe) -> Iterator[tuple[JacoEnv, int]]:
    """Of pick, one scene for all."""
    env = JacoEnv("pick", cameras=recipe.cameras)
    for index in range(recipe.select_episodes):
        yield env, recipe.select_seed + index
    env.close()


def _score_job(checkpoint: Path, recipe: Recipe, episodes: EpisodeMaker) -> Score:
    imitator = load_imitator(checkpoint, recipe.execute)
    played = [play(env, imitator, seed=seed) for env, seed in episodes(recipe)]
    return Score(
        folder=str(checkpoint),
        episodes=len(played),
        successes=sum(episode.success for episode in played),
        wrong=sum(episode.wrong_object for episode in played),
        mean_steps=sum(episode.steps for episode in played) / len(played),
    )
