"""Behaviour cloning with a history: what a run learns from, and what it tells.

Knows the objective; the loop is run.py's, scenes are somebody else's work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from stillframe.history.checkpoint import has_memory, load_memory
from stillframe.models.openvla.model import OpenVLANetwork
from stillframe.models.openvla.prompt import PromptEncoder
from stillframe_client.sim import Goal
from stillframe_lab.train.history.dataset import SceneDataset
from stillframe_lab.train.history.policy_objective import MemoryObjective, MemoryTrainee
from stillframe_lab.train.history.recipe import MemoryRecipe
from stillframe_lab.train.new_checkpoint import build_tokenizer, load_network, new_network
from stillframe_lab.train.sequences import SharedPrefix
from stillframe_lab.train.trainer import MAX_PROMPT_TOKENS, Trainer

INSTRUCTION = {1: Goal("remember", "red").instruction, 2: Goal("remember", "red", then="green").instruction}  # by cues


@dataclass(frozen=True)
class MemoryProgress:
    """What a progress bar shows."""

    step: int
    steps: int
    loss: float
    xyz_error: float
    pointer_hits: float
    colour_hits: float
    summary_hits: float
    images_per_s: float


class HistoryCloningTrainer(Trainer):
    """One training run in one folder."""

    def __init__(self, folder: Path, recipe: MemoryRecipe, device: torch.device, start: Path | None = None):
        """Begin, or resume where `folder` stands. `start` is a checkpoint to begin from, None: from nothing."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.policy.seed)
        self.recipe, self.device = recipe, device
        self.trainee = memory_trainee(folder, recipe, start).to(device)
        super().__init__(folder, recipe, recipe.policy, self.trainee, self.trainee, device)

    def run(self, scenery: SceneDataset, until: int, report: Callable[[MemoryProgress], None]) -> None:
        """Train up to step `until`, saving on the way."""

        def told(objective: MemoryObjective, steps_per_s: float) -> None:
            report(self._told(objective, steps_per_s))

        self.go(until, scenery.draw, self.trainee.learn, told)

    def slow_trainee(self) -> MemoryTrainee:
        """The slow copy, to look at: a network of its own."""
        trainee = memory_trainee(self.folder, self.recipe, None)
        trainee.load_state_dict(self.slow.weights)
        return trainee.to(self.device).eval().requires_grad_(requires_grad=False)

    def _told(self, objective: MemoryObjective, steps_per_s: float) -> MemoryProgress:
        progress = MemoryProgress(
            step=self.step,
            steps=self.recipe.policy.steps,
            loss=float(objective.action),
            xyz_error=float(objective.xyz_error),
            pointer_hits=float(objective.pointer_hits),
            colour_hits=float(objective.colour_hits),
            summary_hits=float(objective.summary_hits),
            images_per_s=steps_per_s * 2 * self.recipe.policy.batch_images,
        )
        self.log(progress)
        return progress


def memory_trainee(folder: Path, recipe: MemoryRecipe, start: Path | None) -> MemoryTrainee:
    """A fresh network, or an earlier one's weights, with the task's instruction once for each branch."""
    network = new_network(recipe.policy) if start is None else load_network(start, recipe.policy)
    trainee = MemoryTrainee(network, recipe, sequences_for(network, recipe, folder))
    if start is not None and has_memory(start):
        trainee.pooling.load_state_dict(load_memory(start, torch.device("cpu")).pooling.state_dict())
    return trainee


def sequences_for(network: OpenVLANetwork, recipe: MemoryRecipe, folder: Path) -> dict[int, SharedPrefix]:
    """The task's instructions, by cues, once for each branch. The tokenizer stays in `folder`."""
    tokenizer = folder / "tokenizer.json"
    build_tokenizer().save(str(tokenizer))
    encoder, patches = PromptEncoder(tokenizer, MAX_PROMPT_TOKENS), network.config.towers[0].grid ** 2
    said = {cues: encoder.ids(instruction) for cues, instruction in INSTRUCTION.items()}
    return {cues: SharedPrefix.build([ids] * recipe.branches, patches) for cues, ids in said.items()}
