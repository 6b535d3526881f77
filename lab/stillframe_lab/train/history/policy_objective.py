"""The objective of a policy with a history: the losses of objective.py, and two that train reading and writing history.

Knows the network and one batch; no optimiser, no files.

One loss classifies from the text rows the colours in its history, in order, and the one that is due. The other
classifies from each frame's slots what its lamps show: without it, slots get no gradient until text rows read them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.history.pooling import Pooling
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe_lab.train.auxiliary import Keypoints
from stillframe_lab.train.history.attention_masks import Frames, Instructions
from stillframe_lab.train.history.recipe import MemoryRecipe
from stillframe_lab.train.history.sampling import NOTHING, SampledMemories
from stillframe_lab.train.new_checkpoint import BOS_ID
from stillframe_lab.train.objective import Trainee
from stillframe_lab.train.sequences import SharedPrefix

CUES = 2  # at most
SHOWS = NOTHING + 2  # classes of what lamps show: a colour, nothing, or a decoy


@dataclass(frozen=True)
class MemoryBatch:
    """Pictures of one batch: acted ones first."""

    pixels: Tensor  # [batch, 6, H, W], normalised
    actions: Tensor  # [pictures, branches, 7] in [-1, 1], towards each branch's target
    keypoints: Keypoints  # of all
    shows: Tensor  # [batch] what the lamps show: one of SHOWS
    toward: Tensor  # [batch, cubes, 7] in [-1, 1], towards each cube
    drawn: SampledMemories

    @property
    def acted(self) -> int:
        """How many of the pictures are acted on."""
        return len(self.actions)


@dataclass(frozen=True)
class MemoryObjective:
    """Losses of a batch: `total` is minimised, the rest is for the log."""

    total: Tensor
    action: Tensor
    xyz_error: Tensor
    pointer_hits: Tensor
    colour_hits: Tensor  # share of cues that the text knows, by their colour and their order
    summary_hits: Tensor  # share of frames classified rightly from their slots


class MemoryTrainee(Trainee):
    """The network with its pooling and the heads that exist during training only."""

    def __init__(self, network: PrismaticNetwork, recipe: MemoryRecipe, sequences: dict[int, SharedPrefix]):
        """`sequences`: one for each number of cues that an instruction may ask for."""
        super().__init__(network, recipe.policy, sequences[1], torch.zeros(recipe.branches, dtype=torch.long))
        self._sequences = sequences
        decoder = network.config.decoder
        self.pooling = Pooling(decoder.num_hidden_layers, decoder.num_key_value_heads, decoder.head_dim, recipe.slots)
        nn.init.normal_(self.pooling.query, std=0.5)  # so that slots differ from the start
        kv_width = decoder.num_key_value_heads * decoder.head_dim
        self.summary_norm = nn.LayerNorm(2 * recipe.slots * decoder.num_hidden_layers * kv_width)
        self.summary = nn.Linear(2 * recipe.slots * decoder.num_hidden_layers * kv_width, SHOWS)
        width, asked = recipe.policy.width, len(recipe.asked_after)
        self.due = nn.ModuleList(nn.Linear(width, NOTHING) for _ in range(asked))  # colour of the cube to reach now
        self.told = nn.ModuleList(nn.Linear(width, CUES * (NOTHING + 1)) for _ in range(asked))  # of every cue in order
        self.late = nn.ModuleList(nn.Linear(width, 2) for _ in range(asked))  # which of them it is
        self.recipe = recipe

    def learn(self, batch: MemoryBatch, generator: torch.Generator) -> MemoryObjective:
        """Run one batch; `generator` jitters the action tokens that are fed back in."""
        self._sequence = self._sequences[batch.drawn.cues]
        index = self._tokens.index(batch.actions)
        patches = self.network.patches(batch.pixels)
        frames = self.look(patches)
        slots = frames.pooled(self.network.language_model.model, self.pooling)
        hidden, instructions = self.recall(frames, slots, batch.drawn, self._tokens.jittered(index, generator))
        logits = self.said(hidden)
        action = self._tokens.loss(logits, index)
        deep = frames.rows[self.recipe.policy.layers - 1][:, 1:]
        spots = self.keypoint_heads[0](patches, batch.keypoints) + self.keypoint_heads[1](deep, batch.keypoints)
        text = self._text(instructions, self.recipe.policy.layers - 1)
        pointing, hits = self.pointer(
            text, deep[: batch.acted], _first(batch.keypoints, batch.acted), batch.drawn.target
        )
        known, knows = self._known(instructions, batch.drawn)
        said, says = _hits(self.summary(self.summary_norm(torch.cat([_flat(own) for own in slots], -1))), batch.shows)
        total = self.recipe.policy.action_share * action + spots + pointing
        total = total + self.recipe.colour_share * known + self.recipe.summary_share * said
        off = self._tokens.error(logits, index)
        return MemoryObjective(total, action.detach(), off.detach(), hits.detach(), knows, says)

    def _text(self, instructions: Instructions, layers: int) -> Tensor:
        """Each branch's last text row after so many layers [pictures, branches, width]."""
        return instructions.rows[layers][:, self._sequence.text_end - self._sequence.prefix_rows]

    def _known(self, instructions: Instructions, drawn: SampledMemories) -> tuple[Tensor, Tensor]:
        """Loss of the colours in the history and of the due one; and the share that the deepest layer gets right."""
        loss, knows = torch.zeros((), device=drawn.target.device), torch.zeros(())
        for after, due, told, late in zip(self.recipe.asked_after, self.due, self.told, self.late, strict=True):
            text = self._text(instructions, after)
            wrong, _ = _hits(due(text), drawn.target)
            unknown, knows = _hits(told(text).unflatten(-1, (CUES, NOTHING + 1)), drawn.told)
            loss = loss + wrong + unknown + _hits(late(text), drawn.late)[0]
        return loss / len(self.due), knows

    def look(self, patches: Tensor) -> Frames:
        """Run all pictures through the decoder, each by itself."""
        decoder = self.network.language_model
        bos = torch.full((len(patches), 1), BOS_ID, device=patches.device)
        frames = Frames(self._sequence.positions[: self._sequence.prefix_rows])
        decoder.model(torch.cat((decoder.embed(bos), patches), dim=1), frames)
        return frames

    def recall(
        self, frames: Frames, slots: list[tuple[Tensor, Tensor]], drawn: SampledMemories, tokens: Tensor
    ) -> tuple[Tensor, Instructions]:
        """Run all branches of the acted pictures -> final normed rows [pictures, prefix + rows, width].

        The prefix's rows are zeros: they are not read.
        """
        decoder, sequence = self.network.language_model, self._sequence
        first = sequence.prefix_rows
        positions, mask = sequence.positions[first:], sequence.mask[first:]
        places = Instructions(decoder.model, positions, mask, frames, slots, drawn.memories)
        hidden = decoder.model(decoder.embed(sequence.with_actions(tokens)), places)
        return functional.pad(hidden, (0, 0, first, 0)), places


def _first(keypoints: Keypoints, count: int) -> Keypoints:
    parts = (keypoints.uv, keypoints.traits, keypoints.offsets_m, keypoints.near)
    return Keypoints(*(part[:count] for part in parts))


def _flat(slots: tuple[Tensor, Tensor]) -> Tensor:
    """One layer's keys and values [batch, heads, slots, head_dim] -> [batch, numbers]."""
    return torch.cat([part.flatten(1) for part in slots], dim=-1)


def _hits(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of [..., classes], and the share that is right."""
    loss = functional.cross_entropy(logits.float().flatten(0, -2), wanted.flatten())
    return loss, (logits.argmax(-1) == wanted).float().mean()
