"""Columns: the pooled keys and values of older frames, which attention reads beside the frame's own.

Knows layers, slots and ranks; not how slots are filled, and no rotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Columns:
    """Slots of older frames, as many in every layer. A batch has a leading dimension: see `stacked`."""

    keys: Tensor  # [..., layers, kv_heads, slots, head_dim], before rotation
    values: Tensor  # [..., layers, kv_heads, slots, head_dim]
    bias: Tensor  # [..., slots] float32, added to every score: log utility + log mass; -inf where a slot is empty
    ranks: Tensor  # [..., slots] int64: its frame's rank among those held, 0 the oldest

    @property
    def slots(self) -> int:
        """Number of slots, empty ones included."""
        return self.bias.shape[-1]

    def padded(self, slots: int) -> Columns:
        """The same, padded with empty slots for a pass of a fixed shape."""
        more = slots - self.slots
        if more < 0:
            raise ValueError(f"{self.slots} slots do not fit {slots}")
        keys, values = (functional.pad(part, (0, 0, 0, more)) for part in (self.keys, self.values))
        bias = functional.pad(self.bias, (0, more), value=-torch.inf)
        return Columns(keys, values, bias, functional.pad(self.ranks, (0, more)))


def stacked(several: Sequence[Columns]) -> Columns:
    """A batch of histories, each padded to the longest."""
    longest = max(columns.slots for columns in several)
    padded = [columns.padded(longest) for columns in several]
    parts = (
        torch.stack([getattr(columns, name) for columns in padded]) for name in ("keys", "values", "bias", "ranks")
    )
    return Columns(*parts)
