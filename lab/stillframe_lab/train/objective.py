"""The training objective: soft action bins for six instructions a picture, and the auxiliary heads.

Knows the network and one batch; no optimiser, no files.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stillframe.models.actions import ActionBins
from stillframe.models.llama.attention_backend import MaskedAttention
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe_lab.train.auxiliary import KeypointHead, Keypoints, PointerHead, soft_cross_entropy
from stillframe_lab.train.new_checkpoint import BOS_ID
from stillframe_lab.train.recipe import Recipe
from stillframe_lab.train.sequences import SharedPrefix


@dataclass(frozen=True)
class Batch:
    """A few pictures and what is known of them."""

    pixels: Tensor  # [batch, cameras, 6, H, W], normalised
    actions: Tensor  # [batch, branches, 7] in [-1, 1]
    keypoints: Keypoints  # in the first camera's picture

    def to(self, device: torch.device) -> Batch:
        """The same, on another device."""
        return Batch(self.pixels.to(device), self.actions.to(device), self.keypoints.to(device))


@dataclass(frozen=True)
class Objective:
    """Losses of a batch: `total` is minimised, the rest is for people."""

    total: Tensor
    action: Tensor
    xyz_error: Tensor  # mean |predicted - label| of dx, dy, dz, in units of the speed limit
    pointer_hits: Tensor


class Trainee(nn.Module):
    """The network with its auxiliary heads."""

    def __init__(self, network: PrismaticNetwork, recipe: Recipe, sequence: SharedPrefix, cube_of: Tensor):
        super().__init__()
        self.network = network
        self.keypoint_heads = nn.ModuleList(KeypointHead(recipe.width) for _ in range(2))
        self.pointer = PointerHead(recipe.width)
        self._recipe = recipe
        self._sequence = sequence
        self._cube_of = cube_of  # [branches]: which cube each instruction names
        self._tokens = ActionTokens(network.config.bins, recipe)

    def forward(self, batch: Batch, generator: torch.Generator) -> Objective:
        """Run one batch; `generator` jitters the action tokens that are fed back in."""
        index = self._tokens.index(batch.actions)
        views = self.network.patches(batch.pixels.flatten(0, 1))  # [batch * cameras, patches of one, width]
        patches = views.reshape(len(batch.pixels), -1, views.shape[-1])
        first = patches[:, : views.shape[1]]
        deep, hidden = self._decode(patches, self._tokens.jittered(index, generator))
        logits = self.said(hidden)
        action = self._tokens.loss(logits, index)
        seen = deep[:, 1 : 1 + first.shape[1]]
        spots = self.keypoint_heads[0](first, batch.keypoints) + self.keypoint_heads[1](seen, batch.keypoints)
        text = deep[:, self._sequence.text_end]
        pointing, hits = self.pointer(text, seen, batch.keypoints, self._cube_of)
        off = self._tokens.error(logits, index)
        total = self._recipe.action_share * action + spots + pointing
        return Objective(total, action.detach(), off.detach(), hits.detach())

    def _decode(self, patches: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Rows after the last layer but one, and the final normed rows, [batch, rows, width] each."""
        decoder, sequence = self.network.language_model, self._sequence
        bos = torch.full((len(patches), 1), BOS_ID, device=patches.device)
        ids = sequence.with_actions(tokens)
        rows = torch.cat((decoder.embed(bos), patches, decoder.embed(ids)), dim=1)
        taps: dict[int, Tensor] = {}
        hidden = decoder.model(rows, MaskedAttention(sequence.positions, sequence.mask, taps.__setitem__))
        return taps[self._recipe.layers - 1], hidden

    def said(self, hidden: Tensor) -> Tensor:
        """The final rows -> log-probabilities of the bins [batch, branches, 7, bins - 1]."""
        return self._tokens.rising(self.network.language_model.logits(hidden[:, self._sequence.predicting]))


class ActionTokens:
    """What training makes of actions that are tokens: bins as labels, neighbours as inputs, soft bins as the loss."""

    def __init__(self, bins: ActionBins, recipe: Recipe):
        self._bins, self._recipe = bins, recipe

    def index(self, actions: Tensor) -> Tensor:
        """Values in [-1, 1] -> rising bin numbers 0..254, the centres that tokens decode to."""
        return ((actions + 1) * (self._bins.bins - 1) / 2).floor().clamp(0, self._bins.bins - 2).long()

    def jittered(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Token ids of nearby bins: a policy that reads its own outputs has to live with neighbours."""
        noise = torch.randn(index.shape, generator=generator) * self._recipe.jitter_sigma_bins
        near = (index + noise.round().long().to(index.device)).clamp(0, self._bins.bins - 2)
        return self._bins.text_vocab_size - 1 - near

    def rising(self, logits: Tensor) -> Tensor:
        """[..., vocabulary] -> log-probabilities [..., bins - 1], rising; normalised over all, as decoding will."""
        logits = logits.float()
        logits = logits - logits.logsumexp(-1, keepdim=True)
        high = self._bins.text_vocab_size
        return logits[..., high - self._bins.bins + 1 : high].flip(-1)

    def loss(self, logits: Tensor, index: Tensor) -> Tensor:
        """Soft cross-entropy; the part of the vocabulary that is no action is pushed down by the normaliser."""
        weights = torch.tensor(self._recipe.action_weights, device=logits.device)
        outside = -logits.logsumexp(-1)  # how much probability the action ids have lost to the others
        per_dimension = soft_cross_entropy(logits, index.float(), self._recipe.soft_sigma_bins) + outside
        return (per_dimension * weights).sum(-1).mean() / weights.sum()

    def error(self, logits: Tensor, index: Tensor) -> Tensor:
        """Mean |said - label| of dx, dy, dz, in units of the range's half."""
        return (logits.argmax(-1) - index).abs()[..., :3].float().mean() * 2 / self._bins.bins
