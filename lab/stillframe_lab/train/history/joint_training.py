"""Fine-tuning of policy and gate together: what a run begins with, learns from and tells.

Knows the objective; the loop is run.py's, scenes are somebody else's work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillframe.history.checkpoint import Weights, load_memory
from stillframe_lab.train.history.checkpoint import save_policy
from stillframe_lab.train.history.dataset import SceneDataset
from stillframe_lab.train.history.joint_objective import JointBatch, JointFigures, JointObjective, JointTrainee
from stillframe_lab.train.history.policy_training import sequences_for
from stillframe_lab.train.history.recipe import JointRecipe
from stillframe_lab.train.new_checkpoint import load_network
from stillframe_lab.train.trainer import Trainer

CPU = torch.device("cpu")


@dataclass(frozen=True)
class JointProgress:
    """What a progress bar shows."""

    step: int
    steps: int
    means: JointFigures  # of the batches since the line before
    images_per_s: float


class JointTrainer(Trainer):
    """One fine-tuning in one folder."""

    def __init__(self, folder: Path, recipe: JointRecipe, start: Path):
        """Begin with a policy and a gate that have each learnt alone, or resume where `folder` stands."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.memory.policy.seed)
        self.folder, self.recipe, self._start = folder, recipe, start
        self.trainee = self._built(load_memory(start, CPU))
        super().__init__(folder, recipe, recipe.pace, self.trainee, self.trainee, CPU)

    def run(self, scenery: SceneDataset, until: int, report: Callable[[JointProgress], None]) -> None:
        """Train up to step `until`, saving on the way."""

        def draw(rng: np.random.Generator) -> JointBatch:
            return JointBatch.of(scenery.draw(rng), self.recipe, rng)

        def learn(batch: JointBatch, generator: torch.Generator) -> JointObjective:
            objective = self.trainee.learn_both(batch, generator)
            recent.append(objective.figures)
            return objective

        def told(objective: JointObjective, steps_per_s: float) -> None:  # noqa: ARG001 (the seam's shape)
            report(self._told(recent, steps_per_s))

        recent: list[JointFigures] = []
        self.go(until, draw, learn, told)

    def groups(self) -> list[dict[str, Any]]:
        """The scorers, and the policy more slowly."""
        scorers = [*self.trainee.scorers.parameters()]
        of_scorers = {id(parameter) for parameter in scorers}
        policy = [parameter for parameter in self.trainee.parameters() if id(parameter) not in of_scorers]
        return [{"params": scorers}, {"params": policy, "share": self.recipe.policy_share}]

    def export(self, folder: Path) -> None:
        """Write the slow copy as a checkpoint that the daemon serves."""
        weights = load_memory(self._start, CPU)
        trainee = self._built(weights)  # whose scorers are those of `weights`
        trainee.load_state_dict(self.slow.weights)
        weights.pooling.load_state_dict(trainee.pooling.state_dict())
        save_policy(folder, trainee, weights, self.recipe.memory)

    def _built(self, weights: Weights) -> JointTrainee:
        network = load_network(self._start, self.recipe.memory.policy)
        return JointTrainee(network, self.recipe, sequences_for(network, self.recipe.memory, self.folder), weights)

    def _told(self, recent: list[JointFigures], steps_per_s: float) -> JointProgress:
        images_per_s = steps_per_s * 2 * self.recipe.memory.policy.batch_images
        progress = JointProgress(self.step, self.recipe.steps, JointFigures.mean(recent), images_per_s)
        recent.clear()
        self.log(progress)
        return progress
