"""Attention of a training pass: the prefix's keys and values kept for the expert, whose rows attend to them.

Knows rows, masks and layers; no network. As models/pi0/prefix.py does it when served, but with gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stillframe.models.llama.attention import attend
from stillframe.models.llama.attention_backend import MaskedAttention

KV = tuple[Tensor, Tensor]  # [batch, 1, rows, head_dim] each


@dataclass(frozen=True)
class KeepingAttention(MaskedAttention):
    """Keeps every layer's keys and values, rotated. Of the last one's rows nothing else is read: one is left."""

    last: int = 0
    kept: list[KV] = field(default_factory=list)

    def surviving_rows(self, layer: int) -> Tensor | None:
        """All, but in the last layer."""
        return torch.arange(1) if layer == self.last else None

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # noqa: ARG002 (in order)
        """By the mask."""
        self.kept.append((keys, values))
        return attend(queries, keys, values, None if self.mask is None else self.mask[: queries.shape[-2]])

    def of_rows(self, rows: Tensor) -> list[KV]:
        """Those of some rows, layer by layer."""
        return [(keys[:, :, rows], values[:, :, rows]) for keys, values in self.kept]


@dataclass(frozen=True)
class SuffixAttention(MaskedAttention):
    """The expert's rows attend to a prefix, all of it, and to each other by the mask."""

    prefix: list[KV] = field(default_factory=list)

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """By the mask, [rows, rows] of own rows."""
        before_keys, before_values = self.prefix[layer]
        mask = self.mask
        if mask is not None:
            mask = torch.cat((mask.new_ones(len(mask), before_keys.shape[-2]), mask), dim=1)
        seen_keys, seen_values = torch.cat((before_keys, keys), dim=2), torch.cat((before_values, values), dim=2)
        return attend(queries, seen_keys, seen_values, mask)
