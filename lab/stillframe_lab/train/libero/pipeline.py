"""The training pipeline for LIBERO: demonstrations, cloning, DAgger rounds, more cloning.

Knows the order and the folders; each part is its own module. Finished stages on disk are not done again. The fixed
initial states are never trained on, so nothing is selected by them either: the last weights are taken.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillframe.tools.charts import loss_chart
from stillframe_lab.libero.process import SimulatorProcess, simulator_python, start_command
from stillframe_lab.libero.suites import TASKS
from stillframe_lab.train.cloning import Cloning
from stillframe_lab.train.demonstrations import load_imitator
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.libero.dataset import frames_of
from stillframe_lab.train.libero.demonstrations import Collector, DemoFolder, DemoId, wanted_demos
from stillframe_lab.train.libero.leader import PolicyLeader
from stillframe_lab.train.libero.recipe import LiberoRecipe
from stillframe_lab.train.libero.recording import Leader, Recorder, Wanderer
from stillframe_lab.train.libero.words import action_statistics, with_state
from stillframe_lab.train.pipeline import TrainingReporter, export_whole, read_log, write_figures

Start = Callable[[Path, LiberoRecipe, Mapping[str, Any], torch.device, Path | None], Cloning[Any]]


@dataclass(frozen=True)
class DemoSource:
    """Where a recipe's demonstrations are, and how those that are missing are made."""

    data: Path
    recipe: LiberoRecipe
    workers: int

    @property
    def folder(self) -> DemoFolder:
        """Shared by all recipes that draw alike."""
        return DemoFolder(self.data / f"{self.recipe.suite}-{self.recipe.demo_seed}-{self.recipe.demo_keep}")

    def collect(self, wanted: Sequence[DemoId]) -> None:
        """The expert's, after a random start."""
        self._collector(self.folder, self.recipe.demo_seed).collect(wanted, self.workers, simulator, Wanderer)

    def collect_round(self, folder: DemoFolder, wanted: Sequence[DemoId], number: int, checkpoint: Path) -> None:
        """The expert's, from where a policy led."""

        def leader() -> Leader:
            return PolicyLeader(load_imitator(checkpoint, self.recipe.execute), self.recipe)

        seed = self.recipe.seed * 1_000 + number
        self._collector(folder, seed).collect(wanted, self.workers, simulator, leader)

    def frames(self, store: Path, demos: DemoFolder, wanted: Sequence[DemoId]) -> FrameStore:
        """As the policy is trained on them."""
        return frames_of(store, demos, wanted, self.recipe.suite, self.recipe.image_px)

    def _collector(self, folder: DemoFolder, seed: int) -> Collector:
        return Collector(folder, Recorder(self.recipe.suite, self.recipe.demo_keep), seed)


def simulator() -> SimulatorProcess:
    """One that draws the fast pictures."""
    return SimulatorProcess(start_command(simulator_python()), draw="fast")


def all_demos(recipe: LiberoRecipe) -> list[DemoId]:
    """Those of every task."""
    return wanted_demos(range(TASKS), recipe.demos_each)


def train_libero(
    run: Path, source: DemoSource, begin: Start, device: torch.device, reporter: TrainingReporter, start: Path | None
) -> Path:
    """Run the whole recipe in folder `run`, from a checkpoint `start` or from random weights -> the checkpoint."""
    recipe = source.recipe
    wanted = all_demos(recipe)
    if missing := source.folder.missing(wanted):
        reporter.stage(f"demonstrations: {len(missing)} of {len(wanted)} are missing, some seconds each")
        source.collect(wanted)
    states = np.concatenate([source.folder.load(demo).states for demo in wanted])
    statistics = with_state(action_statistics(recipe.suite), recipe.suite, states)
    cloning = begin(run, recipe, statistics, device, start)
    demos, rounds = [source.frames(run / "frames", source.folder, wanted)], list[FrameStore]()
    for number, at in enumerate(recipe.dagger_at):
        cloning.run(demos, rounds, at, reporter.progress)
        rounds.append(_dagger_round(run, source, cloning, number, reporter))
    cloning.run(demos, rounds, recipe.steps, reporter.progress)
    done = run / "checkpoint"
    export_whole(cloning, done)
    return done


def publish_libero(trained: Path, run: Path, out: Path, recipe: LiberoRecipe, loss_name: str) -> None:
    """Copy the checkpoint to `out`, with the run's loss curve and its figures."""
    shutil.copytree(trained, out, dirs_exist_ok=True)
    log = read_log(run)
    loss_chart(out / "loss.png", log, f"{out.name}: cloning of a scripted expert", loss_name)
    write_figures(out, {"recipe": asdict(recipe), "last": log[-1]})


def _dagger_round(
    run: Path, source: DemoSource, cloning: Cloning[Any], number: int, reporter: TrainingReporter
) -> FrameStore:
    """The expert's demonstrations from where the policy as it is now leads."""
    folder = DemoFolder(run / f"dagger-{number}")
    wanted = wanted_demos(range(TASKS), source.recipe.round_each)
    if folder.missing(wanted):
        reporter.stage(f"DAgger round {number + 1}: {len(wanted)} demonstrations")
        checkpoint = run / f"dagger-{number}-policy"
        export_whole(cloning, checkpoint)
        source.collect_round(folder, wanted, number, checkpoint)
    return source.frames(run / f"dagger-{number}-frames", folder, wanted)
