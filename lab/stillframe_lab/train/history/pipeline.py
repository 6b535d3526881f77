"""The training pipeline of a policy with a history: scenes, cloning, episodes, gate, joint fine-tuning.

Knows the order and the folders; each part is its own module. Finished stages on disk are not done again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch

from stillframe.history.checkpoint import load_history, save_history
from stillframe.models.checkpoint import SINGLE_NAME
from stillframe.tools.charts import loss_chart
from stillframe_lab.train.history.charts import gate_chart, read_log, together_chart
from stillframe_lab.train.history.checkpoint import new_memory_weights, save_policy
from stillframe_lab.train.history.dataset import SceneDataset, Scenes
from stillframe_lab.train.history.episodes import WantedEpisodes, load_episodes, record_episodes, save_episodes
from stillframe_lab.train.history.gate_training import GateProgress, GateTrainer
from stillframe_lab.train.history.joint_training import JointProgress, JointTrainer
from stillframe_lab.train.history.mistakes import WantedMistakes, mistakes_in
from stillframe_lab.train.history.policy_training import HistoryCloningTrainer, MemoryProgress
from stillframe_lab.train.history.recipe import JointRecipe, MemoryRecipe
from stillframe_lab.train.history.scenes import WantedScenes, scenes_in
from stillframe_lab.train.new_checkpoint import action_scale

EPISODES_NAME = "episodes.npz"
POLICY, CORRECTED, GATE, TOGETHER = "policy", "corrected", "gate", "together"  # folders of a run


class HistoryReporter(Protocol):
    """Receives progress."""

    def stage(self, line: str, steps: int) -> None:
        """A stage begins."""
        ...

    def policy(self, trained: MemoryProgress) -> None:
        """A line of the cloning log."""
        ...

    def episodes(self, played: int) -> None:
        """How many episodes or scenes are done."""
        ...

    def gate(self, trained: GateProgress) -> None:
        """A line of the gate's log."""
        ...

    def together(self, trained: JointProgress) -> None:
        """A line of the joint fine-tuning log."""
        ...


def train_memory(
    run: Path, data: Path, joint: JointRecipe, device: torch.device, reporter: HistoryReporter, start: Path | None
) -> Path:
    """Run the whole recipe in folder `run`, from a checkpoint `start` or from random weights -> the checkpoint."""
    recipe = joint.memory
    policy = _cloned(run, recipe, device, reporter, start, lambda: [load_scenes(data, recipe, reporter)])
    if recipe.mistakes:
        policy = _corrected(run / CORRECTED, data, policy, recipe, device, reporter)
    train_gate(run / GATE, policy, recipe, reporter)
    return train_together(run / TOGETHER, data, policy, joint, reporter) if joint.steps else policy


def _cloned(
    run: Path,
    recipe: MemoryRecipe,
    device: torch.device,
    reporter: HistoryReporter,
    start: Path | None,
    scenes: Callable[[], Sequence[Scenes]],
) -> Path:
    """Train by cloning on `scenes`, unless that is done -> the checkpoint."""
    policy = run / POLICY
    if not _finished(policy):
        dataset = SceneDataset(Scenes.joined(scenes()), recipe)
        reporter.stage("cloning", recipe.policy.steps)
        cloning = HistoryCloningTrainer(run, recipe, device, start)
        cloning.run(dataset, recipe.policy.steps, reporter.policy)
        trainee = cloning.averaged_trainee()
        save_policy(policy, trainee, new_memory_weights(trainee, recipe), recipe)
    return policy


def _corrected(
    run: Path, data: Path, cloned: Path, recipe: MemoryRecipe, device: torch.device, reporter: HistoryReporter
) -> Path:
    """Continue cloning from a policy's weights, with scenes that it reaches -> the checkpoint."""

    def scenes() -> Sequence[Scenes]:
        return [load_scenes(data, recipe, reporter), *load_mistakes(run, cloned, recipe, reporter)]

    return _cloned(run, recipe.correcting, device, reporter, cloned, scenes)


def train_gate(run: Path, checkpoint: Path, recipe: MemoryRecipe, reporter: HistoryReporter) -> None:
    """Train the gate and the linear scorer of a checkpoint on its policy's attention, and save them with it."""
    run.mkdir(parents=True, exist_ok=True)
    file = run / EPISODES_NAME
    if not file.is_file():
        wanted = WantedEpisodes(recipe.episode_variants, recipe.episode_delays, recipe.episodes_each)
        reporter.stage("episodes", len(wanted.variants) * len(wanted.delays) * wanted.each)
        save_episodes(file, record_episodes(checkpoint, wanted, reporter.episodes))
    reporter.stage("gate", recipe.gate_steps)
    torch.manual_seed(recipe.policy.seed)
    weights = load_history(checkpoint, torch.device("cpu"))
    GateTrainer(run, weights, recipe).run(load_episodes(file), recipe.gate_steps, reporter.gate)
    save_history(checkpoint, weights)


def train_together(run: Path, data: Path, checkpoint: Path, recipe: JointRecipe, reporter: HistoryReporter) -> Path:
    """Fine-tune a policy and its gate, trained apart before -> the finished checkpoint, in `run`."""
    policy = run / POLICY
    if not _finished(policy):
        dataset = SceneDataset(load_scenes(data, recipe.memory, reporter), recipe.memory)
        reporter.stage("together", recipe.steps)
        joining = JointTrainer(run, recipe, checkpoint)
        joining.run(dataset, recipe.steps, reporter.together)
        joining.export(policy)
    return policy


def publish(policy: Path, run: Path, recipe: JointRecipe, out: Path) -> None:
    """Copy the finished checkpoint to `out`, with the run's curves and its figures."""
    shutil.copytree(policy, out, dirs_exist_ok=True)
    log, gate = _cloning_log(run, recipe.memory), read_log(run / GATE)
    loss_chart(out / "loss.png", log, f"{out.name}: behaviour cloning with a history")
    gate_chart(out / "gate.png", gate, f"{out.name}: what frames are worth, distilled from attention")
    figures = {"recipe": asdict(recipe), "last": log[-1], "gate": gate[-1]}
    if recipe.steps:
        together = read_log(run / TOGETHER)
        together_chart(out / "together.png", together, f"{out.name}: policy and gate together")
        figures["together"] = together[-1]
    (out / "training.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _cloning_log(run: Path, recipe: MemoryRecipe) -> list[dict[str, Any]]:
    """The log of the cloning, continued by that of the corrections."""
    corrections = read_log(run / CORRECTED) if recipe.mistakes else []
    return [*read_log(run), *({**line, "step": line["step"] + recipe.policy.steps} for line in corrections)]


def _finished(policy: Path) -> bool:
    return (policy / SINGLE_NAME).is_file()  # written last


def load_mistakes(run: Path, checkpoint: Path, recipe: MemoryRecipe, reporter: HistoryReporter) -> Iterator[Scenes]:
    """Scenes that a policy reaches, each variant in a folder of its own."""
    for variant, count in recipe.mistakes:
        wanted = WantedMistakes(variant, count, recipe.mistake_every, recipe.policy.image_px)
        reporter.stage("mistakes", count)
        yield mistakes_in(run / f"mistakes-{variant}", wanted, checkpoint, action_scale(), reporter.episodes)


def load_scenes(data: Path, recipe: MemoryRecipe, reporter: HistoryReporter) -> Scenes:
    """All scenes of the recipe, each variant in a folder of its own."""
    reporter.stage("scenes", sum(count for _, count in recipe.scenes))
    parts = [
        scenes_in(data / f"lamps-{variant}-{recipe.policy.image_px}", _wanted(recipe, at), action_scale())
        for at, (variant, _) in enumerate(recipe.scenes)
    ]
    return parts[0] if len(parts) == 1 else Scenes.joined(parts)


def _wanted(recipe: MemoryRecipe, at: int) -> WantedScenes:
    variant, count = recipe.scenes[at]
    return WantedScenes(count, (recipe.policy.seed, at), variant, recipe.policy.image_px)
