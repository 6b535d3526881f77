"""libero-tiny: its loss and its checkpoint, in OpenVLA's architecture and file layout.

Knows action tokens; no simulator. Causal: text sees pictures, each of an action's tokens those before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe_lab.train.libero.batches import LiberoBatch
from stillframe_lab.train.libero.prompts import Suffix, taken
from stillframe_lab.train.libero.recipe import LiberoRecipe
from stillframe_lab.train.libero.start import begin_with
from stillframe_lab.train.libero.trainee import Auxiliary, Rows, text_row
from stillframe_lab.train.libero.trainer import LiberoTrainer
from stillframe_lab.train.libero.words import CONFIG, WORDS
from stillframe_lab.train.new_checkpoint import new_network, save_checkpoint
from stillframe_lab.train.objective import ActionTokens, Objective
from stillframe_lab.train.sequences import ACTION_DIM


class TokenTrainee(nn.Module):
    """The network with its auxiliary heads."""

    def __init__(self, network: PrismaticNetwork, recipe: LiberoRecipe, texts: Sequence[Sequence[int]]):
        """`texts`: ids behind BOS of each task."""
        super().__init__()
        self.network = network
        self.auxiliary = Auxiliary(recipe)
        self._recipe, self._texts = recipe, texts
        self._rows, self._tokens = Rows(network, recipe.layers), ActionTokens(network.config.bins, recipe)

    def forward(self, batch: LiberoBatch, generator: torch.Generator) -> Objective:
        """Run one batch; `generator` jitters the action tokens that are fed back in."""
        index, patches = self._tokens.index(batch.chunks[:, 0]), self._rows.patches(batch.pixels)
        tails = self._tokens.jittered(index, generator)[:, :-1]
        suffix = Suffix.of([self._texts[task] for task in batch.task.tolist()], tails)
        first = 1 + patches.shape[1]  # the row at which the suffix begins
        rows = first + suffix.ids.shape[1]
        mask = torch.ones(rows, rows, dtype=torch.bool, device=patches.device).tril()
        deep, hidden = self._rows.decoded(patches, [], suffix, mask)
        said = self.network.language_model.logits(taken(hidden, first + suffix.behind_text(0, ACTION_DIM)))
        logits = self._tokens.rising(said)  # [batch, 7, bins - 1]
        auxiliary, hits = self.auxiliary(patches, deep, text_row(deep, suffix, first), batch)
        action = self._tokens.loss(logits, index)
        total = self._recipe.action_share * action + auxiliary
        return Objective(total, action.detach(), self._tokens.error(logits, index).detach(), hits.detach())


class LiberoTokenTrainer(LiberoTrainer):
    """Trains libero-tiny."""

    def __init__(
        self,
        folder: Path,
        recipe: LiberoRecipe,
        statistics: Mapping[str, Any],
        device: torch.device,
        start: Path | None = None,
    ):
        """Begin, or resume the run in `folder`. `start`: a policy of the same widths to begin with; None: random."""
        torch.manual_seed(recipe.seed)
        network = new_network(recipe)
        if start is not None:
            begin_with(network, start, recipe)
        self._statistics = statistics
        super().__init__(folder, recipe, TokenTrainee(network, recipe, self.texts(folder, recipe)), network, device)

    def export(self, folder: Path) -> None:
        """See Cloning."""
        save_checkpoint(folder, self.averaged, self.recipe, CONFIG, self._statistics, WORDS)
