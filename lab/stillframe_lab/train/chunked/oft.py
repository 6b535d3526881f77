"""jaco-tiny-oft: its network, its loss and its checkpoint, in OpenVLA-OFT's architecture and file layout.

Knows the family's files; no data. The whole prompt, state and places of the action included, sees itself in one pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillframe.files.writing import write_whole
from stillframe.models.llama.attention_backend import MaskedAttention
from stillframe.models.openvla_oft.heads import RegressionHead, StateProjector
from stillframe.models.openvla_oft.model import STOP_ID
from stillframe.models.openvla_oft.parts import ACTION_HEAD, STATE_PROJECTOR
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe.models.scales import ENDS
from stillframe.models.state import STATISTICS, StateScale, state_scales
from stillframe_client.sim import COLOURS
from stillframe_client.sim.proprioception import STATE_NAMES, STATE_UNITS
from stillframe_lab.train.auxiliary import KeypointHead, PointerHead
from stillframe_lab.train.chunked.batches import ChunkBatch
from stillframe_lab.train.chunked.branches import BranchLayout, drawn_branches
from stillframe_lab.train.chunked.recipe import ChunkRecipe
from stillframe_lab.train.chunked.trainer import ChunkTrainer, under
from stillframe_lab.train.cloning import prompts
from stillframe_lab.train.new_checkpoint import (
    BOS_ID,
    UNNORM_KEY,
    WORDS,
    action_statistics,
    load_network,
    save_checkpoint,
    state_statistics,
)
from stillframe_lab.train.objective import Objective
from stillframe_lab.train.recipe import INSTRUCTIONS
from stillframe_lab.train.sequences import ACTION_DIM

L1_SHARE, COPY_SHARE, AUXILIARY_SHARE = 10.0, 5.0, 0.5  # of the losses in the sum
SHARING = 3  # instructions that share a picture's rows


class OFTNetwork(nn.Module):
    """All that goes into the checkpoint."""

    def __init__(self, network: PrismaticNetwork, recipe: ChunkRecipe, state_numbers: int = len(STATE_NAMES)):
        super().__init__()
        self.network = network
        self.projector = StateProjector(state_numbers, recipe.width)
        self.head = RegressionHead(recipe.width, recipe.head_width, ACTION_DIM, recipe.head_depth)


@dataclass(frozen=True)
class Said:
    """What the network makes of a batch, and the rows that auxiliary heads read."""

    chunks: Tensor  # [batch, branches, horizon, 7], normalised
    shallow: Tensor  # [batch, patches, width] of the first camera, as they enter the decoder
    deep: Tensor  # the same before its last layer
    text: Tensor  # [batch, branches, width]: each text's last row, there


class OFTTrainee(nn.Module):
    """The network with its auxiliary heads.

    Served, a picture's rows see the instruction, so each needs a pass of its own. For the greater part of the training
    they do not, and three instructions share them; the last part is as served.
    """

    def __init__(self, policy: OFTNetwork, recipe: ChunkRecipe, prompts: Sequence[Sequence[int]]):
        """`prompts`: ids of each of INSTRUCTIONS, of one length for each task."""
        super().__init__()
        self.policy = policy
        self.keypoint_heads = nn.ModuleList(KeypointHead(recipe.width) for _ in range(2))
        self.pointer = PointerHead(recipe.width)
        self.regression = nn.Linear(recipe.width, recipe.horizon * ACTION_DIM)  # so that a text row has it to copy
        self._recipe, self._prompts = recipe, prompts
        self._scale = state_scale()
        self._cube_of = torch.tensor([COLOURS.index(goal.colour) for goal in INSTRUCTIONS])

    def forward(self, batch: ChunkBatch, generator: torch.Generator, *, as_served: bool) -> Objective:
        """Run one batch; `generator` chooses the instructions and adds noise to the state."""
        asked = drawn_branches(batch.goals, generator, 1 if as_served else SHARING)
        goals = batch.goals.gather(1, asked.branch)
        wanted = batch.chunks[torch.arange(len(goals))[:, None], asked.branch]  # [batch, branches, horizon, 7]
        said = self.said(batch.pixels, self._noisy(batch.state, generator), goals, as_served=as_served)
        off = (said.chunks.float() - wanted).abs()
        copied = (self.regression(said.text).float().view(wanted.shape) - wanted).abs()
        action, regression = (self._mean(each, asked.counts) for each in (off, copied))
        first, second = self.keypoint_heads
        spots = first(said.shallow, batch.keypoints) + second(said.deep, batch.keypoints)
        pointing, hits = self.pointer(said.text, said.deep, batch.keypoints, self._cube_of.to(goals.device)[goals])
        total = L1_SHARE * action + COPY_SHARE * regression + AUXILIARY_SHARE * (spots + pointing)
        return Objective(total, action.detach(), off[..., :3].mean().detach(), hits.detach())

    def said(self, pixels: Tensor, state: Tensor, goals: Tensor, *, as_served: bool = True) -> Said:
        """Pictures [batch, cameras, 6, H, W], scaled states [batch, 7], instructions [batch, branches].

        Instructions of a branch are of one task. `as_served`: pictures see the instruction, of which there is one.
        """
        views = self.policy.network.patches(pixels.flatten(0, 1))  # [batch * cameras, patches of one, width]
        patches, one = views.reshape(len(goals), -1, views.shape[-1]), views.shape[1]
        branches = [self._branch(state, ids) for ids in goals.T]
        layout = BranchLayout.of(1 + patches.shape[1], [rows.shape[1] for rows in branches])
        bos = self._embedded([[BOS_ID]] * len(goals))
        deep, hidden = self._decode(torch.cat((bos, patches, *branches), dim=1), layout, as_served=as_served)
        ends = [stop - self._action_rows - 2 for stop in layout.stops]  # each text's last row
        places = torch.stack([hidden[:, end : end + self._action_rows] for end in ends], dim=1)
        chunks = self.policy.head(places.flatten(0, 2)).view(len(goals), len(ends), self._recipe.horizon, -1)
        return Said(chunks, patches[:, :one], deep[:, 1 : 1 + one], deep[:, ends])

    @property
    def _action_rows(self) -> int:
        return self._recipe.horizon * ACTION_DIM

    def _mean(self, off: Tensor, counts: Tensor) -> Tensor:
        """The mean of [batch, branches, horizon, 7] by the recipe's weights, of the branches that count."""
        weights = torch.tensor(self._recipe.action_weights, device=off.device)
        each = (off * weights).sum(-1).mean(-1) / weights.sum()
        return (each * counts).sum() / counts.sum()

    def _noisy(self, state: Tensor, generator: torch.Generator) -> Tensor:
        """[batch, 7] scaled as the policy reads it, with noise."""
        scaled = torch.from_numpy(self._scale.normalise(state.cpu().numpy())).float()
        noise = torch.randn(scaled.shape, generator=generator) * self._recipe.state_noise
        return (scaled + noise).to(state.device)

    def _branch(self, state: Tensor, goals: Tensor) -> Tensor:
        """[state] [text behind BOS] [places of the action] [stop] of one instruction each: [batch, rows, width]."""
        text = self._embedded([self._prompts[goal][1:] for goal in goals.tolist()])
        own = self.policy.projector(state)[:, None].to(text.dtype)
        places = text.new_zeros(len(text), self._action_rows, text.shape[-1])
        return torch.cat((own, text, places, self._embedded([[STOP_ID]] * len(text))), dim=1)

    def _embedded(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """[batch, ids, width]."""
        language_model = self.policy.network.language_model
        return language_model.embed(torch.tensor(ids, device=language_model.lm_head.weight.device))

    def _decode(self, rows: Tensor, layout: BranchLayout, *, as_served: bool) -> tuple[Tensor, Tensor]:
        """Rows before the last layer, and the final normed rows, [batch, rows, width] each."""
        taps: dict[int, Tensor] = {}
        mask = None if as_served else layout.mask.to(rows.device)
        attention = MaskedAttention(layout.positions.to(rows.device), mask, taps.__setitem__)
        hidden = self.policy.network.language_model.model(rows, attention)
        return taps[self._recipe.layers - 1], hidden


class OFTTrainer(ChunkTrainer):
    """Trains jaco-tiny-oft."""

    def __init__(self, folder: Path, recipe: ChunkRecipe, device: torch.device, start: Path | None = None):
        """Begin, or resume the run in `folder`. `start`: an OpenVLA of the same sizes to begin from; None: random."""
        ids = prompts(folder)
        torch.manual_seed(recipe.seed)
        self.policy = OFTNetwork(load_network(start, recipe), recipe)
        trainee = OFTTrainee(self.policy, recipe, ids)
        super().__init__(folder, recipe, trainee, self.policy, device)

    def loss(self, batch: ChunkBatch, generator: torch.Generator) -> Objective:
        """See Trainer."""
        as_served = self.step >= self.recipe.shared_share * self.recipe.steps
        objective: Objective = self.trainee(batch, generator, as_served=as_served)
        return objective

    def export(self, folder: Path) -> None:
        """See Cloning."""
        save_oft(folder, self.averaged, self.recipe)


def state_scale() -> StateScale:
    """The same as the policy scales by."""
    return state_scales({UNNORM_KEY: {STATISTICS: state_statistics()}}, len(STATE_NAMES), ENDS)[UNNORM_KEY]


@dataclass(frozen=True)
class RobotCard:
    """What a checkpoint says of its robot: statistics of actions and state by data set, the state, known words."""

    statistics: Mapping[str, Any]
    state_names: Sequence[str]
    state_units: Sequence[str]
    words: Sequence[str]
    own: Mapping[str, Any] = field(default_factory=dict)  # further keys of config.json


def jaco_card() -> RobotCard:
    """The simulated Jaco2's."""
    statistics = action_statistics()
    statistics[UNNORM_KEY][STATISTICS] = state_statistics()
    return RobotCard(statistics, STATE_NAMES, STATE_UNITS, WORDS)


def save_oft(folder: Path, weights: Mapping[str, Tensor], recipe: ChunkRecipe, robot: RobotCard | None = None) -> None:
    """Write backbone, head and projector as fine-tuning leaves them, our own keys in config.json for the rest.

    `robot` None: the simulated Jaco2.
    """
    folder.mkdir(parents=True, exist_ok=True)
    robot = robot or jaco_card()
    own = {
        "num_actions_chunk": recipe.horizon,
        "action_head": "l1",
        "use_proprio": True,
        "state_names": list(robot.state_names),
        "state_units": list(robot.state_units),
        **robot.own,
    }
    for part, prefix in ((ACTION_HEAD, "head."), (STATE_PROJECTOR, "projector.")):
        tensors = {f"module.{name}": tensor for name, tensor in under(weights, prefix).items()}
        write_whole(folder / f"{part}--latest_checkpoint.pt", partial(torch.save, tensors))
    network = under(weights, "network.")
    save_checkpoint(folder, network, recipe, config=own, statistics=robot.statistics, words=robot.words)
