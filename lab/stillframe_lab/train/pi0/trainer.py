"""Trainer of jaco-tiny-pi0 and jaco-tiny-pi05.

Knows the order of what is trained; no architecture. First the tower learns to say what the tower of the start says,
then all of it learns to act.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

from stillframe.models.pi0.prompt import PromptEncoder, PromptForm
from stillframe.models.pi0.tokenizer import NAMES, SentencePiece
from stillframe_lab.train.chunked.batches import ChunkBatch
from stillframe_lab.train.chunked.trainer import ChunkTrainer
from stillframe_lab.train.new_checkpoint import load_network
from stillframe_lab.train.objective import Objective
from stillframe_lab.train.pi0.files import save_openpi
from stillframe_lab.train.pi0.recipe import Pi0Recipe
from stillframe_lab.train.pi0.start import begin_with_llama, begin_with_pi0, new_network
from stillframe_lab.train.pi0.trainee import Pi0Trainee
from stillframe_lab.train.pi0.vocabulary import pieces, tokenizer_model

MAX_TOKENS = 48  # of a prompt


class Pi0Trainer(ChunkTrainer):
    """Trains one of the two."""

    recipe: Pi0Recipe

    def __init__(self, folder: Path, recipe: Pi0Recipe, device: torch.device, start: Path | None = None):
        """Begin, or resume the run in `folder`.

        `start`: an OpenVLA to learn from, where the recipe has steps for that; else a pi0 of the same sizes.
        """
        torch.manual_seed(recipe.seed)
        self.policy = new_network(recipe)
        self._teacher = None
        if start is not None and recipe.distil_steps:
            self._teacher = load_network(start, recipe.start).requires_grad_(requires_grad=False)
            begin_with_llama(self.policy, self._teacher)
        elif start is not None:
            begin_with_pi0(self.policy, start, recipe)
        trainee = Pi0Trainee(self.policy, recipe, prompt_encoder(folder, recipe))
        self._located = trainee.located
        super().__init__(folder, recipe, trainee, self.policy, device)

    def loss(self, batch: ChunkBatch, generator: torch.Generator) -> Objective:
        """See Trainer."""
        if self._teacher is not None and self.step < self.recipe.distil_steps:
            return self._distilled(batch)
        as_served = self.step >= self.recipe.shared_share * self.recipe.steps
        objective: Objective = self.trainee(batch, generator, as_served=as_served)
        return objective

    def export(self, folder: Path) -> None:
        """See Cloning."""
        save_openpi(folder, self.averaged, self.recipe)

    def _distilled(self, batch: ChunkBatch) -> Objective:
        """The tower's patches against the start's, in units of their variance, and what they say of cubes and tool."""
        assert self._teacher is not None  # noqa: S101 (asked before)
        with torch.no_grad():
            wanted = self._teacher.patches(batch.pixels[:, 0]).float()
        patches = self.policy.patches(batch.pixels[:, 0, 3:]).float()
        off = functional.mse_loss(patches, wanted) / wanted.var()
        total = off + self._located(patches, batch)
        nothing = torch.zeros(())
        return Objective(total, off.detach(), nothing, nothing)


def prompt_encoder(folder: Path, recipe: Pi0Recipe) -> PromptEncoder:
    """As the policy has it when served, of a tokenizer that is written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / NAMES[0]
    file.write_bytes(tokenizer_model())
    return PromptEncoder(SentencePiece(file, len(pieces())), PromptForm(MAX_TOKENS, with_state=recipe.adaptive))
