"""The objective of jaco-tiny-pi0 and -pi05: flow matching by the action expert, and auxiliary heads on the prefix.

Knows the network and one batch; no files. Served, pictures and text see each other, so each instruction needs a prefix
of its own. For the greater part of the training pictures do not see the text, and three instructions share their rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stillframe.models.pi0.network import Pi0Network
from stillframe.models.pi0.prompt import PromptEncoder
from stillframe_client.sim import COLOURS
from stillframe_lab.train.auxiliary import KeypointHead, PointerHead
from stillframe_lab.train.chunked.batches import ChunkBatch
from stillframe_lab.train.chunked.branches import BranchLayout, drawn_branches
from stillframe_lab.train.objective import Objective
from stillframe_lab.train.pi0.attention import KV, KeepingAttention
from stillframe_lab.train.pi0.flow_loss import FlowLoss
from stillframe_lab.train.pi0.recipe import Pi0Recipe
from stillframe_lab.train.pi0.scales import Scales
from stillframe_lab.train.recipe import INSTRUCTIONS
from stillframe_lab.train.sequences import ACTION_DIM

FLOW_SHARE, COPY_SHARE, AUXILIARY_SHARE = 2.0, 2.5, 0.5  # of the losses in the sum
SHARING = 3  # instructions that share a picture's rows


@dataclass(frozen=True)
class Prefix:
    """What the decoder makes of pictures and texts."""

    patches: Tensor  # [batch, patches, width], as they enter the decoder
    deep: Tensor  # the same before its last layer
    text: Tensor  # [batch, branches, width]: each text's last row, there
    kv: list[list[KV]]  # [branches][layers]: of pictures and text


class Pi0Trainee(nn.Module):
    """The network with its auxiliary heads."""

    def __init__(self, policy: Pi0Network, recipe: Pi0Recipe, encoder: PromptEncoder):
        super().__init__()
        width = recipe.width
        self.policy = policy
        self.keypoint_heads = nn.ModuleList(KeypointHead(width) for _ in range(2))
        self.pointer = PointerHead(width)
        self.regression = nn.Linear(width, recipe.horizon * ACTION_DIM)  # so that a text row has it to copy
        self.scales = Scales.of(adaptive=recipe.adaptive)
        self.flow_loss = FlowLoss(policy, recipe.repeats)
        self._recipe, self._encoder = recipe, encoder
        self._cube_of = torch.tensor([COLOURS.index(goal.colour) for goal in INSTRUCTIONS])

    def forward(self, batch: ChunkBatch, generator: torch.Generator, *, as_served: bool) -> Objective:
        """Run one batch; `generator` chooses the instructions, and draws noise and times."""
        asked = drawn_branches(batch.goals, generator, 1 if as_served else SHARING)
        goals = batch.goals.gather(1, asked.branch)
        labels = batch.chunks[torch.arange(len(goals))[:, None], asked.branch]  # [batch, branches, horizon, 7]
        wanted = self.scales.scaled_actions(labels)
        state = self.scales.scaled_state(batch.state)
        state += torch.randn(state.shape, generator=generator) * self._recipe.state_noise
        prefix = self.prefix(batch.pixels[:, 0, 3:], state, goals, as_served=as_served)
        flow = torch.stack(
            [self.flow_loss(kv, state, wanted[:, at], generator) for at, kv in enumerate(prefix.kv)], dim=1
        )
        copied = (self.regression(prefix.text).float().view(wanted.shape) - wanted).abs()
        action, regression = (self._mean(each, asked.counts) for each in (flow, copied))
        spots = self.located(prefix.patches, batch) + self.keypoint_heads[1](prefix.deep, batch.keypoints)
        pointing, hits = self.pointer(prefix.text, prefix.deep, batch.keypoints, self._cube_of[goals])
        total = FLOW_SHARE * action + COPY_SHARE * regression + AUXILIARY_SHARE * (spots + pointing)
        off = self.scales.xyz_unit * copied[..., :3].mean().detach()
        return Objective(total, action.detach(), off, hits.detach())

    def located(self, patches: Tensor, batch: ChunkBatch) -> Tensor:
        """The loss of patches [batch, patches, width] that are to say what is where."""
        loss: Tensor = self.keypoint_heads[0](patches, batch.keypoints)
        return loss

    def prefix(self, pixels: Tensor, state: Tensor, goals: Tensor, *, as_served: bool = True) -> Prefix:
        """Pictures [batch, 3, H, W] in -1..1, scaled states [batch, 7], instructions [batch, branches].

        Instructions of a branch are of one task. `as_served`: pictures see the instruction, of which there is one.
        """
        patches = self.policy.patches(pixels)
        texts = [self._embedded(state, ids) for ids in goals.T.tolist()]
        layout = BranchLayout.of(patches.shape[1], [rows.shape[1] for rows in texts])
        taps: dict[int, Tensor] = {}
        mask, last = None if as_served else layout.mask, self._recipe.layers - 1
        attention = KeepingAttention(layout.positions, mask, taps.__setitem__, last)
        self.policy.decoder.model(torch.cat((patches, *texts), dim=1), attention)
        deep = taps[last]
        pictures, ends = torch.arange(patches.shape[1]), torch.tensor(layout.stops)
        starts = [patches.shape[1], *layout.stops[:-1]]
        own = [torch.cat((pictures, torch.arange(*ends))) for ends in zip(starts, layout.stops, strict=True)]
        return Prefix(
            patches, deep[:, : patches.shape[1]], deep[:, ends - 1], [attention.of_rows(rows) for rows in own]
        )

    def _embedded(self, state: Tensor, goals: Sequence[int]) -> Tensor:
        """Prompts of one instruction a picture: [batch, ids, width]."""
        read = state.double().numpy() if self._encoder.form.with_state else [None] * len(goals)
        ids = [self._encoder.ids(INSTRUCTIONS[goal].instruction, own) for goal, own in zip(goals, read, strict=True)]
        return self.policy.decoder.embed(torch.tensor(ids))

    def _mean(self, off: Tensor, counts: Tensor) -> Tensor:
        """The mean of [batch, branches, horizon, 7] by the recipe's weights, of the branches that count."""
        weights = torch.tensor(self._recipe.action_weights)
        each = (off * weights).sum(-1).mean(-1) / weights.sum()
        return (each * counts).sum() / counts.sum()
