"""Where a training's rows sit: frames by themselves first, then instructions that look at a frame and at older ones.

Knows positions and masks, two `AttentionBackend`; no loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log

import torch
from torch import Tensor

from stillframe.history.pooling import Pooling
from stillframe.models.llama.attention import added, attend
from stillframe.models.llama.decoder import LlamaModel
from stillframe.models.llama.rotary import Rotary
from stillframe_lab.train.history.soft_retention import Kept


@dataclass
class Frames:
    """All pictures of a batch: [BOS] [patches], causal. What every layer leaves stays for those that look later."""

    positions: Tensor  # [rows]
    keys: list[Tensor] = field(default_factory=list)  # a layer: [batch, heads, rows, head_dim], rotated
    values: list[Tensor] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)  # [batch, rows, width] after so many layers

    def surviving_rows(self, layer: int) -> Tensor | None:  # noqa: ARG002 (the seam's shape)
        """All."""
        return None

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # noqa: ARG002 (the same)
        """Each looks back."""
        self.keys.append(keys)
        self.values.append(values)
        return attend(queries, keys, values, self.positions[:, None] >= self.positions)

    def on_layer(self, layers: int, rows: Tensor) -> None:  # noqa: ARG002 (the seam's shape)
        """Keep them."""
        self.rows.append(rows)

    def pooled(self, model: LlamaModel, pooling: Pooling) -> list[tuple[Tensor, Tensor]]:
        """Of each layer every picture's slots [batch, heads, slots, head_dim], keys before rotation, and values."""
        turned = model.rotary(self.positions[1:], self.keys[0].dtype)
        back = Rotary(turned.cos, -turned.sin)
        every = enumerate(zip(self.keys, self.values, strict=True))
        return [pooling(back.apply(keys[..., 1:, :]), values[..., 1:, :], layer) for layer, (keys, values) in every]


@dataclass(frozen=True)
class Memories:
    """What is remembered: a list of the batch's pictures for each branch of each picture that is acted on."""

    frames: Tensor  # [pictures, branches, longest] indices into the batch, the oldest first; -1 behind the last
    kept: Kept | None = None  # how much of them; None: all

    @property
    def there(self) -> Tensor:
        """[pictures, branches, longest] True where there is a frame."""
        return self.frames >= 0

    def columns(self, keys: Tensor, values: Tensor, tokens: int, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """One layer's slots [batch, heads, slots, head_dim], into which `tokens` went, as they are looked at.

        Keys, turned by rank, and values [pictures, branches, heads, columns, head_dim]; bias [pictures, branches, 1, 1,
        columns].
        """
        there, slots = self.there, keys.shape[2]
        taken = self.frames.clamp(min=0)
        ranks = torch.arange(taken.shape[-1], device=taken.device) if self.kept is None else self.kept.ranks
        ranked = Rotary(rotary.cos[ranks][..., None, None, :], rotary.sin[ranks][..., None, None, :])
        found_keys, found_values = ranked.apply(keys[taken]), values[taken]
        bias = torch.full_like(there, log(tokens / slots), dtype=keys.dtype).masked_fill(~there, -torch.inf)
        joined = [part.transpose(2, 3).flatten(3, 4) for part in (found_keys, found_values)]
        return joined[0], joined[1], bias.repeat_interleave(slots, dim=-1)[:, :, None, None]

    def weights(self, own: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of a frame's and the branches' rows, and of older frames [pictures, heads, rows, keys] -> weights.

        Softmax with log(trust) as a bias, written so that trust may be 0 and have a gradient there all the same.
        """
        scores, split = torch.cat((own, old), dim=-1), [own.shape[-1], old.shape[-1]]
        if self.kept is None:
            near, far = torch.split(torch.softmax(scores, dim=-1), split, dim=-1)
            return near, far
        scores = scores.float()
        near, far = torch.split((scores - scores.detach().amax(-1, keepdim=True)).exp(), split, dim=-1)
        each, slots = old.shape[2] // self.frames.shape[1], old.shape[-1] // self.frames.shape[2]
        far = far * self.kept.trust.repeat_interleave(each, dim=1).repeat_interleave(slots, dim=2)[:, None]
        every = near.sum(-1, keepdim=True) + far.sum(-1, keepdim=True)
        return near / every, far / every


@dataclass
class Instructions:
    """[text] [action] of all branches behind each picture that is acted on: they look at it and at their memory."""

    model: LlamaModel
    positions: Tensor  # [branches * rows of one]
    mask: Tensor  # [branches * rows, prefix + branches * rows], True where a row may look
    frames: Frames
    slots: list[tuple[Tensor, Tensor]]
    memories: Memories
    rows: list[Tensor] = field(default_factory=list)
    looks: list[Tensor] = field(default_factory=list)  # a layer: weights [pictures, branches, heads, rows, columns]

    def surviving_rows(self, layer: int) -> Tensor | None:  # noqa: ARG002 (the seam's shape)
        """All."""
        return None

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Over the frame's rows, the branch's own and the memory's."""
        acted = len(queries)
        keys, values = (
            torch.cat((prefix[layer][:acted], own), dim=2)
            for prefix, own in ((self.frames.keys, keys), (self.frames.values, values))
        )
        return self._recalling(layer, queries, keys, values)

    def on_layer(self, layers: int, rows: Tensor) -> None:  # noqa: ARG002 (the seam's shape)
        """Keep them."""
        self.rows.append(rows)

    def _recalling(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        pictures, branches, longest = self.memories.frames.shape
        rotary = self.model.rotary(torch.arange(longest, device=keys.device), keys.dtype)
        old_keys, old_values, bias = self.memories.columns(*self.slots[layer], len(self.frames.positions) - 1, rotary)
        heads, width, each = queries.shape[1], queries.shape[-1], queries.shape[2] // branches
        scaled = queries * width**-0.5
        apart = scaled.view(pictures, heads, branches, each, width).transpose(1, 2)
        own = scaled @ keys.transpose(-2, -1) + added(self.mask, queries.dtype)
        old = (apart @ old_keys.transpose(-2, -1) + bias).transpose(1, 2).flatten(2, 3)
        near, far = self.memories.weights(own, old)
        far = far.reshape(pictures, heads, branches, each, -1).transpose(1, 2)
        self.looks.append(far.detach())
        mixed: Tensor = near @ values + (far @ old_values).transpose(1, 2).flatten(2, 3)
        return mixed
