"""libero-tiny-oft: its loss and its checkpoint, in OpenVLA-OFT's architecture and file layout.

Knows the family's files; no simulator. The whole prompt, state and places of the action included, sees itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillframe.models.openvla_oft.model import STOP_ID
from stillframe.models.scales import ENDS
from stillframe.models.state import StateScale, state_scales
from stillframe_lab.train.chunked.oft import OFTNetwork, RobotCard, save_oft
from stillframe_lab.train.chunked.recipe import InstructedRecipe
from stillframe_lab.train.libero.batches import LiberoBatch
from stillframe_lab.train.libero.prompts import EMPTY, Suffix, taken
from stillframe_lab.train.libero.recipe import LiberoRecipe
from stillframe_lab.train.libero.start import begin_with
from stillframe_lab.train.libero.trainee import Auxiliary, Rows, mean_error, text_row
from stillframe_lab.train.libero.trainer import LiberoTrainer
from stillframe_lab.train.libero.words import CONFIG, STATE_NAMES, STATE_UNITS, WORDS
from stillframe_lab.train.new_checkpoint import new_network
from stillframe_lab.train.objective import Objective
from stillframe_lab.train.sequences import ACTION_DIM

L1_SHARE = 10.0  # of the head's error in the sum


class OFTTrainee(nn.Module):
    """The network with its auxiliary heads."""

    def __init__(self, policy: OFTNetwork, recipe: InstructedRecipe, texts: Sequence[Sequence[int]], scale: StateScale):
        """`texts`: ids behind BOS of each task; `scale`: of the state."""
        super().__init__()
        self.policy = policy
        self.auxiliary = Auxiliary(recipe)
        self._recipe, self._texts = recipe, texts
        self._scale = scale
        self._rows = Rows(policy.network, recipe.layers)

    def forward(self, batch: LiberoBatch, generator: torch.Generator) -> Objective:
        """Run one batch; `generator` adds noise to the state."""
        recipe, patches = self._recipe, self._rows.patches(batch.pixels)
        tails = torch.full((len(patches), recipe.horizon * ACTION_DIM + 1), EMPTY, device=patches.device)
        tails[:, -1] = STOP_ID
        suffix = Suffix.of([self._texts[task] for task in batch.task.tolist()], tails)
        state = self.policy.projector(self._noisy(batch.state, generator))[:, None]
        first = 1 + patches.shape[1] + 1  # the row at which the suffix begins
        counts = torch.cat((suffix.counts.new_ones(len(patches), first), suffix.counts), dim=1)
        deep, hidden = self._rows.decoded(patches, [state.to(patches.dtype)], suffix, counts[:, None, None])
        # Read as a decoder's next tokens are: each from the row before its own.
        places = taken(hidden, first + suffix.behind_text(0, recipe.horizon * ACTION_DIM))
        chunks = self.policy.head(places.flatten(0, 1)).view_as(batch.chunks)
        auxiliary, hits = self.auxiliary(patches, deep, text_row(deep, suffix, first), batch)
        action = mean_error(chunks.float(), batch.chunks, recipe)
        xyz_error = (chunks.float() - batch.chunks).abs()[..., :3].mean()
        return Objective(L1_SHARE * action + auxiliary, action.detach(), xyz_error.detach(), hits.detach())

    def _noisy(self, state: Tensor, generator: torch.Generator) -> Tensor:
        """[batch, numbers] scaled as the policy reads it, with noise."""
        scaled = torch.from_numpy(self._scale.normalise(state.cpu().numpy())).float()
        noise = torch.randn(scaled.shape, generator=generator) * self._recipe.state_noise
        return (scaled + noise).to(state.device)


class LiberoOFTTrainer(LiberoTrainer):
    """Trains libero-tiny-oft."""

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
        policy = OFTNetwork(new_network(recipe), recipe, len(STATE_NAMES))
        if start is not None:
            begin_with(policy.network, start, recipe)
        scale = state_scales(statistics, len(STATE_NAMES), ENDS)[recipe.suite]
        trainee = OFTTrainee(policy, recipe, self.texts(folder, recipe), scale)
        self._statistics = statistics
        super().__init__(folder, recipe, trainee, policy, device)

    def export(self, folder: Path) -> None:
        """See Cloning."""
        card = RobotCard(self._statistics, STATE_NAMES, STATE_UNITS, WORDS, CONFIG)
        save_oft(folder, self.averaged, self.recipe, card)
