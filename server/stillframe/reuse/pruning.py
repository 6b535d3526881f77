"""Pruning methods: which of a frame's own patch tokens its deeper layers do without. For comparison with reuse.

Knows attention to patch tokens and their rows; no decoder, no session. Nothing of another frame is kept.
A method either drops what is attended to least, or merges what is alike.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from stillframe.domain import ReuseMode
from stillframe.reuse.clusters import merge_by_density
from stillframe.reuse.settings import ReuseSettings


@dataclass(frozen=True)
class Pruned:
    """What deeper layers have of some patch tokens."""

    kept: Tensor  # [n] their indices, rising
    rows: Tensor  # [n, width] what goes on in their places
    sizes: Tensor | None = None  # [n] for how many tokens each stands in attention; None: one, whatever was merged


class PruningMethod(Protocol):
    """One method with its settings."""

    @property
    def layers(self) -> Collection[int]:
        """The layers whose attention decides; tokens go behind each."""
        ...

    def looking(self, patches: Tensor, text: Tensor) -> Tensor | None:
        """Whose attention counts: indices into the text's rows; None: that of the rows out of which the action is said.

        `patches` [patch tokens, width] and `text` [text rows, width] as they enter the decoder.
        """
        ...

    def prune(self, attention: Tensor, rows: Tensor) -> Pruned | None:
        """What is left of `rows` [patch tokens left, width] behind a layer; None: all of them.

        `attention` [looking, patch tokens left]: mean over heads.
        """
        ...


@dataclass(frozen=True)
class FastV:
    """FastV, arXiv 2403.06764: the tokens that the row which says what comes next attends to least go, once.

    That is the last row of a causal prompt; where one pass says all of the action, it is every row that says a part.
    """

    layer: int  # K, counted from 1
    ratio: float  # R

    @property
    def layers(self) -> Collection[int]:
        """The K-th."""
        return (self.layer - 1,)

    def looking(self, patches: Tensor, text: Tensor) -> None:
        """The rows that say."""

    def prune(self, attention: Tensor, rows: Tensor) -> Pruned | None:
        """Keep a share of 1 - R, most attended first, ties by index."""
        return _kept(attention, rows, round(len(rows) * (1 - self.ratio)))


@dataclass(frozen=True)
class SparseVLM:
    """SparseVLM, arXiv 2410.04417: text that is like the picture rates its tokens; of those that go, some are merged.

    Original positions are kept: a merged token stands where its cluster's centre stood.
    """

    layers: tuple[int, ...]
    scale: float
    bias: float
    recycle: float

    def looking(self, patches: Tensor, text: Tensor) -> Tensor:
        """The text rows whose share of the patches' softmax over the text is above the mean; all where none is."""
        shares = (patches.float() @ text.float().T).softmax(dim=-1).mean(dim=0)
        chosen = (shares > shares.mean()).nonzero()[:, 0]
        return chosen if len(chosen) else torch.arange(len(text), device=text.device)

    def prune(self, attention: Tensor, rows: Tensor) -> Pruned | None:
        """Keep so many by the attention's rank, the most attended; merge the most attended of the others."""
        count = int(int(torch.linalg.matrix_rank(attention.float())) * self.scale + self.bias)
        kept = _kept(attention, rows, max(0, min(count, len(rows) - 1)))
        if kept is None:
            return None
        others = _ranked(attention)[len(kept.kept) :]
        recycled = others[: int(self.recycle * len(others))].sort().values
        if not len(recycled):
            return kept
        centres, merged = merge_by_density(rows[recycled], len(recycled) // 10 + 1)
        every, order = torch.cat((kept.kept, recycled[centres])).sort()
        return Pruned(every, torch.cat((kept.rows, merged))[order])


@dataclass(frozen=True)
class ToMe:
    """ToMe, arXiv 2210.09461: tokens that are alike are merged by bipartite soft matching; attention is proportional.

    Published for the blocks of a ViT. Here of the patch tokens of a prompt, by their rows; see docs/methods.md.
    """

    layers: tuple[int, ...]  # merged behind so many layers
    ratio: float  # of the tokens that are left

    def merge(self, rows: Tensor, sizes: Tensor) -> Pruned | None:
        """What is left of `rows` [patch tokens left, width], each of which stands for `sizes` [patch tokens left].

        None: all of them. Every other token is matched with the most similar of those between, and of these pairs the
        most similar are merged, ties by index.
        """
        count = min(round(self.ratio * len(rows)), len(rows) // 2)
        if not count:
            return None
        wide, sizes = rows.to(torch.promote_types(rows.dtype, torch.float32)), sizes.to(torch.float64)
        unit = functional.normalize(wide, dim=-1)
        likeness, partner = (unit[0::2] @ unit[1::2].T).max(dim=-1)
        merged = likeness.argsort(descending=True, stable=True)[:count]
        gone, into = 2 * merged, 2 * partner[merged] + 1
        stand = sizes.index_add(0, into, sizes[gone])
        weighted = wide * sizes[:, None].to(wide.dtype)
        mixed = weighted.index_add(0, into, weighted[gone]) / stand[:, None].to(wide.dtype)
        left = torch.ones(len(rows), dtype=torch.bool, device=rows.device).index_fill_(0, gone, value=False)
        changed = torch.zeros_like(left).index_fill_(0, into, value=True)
        every = torch.where(changed[:, None], mixed.to(rows.dtype), rows)  # others stay as they are, to the bit
        return Pruned(left.nonzero()[:, 0], every[left], stand[left])


Method = PruningMethod | ToMe


def pruning_method(mode: ReuseMode, settings: ReuseSettings) -> Method | None:
    """The method of a mode that prunes; None for other modes."""
    match mode:
        case "fastv":
            return FastV(settings.fastv.layer, settings.fastv.ratio)
        case "sparsevlm":
            own = settings.sparsevlm
            return SparseVLM(tuple(own.layers), own.scale, own.bias, own.recycle)
        case "tome":
            return ToMe(tuple(settings.tome.layers), settings.tome.ratio)
        case _:
            return None


def _ranked(attention: Tensor) -> Tensor:
    """Indices of all tokens, the most attended first, ties by index."""
    return attention.mean(dim=0).argsort(descending=True, stable=True)


def _kept(attention: Tensor, rows: Tensor, count: int) -> Pruned | None:
    """The most attended `count`; None where that is all."""
    if count >= len(rows):
        return None
    kept = _ranked(attention)[:count].sort().values
    return Pruned(kept, rows[kept])
