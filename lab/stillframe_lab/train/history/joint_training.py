"""Fine-tuning of policy and gate together: its network, batches, losses and log.

Knows the objective; the loop is trainer.py's, scenes are drawn in dataset.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillframe.history.checkpoint import HistoryWeights, load_history
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
    """A line of the training log."""

    step: int
    steps: int
    means: JointFigures  # over the batches since the last line
    images_per_s: float


class JointTrainer(Trainer[JointBatch, JointObjective, JointProgress]):
    """Fine-tunes a policy and its gate."""

    def __init__(self, folder: Path, recipe: JointRecipe, start: Path):
        """Begin with the checkpoint `start`, policy and gate trained apart, or resume the run in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.memory.policy.seed)
        self.folder, self.recipe, self._start = folder, recipe, start
        self._recent: list[JointFigures] = []  # of the batches since the last line of the log
        self.trainee = self._built(load_history(start, CPU))
        super().__init__(folder, recipe, recipe.schedule, self.trainee, self.trainee, CPU)

    def run(self, dataset: SceneDataset, until: int, on_log: Callable[[JointProgress], None]) -> None:
        """Train up to step `until`."""

        def draw(rng: np.random.Generator) -> JointBatch:
            return JointBatch.of(dataset.draw(rng), self.recipe, rng)

        self._recent.clear()
        self.fit(draw, until, on_log)

    def loss(self, batch: JointBatch, generator: torch.Generator) -> JointObjective:
        """See Trainer."""
        objective = self.trainee.learn_both(batch, generator)
        self._recent.append(objective.figures)
        return objective

    def progress(self, losses: JointObjective, steps_per_s: float) -> JointProgress:  # noqa: ARG002 (means say more)
        """See Trainer. Means over the batches since the last line."""
        images_per_s = steps_per_s * 2 * self.recipe.memory.policy.batch_images
        means = JointFigures.mean(self._recent)
        self._recent.clear()
        return JointProgress(self.step, self.recipe.steps, means, images_per_s)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The scorers, and the policy more slowly."""
        scorers = [*self.trainee.scorers.parameters()]
        of_scorers = {id(parameter) for parameter in scorers}
        policy = [parameter for parameter in self.trainee.parameters() if id(parameter) not in of_scorers]
        return [{"params": scorers}, {"params": policy, "share": self.recipe.policy_share}]

    def export(self, folder: Path) -> None:
        """Write the EMA as a checkpoint that the daemon serves."""
        weights = load_history(self._start, CPU)
        trainee = self._built(weights)  # whose scorers are those of `weights`
        trainee.load_state_dict(self.ema.weights)
        weights.pooling.load_state_dict(trainee.pooling.state_dict())
        save_policy(folder, trainee, weights, self.recipe.memory)

    def _built(self, weights: HistoryWeights) -> JointTrainee:
        network = load_network(self._start, self.recipe.memory.policy)
        return JointTrainee(network, self.recipe, sequences_for(network, self.recipe.memory, self.folder), weights)
