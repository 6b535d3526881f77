"""Keeping: which chunks of a memory stay where only so many fit, with a gradient for those that go.

Knows utilities and room; no network. What stays is what `memory.history` would keep.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stillframe.history.settings import HistorySettings


@dataclass(frozen=True)
class Room:
    """What fits."""

    chunks: int
    window_frames: int  # so many of the last stay, whatever they are worth
    decay: float = HistorySettings().decay  # a frame


@dataclass(frozen=True)
class Kept:
    """How chunks [..., longest] are looked at, where not all stay."""

    trust: Tensor  # times which: utility where one stays, 1 in the window, 0 where it went
    ranks: Tensor  # positions: as many as stay and are older

    @classmethod
    def of(cls, utility: Tensor, there: Tensor, room: Room) -> Kept:
        """What fits. Backward as if all had stayed (straight-through): what went learns whether it was missed."""
        stay, recent = staying(utility, there, room), (_age(there) < room.window_frames) & there
        hard = (utility * stay).masked_fill(recent, 1.0).detach()
        through = utility.masked_fill(recent | ~there, 0.0)
        return cls(hard + through - through.detach(), stay.cumsum(-1) - stay.long())


def staying(utility: Tensor, there: Tensor, room: Room) -> Tensor:
    """True for chunks [..., longest], in their order, that stay: the window's, then those worth most now."""
    age = _age(there)
    worth = (utility.detach() * room.decay**age).masked_fill(age < room.window_frames, torch.inf)
    newest_first = worth.masked_fill(~there, -torch.inf).flip(-1)  # of equal ones the newest stays
    best = newest_first.argsort(dim=-1, descending=True, stable=True)[..., : room.chunks]
    return torch.zeros_like(there).scatter(-1, best, value=True).flip(-1) & there


def _age(there: Tensor) -> Tensor:
    """Frames since each came, in which the last is 0; below 0 behind it."""
    return there.sum(-1, keepdim=True) - 1 - torch.arange(there.shape[-1], device=there.device)
