"""Several instructions of a frame in one training sequence, where what follows the pictures sees all of itself.

Knows positions, masks and labels' goals; no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillframe_lab.train.recipe import INSTRUCTIONS

IS_PICK = torch.tensor([goal.task == "pick" for goal in INSTRUCTIONS])
TASKS = (True, False, True)  # of the branches that share a picture: pick, reach, pick
PICK_SHARE = 0.65  # of batches with one branch whose task is pick


@dataclass(frozen=True)
class BranchLayout:
    """A prefix, then branches: each sees the prefix and itself, both ways; the prefix sees itself alone."""

    positions: Tensor  # [rows]: a branch's are those that it would have alone
    mask: Tensor  # [rows, rows], True where a row may attend
    stops: list[int]  # of each branch

    @classmethod
    def of(cls, prefix: int, branches: Sequence[int]) -> BranchLayout:
        """`prefix` rows, then so many rows a branch."""
        owner = torch.cat([torch.zeros(prefix), *(torch.full((rows,), at + 1) for at, rows in enumerate(branches))])
        positions = torch.cat([torch.arange(prefix), *(torch.arange(prefix, prefix + rows) for rows in branches)])
        mask = (owner[:, None] == owner[None]) | (owner[None] == 0)
        return cls(positions, mask, [prefix + sum(branches[: at + 1]) for at in range(len(branches))])


@dataclass(frozen=True)
class Branches:
    """Which labels of each frame are asked for."""

    branch: Tensor  # [batch, branches] indices of the frame's labels
    counts: Tensor  # [batch, branches]: 0 where a label only fills a place


def drawn_branches(goals: Tensor, generator: torch.Generator, count: int) -> Branches:
    """Of labels' goals [batch, labels] so many of each frame; those of one branch are all of one task.

    Prompts of one task are equally long. A frame without a further pick fills its place with one that it has.
    """
    tasks = TASKS[:count] if count > 1 else (bool(torch.rand((), generator=generator) < PICK_SHARE),)
    is_pick, taken, chosen, counts = IS_PICK[goals.cpu()], torch.zeros(goals.shape, dtype=torch.bool), [], []
    for task in tasks:
        fits = is_pick == task
        # Those that are not taken yet first, then by chance.
        worth = torch.rand(goals.shape, generator=generator) - 1.0 * taken - 4.0 * ~fits
        best = worth.argmax(-1, keepdim=True)
        counts.append(~taken.gather(1, best))
        taken.scatter_(1, best, value=True)
        chosen.append(best)
    return Branches(torch.cat(chosen, 1).to(goals.device), torch.cat(counts, 1).float().to(goals.device))
