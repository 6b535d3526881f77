"""Pruning methods: which of a frame's own patch tokens its deeper layers do without. For comparison with reuse.

Knows attention to patch tokens and their rows; no decoder, no session. Nothing of another frame is kept.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stillframe.domain import ReuseMode
from stillframe.reuse.clusters import merge_by_density
from stillframe.reuse.settings import ReuseSettings


@dataclass(frozen=True)
class Pruned:
    """What deeper layers have of some patch tokens."""

    kept: Tensor  # [n] their indices, rising
    rows: Tensor  # [n, width] what goes on in their places


class PruningMethod(Protocol):
    """One method with its settings."""

    @property
    def layers(self) -> Collection[int]:
        """The layers whose attention decides; tokens go behind each."""
        ...

    def looking(self, patches: Tensor, text: Tensor) -> Tensor:
        """Whose attention counts: indices into the prompt's embedded rows behind the patches.

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
    """FastV, arXiv 2403.06764: the tokens that the prompt's last row attends to least go, once."""

    layer: int  # K, counted from 1
    ratio: float  # R

    @property
    def layers(self) -> Collection[int]:
        """The K-th."""
        return (self.layer - 1,)

    def looking(self, patches: Tensor, text: Tensor) -> Tensor:  # noqa: ARG002 (the protocol's signature)
        """The last."""
        return torch.tensor([len(text) - 1], device=text.device)

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


def pruning_method(mode: ReuseMode, settings: ReuseSettings) -> PruningMethod | None:
    """The method of a mode that prunes; None for other modes."""
    match mode:
        case "fastv":
            return FastV(settings.fastv.layer, settings.fastv.ratio)
        case "sparsevlm":
            own = settings.sparsevlm
            return SparseVLM(tuple(own.layers), own.scale, own.bias, own.recycle)
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
