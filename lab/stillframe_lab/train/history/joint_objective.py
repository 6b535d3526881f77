"""The joint objective of policy and gate: act as well with a bounded history as with a full one.

Knows the network, its scorers and one batch; no optimiser, no files. Policy and gate were trained apart; here the gate
also gets gradients from what evicted chunks do to the actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from statistics import fmean

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stillframe.history.checkpoint import HistoryWeights
from stillframe.history.scorers import summary
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe_lab.train.history.attention_masks import Frames, Instructions
from stillframe_lab.train.history.episodes import utility_labels
from stillframe_lab.train.history.gate_objective import ChunkBatch, ScorerLogits, Scorers, scorer_errors, scorer_loss
from stillframe_lab.train.history.policy_objective import MemoryBatch, MemoryTrainee
from stillframe_lab.train.history.recipe import FRAME_S, JointRecipe
from stillframe_lab.train.history.sampling import NOTHING, SampledMemories
from stillframe_lab.train.history.soft_retention import Kept, Room
from stillframe_lab.train.sequences import SharedPrefix

Slots = list[tuple[Tensor, Tensor]]  # a layer: keys and values [batch, heads, slots, head_dim]


@dataclass(frozen=True)
class JointBatch:
    """Pictures with histories, the gate's other inputs, and how many chunks fit."""

    seen: MemoryBatch
    answers: Tensor  # [batch, 7]: what each picture was answered with when it was acted on
    since_s: Tensor  # [memories] between two frames
    chunks: int

    @classmethod
    def of(cls, seen: MemoryBatch, recipe: JointRecipe, rng: np.random.Generator) -> JointBatch:
        """Actions of older frames go to random cubes: their pictures are of other scenes than the target's."""
        cubes = torch.from_numpy(rng.integers(seen.toward.shape[1], size=len(seen.toward)))
        answers = seen.toward[torch.arange(len(cubes)), cubes]
        memories = seen.drawn.target.numel()
        since_s = torch.from_numpy(rng.uniform(*FRAME_S, memories)).float()
        return cls(seen, answers, since_s, int(rng.choice(recipe.budgets)))


@dataclass(frozen=True)
class JointFigures:
    """Figures of a batch, for the log."""

    loss: float  # of the actions, with what was kept
    parted: float  # how far answers are from those with all: KL of action bins, nats
    xyz_error: float
    whole_xyz_error: float  # with all
    kept: float  # share of chunks
    worthy: float  # errors: see `gate_objective.ScorerErrors`
    idle: float
    linear_worthy: float
    linear_idle: float

    @classmethod
    def mean(cls, several: Sequence[JointFigures]) -> JointFigures:
        """Means over batches."""
        return cls(*(fmean(column) for column in zip(*map(astuple, several), strict=True)))


@dataclass(frozen=True)
class JointObjective:
    """`total` is minimised."""

    total: Tensor
    figures: JointFigures


class JointTrainee(MemoryTrainee):
    """The policy, its pooling and its scorers; auxiliary heads are not used."""

    def __init__(
        self,
        network: PrismaticNetwork,
        recipe: JointRecipe,
        sequences: dict[int, SharedPrefix],
        weights: HistoryWeights,
    ):
        """`weights`: the history weights of `network`."""
        super().__init__(network, recipe.memory, sequences)
        self.pooling.load_state_dict(weights.pooling.state_dict())
        self.scorers = Scorers(weights)
        self._joint, self._taps = recipe, weights.config.taps

    def learn_both(self, batch: JointBatch, generator: torch.Generator) -> JointObjective:
        """Run one batch; `generator` jitters the action tokens that are fed back in."""
        drawn = batch.seen.drawn
        self._sequence = self._sequences[drawn.cues]
        index = self._tokens.index(batch.seen.actions)
        tokens = self._tokens.jittered(index, generator)
        frames = self.look(self.network.patches(batch.seen.pixels))
        slots = frames.pooled(self.network.language_model.model, self.pooling)
        with torch.no_grad():
            whole, instructions = self._answer(frames, slots, drawn, tokens)
        rows = self._rows(slots, instructions, batch)
        said = self.scorers(rows.inputs, self.recipe.truncate)
        kept = self._kept(said, batch)
        logits, _ = self._answer(frames, slots, with_retention(drawn, kept), tokens)
        action, parted = self._tokens.loss(logits, index), answer_kl_nats(whole, logits)
        total = action + self._joint.agree_share * parted
        total = total + self._joint.worth_share * scorer_loss(said, rows, self.recipe.keep_share)
        share, off = (kept.trust > 0).sum() / rows.there.sum(), (self._off(logits, index), self._off(whole, index))
        told = [float(figure.detach()) for figure in (action, parted, *off, share)]
        return JointObjective(total, JointFigures(*told, *astuple(scorer_errors(said, rows))))

    def _answer(
        self, frames: Frames, slots: Slots, drawn: SampledMemories, tokens: Tensor
    ) -> tuple[Tensor, Instructions]:
        hidden, instructions = self.recall(frames, slots, drawn, tokens)
        return self.said(hidden), instructions

    def _rows(self, slots: Slots, instructions: Instructions, batch: JointBatch) -> ChunkBatch:
        there = batch.seen.drawn.memories.there.flatten(0, 1).float()
        return ChunkBatch(self._inputs(slots, batch), self._worth(instructions, batch.seen), there)

    def _kept(self, said: ScorerLogits, batch: JointBatch) -> Kept:
        """The chunks that are kept of each history, by the gate's utilities."""
        there = batch.seen.drawn.memories.there
        room = Room(batch.chunks, self._joint.window_frames)
        return Kept.of(torch.sigmoid(said.gate).view(there.shape), there, room)

    def _inputs(self, slots: Slots, batch: JointBatch) -> Tensor:
        """Scorer inputs of every history's chunks [memories, longest, inputs], without a gradient.

        With one, the policy would fit its keys and values to the scorers instead of to its actions.
        """
        keys, values = (torch.stack([layer[half].detach() for layer in slots], dim=1) for half in range(2))
        pictures = torch.cat((summary(keys, self._taps), summary(values, self._taps), batch.answers), dim=-1)
        frames = batch.seen.drawn.memories.frames.flatten(0, 1)
        since_s = batch.since_s[:, None, None].repeat(1, frames.shape[1], 1)
        since_s[:, 0] = 0.0  # nothing came before the first
        return torch.cat((pictures[frames.clamp(min=0)], since_s), dim=-1)

    def _worth(self, instructions: Instructions, seen: MemoryBatch) -> Tensor:
        """Utility labels [memories, longest], see `episodes.utility_labels`; 0 where a history has no cue."""
        drawn = seen.drawn
        first = self._sequence.text_end[0] - self._sequence.prefix_rows  # the row that says the first action
        looks = torch.stack([weights[..., first, :].float() for weights in instructions.looks]).amax(dim=(0, 3))
        masses = looks.view(*drawn.memories.frames.shape, -1).sum(-1)  # [pictures, branches, longest]
        masses = masses * (drawn.told[..., :1] != NOTHING) / masses.amax(-1, keepdim=True).clamp(min=1e-6)
        says = np.where(drawn.memories.there, seen.shows[drawn.memories.frames], NOTHING)
        looked = masses.flatten(0, 1).double().numpy()
        labels = [utility_labels(*memory) for memory in zip(looked, says.reshape(looked.shape), strict=True)]
        return torch.from_numpy(np.stack(labels)).float()

    def _off(self, logits: Tensor, index: Tensor) -> Tensor:
        return self._tokens.error(logits.detach(), index)


def with_retention(drawn: SampledMemories, kept: Kept | None) -> SampledMemories:
    """The same histories with only some chunks kept; None: all."""
    return replace(drawn, memories=replace(drawn.memories, kept=kept))


def answer_kl_nats(whole: Tensor, kept: Tensor) -> Tensor:
    """Mean KL of action bins [..., bins] between answers with full and with bounded history."""
    wanted, have = (functional.log_softmax(logits.float(), dim=-1) for logits in (whole, kept))
    return functional.kl_div(have, wanted, reduction="none", log_target=True).sum(-1).mean()
