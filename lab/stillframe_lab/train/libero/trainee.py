"""What both policies learn beside the action: where things are, and what comes next. And the decoder's rows.

Knows networks and one batch; neither head nor token of an action.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stillframe.models.llama.attention_backend import MaskedAttention
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe_lab.train.auxiliary import KeypointHead, PointerHead
from stillframe_lab.train.chunked.recipe import InstructedRecipe
from stillframe_lab.train.libero.batches import LiberoBatch
from stillframe_lab.train.libero.dataset import KEYPOINTS
from stillframe_lab.train.libero.prompts import EMPTY, Suffix, taken
from stillframe_lab.train.new_checkpoint import BOS_ID
from stillframe_lab.train.sequences import ACTION_DIM


class Auxiliary(nn.Module):
    """Each patch says what is on it; the text's row where its two objects are, and what the hand does next."""

    def __init__(self, recipe: InstructedRecipe):
        super().__init__()
        self.keypoints = nn.ModuleList(KeypointHead(recipe.width, KEYPOINTS) for _ in range(2))
        self.pointers = nn.ModuleList(PointerHead(recipe.width) for _ in range(KEYPOINTS - 1))
        self.regression = nn.Linear(recipe.width, recipe.horizon * ACTION_DIM)
        self._recipe = recipe

    def forward(self, patches: Tensor, deep: Tensor, text: Tensor, batch: LiberoBatch) -> tuple[Tensor, Tensor]:
        """Their share of the loss, and the share of pointers that hit.

        `patches` [batch, patches of all cameras, width]; `deep` [batch, rows, width]: BOS, these, and what follows;
        `text` [batch, width]: the texts' rows.
        """
        recipe, one = self._recipe, patches.shape[1] // len(self._recipe.cameras)
        shallow, deep = patches[:, :one], deep[:, 1 : 1 + one]
        first, second = self.keypoints
        spots = first(shallow, batch.keypoints) + second(deep, batch.keypoints)
        hits = []
        for number, pointer in enumerate(self.pointers):
            which = torch.tensor([number], device=text.device)
            pointing, hit = pointer(text[:, None], deep, batch.keypoints, which)
            spots = spots + pointing
            hits.append(hit)
        ahead = mean_error(self.regression(text).float().view_as(batch.chunks), batch.chunks, recipe)
        return recipe.copy_share * ahead + recipe.auxiliary_share * spots, torch.stack(hits).mean()


def mean_error(said: Tensor, chunks: Tensor, recipe: InstructedRecipe) -> Tensor:
    """|error| of [batch, horizon, 7], its mean by the recipe's weights."""
    weights = torch.tensor(recipe.action_weights, device=said.device)
    return ((said - chunks).abs() * weights).sum(-1).mean() / weights.sum()


class Rows:
    """The decoder's rows of a batch: BOS, pictures, what stands before the text, and a suffix."""

    def __init__(self, network: PrismaticNetwork, layers: int):
        self._network, self._layers = network, layers

    def patches(self, pixels: Tensor) -> Tensor:
        """[batch, cameras, 6, H, W] -> [batch, patches of all cameras, width]."""
        views: Tensor = self._network.patches(pixels.flatten(0, 1))
        return views.reshape(len(pixels), -1, views.shape[-1])

    def decoded(self, patches: Tensor, before: Sequence[Tensor], suffix: Suffix, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Rows before the last layer, and the final normed ones, [batch, rows, width] each.

        `before`: further rows [batch, some, width]; `mask`: as attention takes it, of all rows.
        """
        decoder = self._network.language_model
        bos = decoder.embed(torch.full((len(patches), 1), BOS_ID, device=patches.device))
        behind = decoder.embed(suffix.ids.clamp(min=0)) * (suffix.ids != EMPTY)[..., None]
        rows = torch.cat((bos, patches, *before, behind.to(patches.dtype)), dim=1)
        taps: dict[int, Tensor] = {}
        positions = torch.arange(rows.shape[1], device=rows.device)
        hidden = decoder.model(rows, MaskedAttention(positions, mask, taps.__setitem__))
        return taps[self._layers - 1], hidden


def text_row(deep: Tensor, suffix: Suffix, first: int) -> Tensor:
    """[batch, width]: each text's last row; the suffix begins at row `first`."""
    return taken(deep, suffix.text_end[:, None] + first)[:, 0]
