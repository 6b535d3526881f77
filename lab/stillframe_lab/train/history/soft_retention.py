"""Differentiable retention: which chunks of a bounded history are kept, with a gradient for evicted ones.

Knows utilities and a budget; no network. Keeps what `history.store` would keep.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stillframe.history.settings import HistorySettings


@dataclass(frozen=True)
class Room:
    """The budget of a history."""

    chunks: int
    window_frames: int  # the last frames are always kept
    decay: float = HistorySettings().decay  # a frame


@dataclass(frozen=True)
class Kept:
    """Weights and positions of chunks [..., longest] under a budget."""

    trust: Tensor  # attention weight: utility if kept, 1 in the window, 0 if evicted
    ranks: Tensor  # positions: number of older chunks kept

    @classmethod
    def of(cls, utility: Tensor, there: Tensor, room: Room) -> Kept:
        """Keep what fits. Straight-through gradient as if all were kept, so that evicted chunks get one too."""
        stay, recent = staying(utility, there, room), (_age(there) < room.window_frames) & there
        hard = (utility * stay).masked_fill(recent, 1.0).detach()
        through = utility.masked_fill(recent | ~there, 0.0)
        return cls(hard + through - through.detach(), stay.cumsum(-1) - stay.long())


def staying(utility: Tensor, there: Tensor, room: Room) -> Tensor:
    """True for chunks [..., longest] that are kept: the window's, then those of highest decayed utility."""
    age = _age(there)
    worth = (utility.detach() * room.decay**age).masked_fill(age < room.window_frames, torch.inf)
    newest_first = worth.masked_fill(~there, -torch.inf).flip(-1)  # ties: the newest is kept
    best = newest_first.argsort(dim=-1, descending=True, stable=True)[..., : room.chunks]
    return torch.zeros_like(there).scatter(-1, best, value=True).flip(-1) & there


def _age(there: Tensor) -> Tensor:
    """Age of each chunk in frames, the last 0; negative for padding."""
    return there.sum(-1, keepdim=True) - 1 - torch.arange(there.shape[-1], device=there.device)
