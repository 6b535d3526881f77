"""Behaviour cloning of a policy with a history: its network, batches, losses and log.

Knows the objective; the loop is trainer.py's, scenes are drawn in dataset.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from stillframe.history.checkpoint import has_history, load_history
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe.models.prismatic.prompt import PromptEncoder
from stillframe_client.sim import Goal
from stillframe_lab.train.history.dataset import SceneDataset
from stillframe_lab.train.history.policy_objective import MemoryBatch, MemoryObjective, MemoryTrainee
from stillframe_lab.train.history.recipe import MemoryRecipe
from stillframe_lab.train.new_checkpoint import MAX_PROMPT_TOKENS, build_tokenizer, load_network, new_network
from stillframe_lab.train.sequences import SharedPrefix
from stillframe_lab.train.trainer import Trainer

INSTRUCTION = {1: Goal("remember", "red").instruction, 2: Goal("remember", "red", then="green").instruction}  # by cues


@dataclass(frozen=True)
class MemoryProgress:
    """A line of the training log."""

    step: int
    steps: int
    loss: float
    xyz_error: float
    pointer_hits: float
    colour_hits: float
    summary_hits: float
    images_per_s: float


class HistoryCloningTrainer(Trainer[MemoryBatch, MemoryObjective, MemoryProgress]):
    """Trains a policy that attends to older frames."""

    def __init__(self, folder: Path, recipe: MemoryRecipe, device: torch.device, start: Path | None = None):
        """Begin, or resume the run in `folder`. `start`: a checkpoint to begin from; None: random weights."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.policy.seed)
        self.recipe, self.device = recipe, device
        self.trainee = memory_trainee(folder, recipe, start).to(device)
        super().__init__(folder, recipe, recipe.policy, self.trainee, self.trainee, device)

    def run(self, dataset: SceneDataset, until: int, on_log: Callable[[MemoryProgress], None]) -> None:
        """Train up to step `until`."""
        self.fit(dataset.draw, until, on_log)

    def averaged_trainee(self) -> MemoryTrainee:
        """A network of its own with the EMA's weights."""
        trainee = memory_trainee(self.folder, self.recipe, None)
        trainee.load_state_dict(self.ema.weights)
        return trainee.to(self.device).eval().requires_grad_(requires_grad=False)

    def loss(self, batch: MemoryBatch, generator: torch.Generator) -> MemoryObjective:
        """See Trainer."""
        return self.trainee.learn(batch, generator)

    def progress(self, losses: MemoryObjective, steps_per_s: float) -> MemoryProgress:
        """See Trainer."""
        return MemoryProgress(
            step=self.step,
            steps=self.recipe.policy.steps,
            loss=float(losses.action),
            xyz_error=float(losses.xyz_error),
            pointer_hits=float(losses.pointer_hits),
            colour_hits=float(losses.colour_hits),
            summary_hits=float(losses.summary_hits),
            images_per_s=steps_per_s * 2 * self.recipe.policy.batch_images,
        )


def memory_trainee(folder: Path, recipe: MemoryRecipe, start: Path | None) -> MemoryTrainee:
    """A new network, or a checkpoint's weights, with the task's instruction once for each branch."""
    network = new_network(recipe.policy) if start is None else load_network(start, recipe.policy)
    trainee = MemoryTrainee(network, recipe, sequences_for(network, recipe, folder))
    if start is not None and has_history(start):
        trainee.pooling.load_state_dict(load_history(start, torch.device("cpu")).pooling.state_dict())
    return trainee


def sequences_for(network: PrismaticNetwork, recipe: MemoryRecipe, folder: Path) -> dict[int, SharedPrefix]:
    """The task's instructions, by cues, once for each branch. The tokenizer stays in `folder`."""
    tokenizer = folder / "tokenizer.json"
    build_tokenizer().save(str(tokenizer))
    encoder, patches = PromptEncoder(tokenizer, MAX_PROMPT_TOKENS), network.config.towers[0].grid ** 2
    said = {cues: encoder.ids(instruction) for cues, instruction in INSTRUCTION.items()}
    return {cues: SharedPrefix.build([ids] * recipe.branches, patches) for cues, ids in said.items()}
