"""TokenSparseVision: vision towers that compute some patches of a picture, over keys and values kept of the others.

Knows towers, patches and what is kept of a picture; not which patches are worth it, and no session. As MaskVD and
Eventful Transformers do for video: in every block the computed rows attend to all rows, those that are not computed by
the keys and values that they had when they last were. Class and register tokens are computed every time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stillframe.models.llama.attention import attend
from stillframe.models.side_by_side import Job, RunJobs, in_turn


class SparseTower(Protocol):
    """A ViT whose blocks take rows and a way to attend: see `prismatic.vision.Block`."""

    blocks: nn.ModuleList
    pos_embed: nn.Parameter  # [..., patches, dim], in the dtype in which patches are cut

    @property
    def prefix_tokens(self) -> int:
        """Class and register tokens, which go first."""
        ...

    @property
    def kv_sizes(self) -> tuple[int, ...]:
        """[blocks, 2, heads, tokens, head_dim]: one picture's keys and values."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of its rows."""
        ...

    def enter(self, pixels: Tensor) -> Tensor:
        """[batch, 3, H, W] -> what the first block takes, [batch, tokens, dim]."""
        ...

    def enter_patches(self, patches: Tensor, at: Tensor) -> Tensor:
        """Of some patches [n, 3, px, px], the `at`th [n] of a picture: [prefix tokens + n, dim]."""
        ...

    def leave(self, patches: Tensor) -> Tensor:
        """Features [..., dim] of patches as the last block leaves them."""
        ...


@dataclass(frozen=True)
class PictureKV:
    """Keys and values of one picture in every block of each tower. Written in place where patches are computed anew."""

    towers: tuple[Tensor, ...]  # of each [blocks, 2, heads, tokens, head_dim]

    @property
    def nbytes(self) -> int:
        """Bytes of all."""
        return sum(tower.nbytes for tower in self.towers)


@dataclass(frozen=True)
class ChangedPicture:
    """A picture of which some patches are to be computed."""

    pixels: Tensor  # [3 * towers, H, W], in the host's memory
    at: NDArray[np.intp]  # [n] of its patches
    kv: PictureKV  # of earlier pictures


@runtime_checkable
class HasTokenSparseVision(Protocol):
    """A model whose towers can do so: `Prepared.known` takes the rows to `embed`."""

    @property
    def token_sparse_vision(self) -> TokenSparseVision:
        """Its towers and its projector."""
        ...


class TokenSparseVision:
    """Towers over the same pictures, three channels each, and the projector behind them. One thread at a time."""

    def __init__(self, towers: Sequence[SparseTower], project: Callable[[Tensor], Tensor], run: RunJobs = in_turn):
        """`run`: how the towers run, one after the other or side by side."""
        self._towers = [*towers]
        self._project = project
        self._run = run
        self._grid = math.isqrt(towers[0].pos_embed.shape[-2])

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self._grid

    @property
    def picture_bytes(self) -> int:
        """What a PictureKV takes."""
        return sum(math.prod(tower.kv_sizes) * tower.dtype.itemsize for tower in self._towers)

    def whole(self, pictures: Sequence[Tensor]) -> tuple[Tensor, list[PictureKV]]:
        """Pictures [3 * towers, H, W] -> all projected patches [pictures, patches, width], and what to keep of each.

        The patches are those that the model's own encoder gives.
        """
        pixels = torch.stack([self._moved(picture) for picture in pictures])
        jobs, kept = list[Job](), list[list[Tensor]]()
        for tower, own in zip(self._towers, torch.split(pixels, 3, dim=1), strict=True):
            kept.append([torch.empty(tower.kv_sizes, dtype=tower.dtype, device=pixels.device) for _ in pictures])
            jobs.append(partial(_whole, tower, own, kept[-1]))
        return self._project(torch.cat(self._run(jobs), dim=-1)), [PictureKV(own) for own in zip(*kept, strict=True)]

    def changed(self, pictures: Sequence[ChangedPicture]) -> list[Tensor]:
        """Compute some patches of each picture -> their projected rows [n, width], and in `kv` their keys and values.

        All pictures' rows go through each layer side by side.
        """
        at = [torch.from_numpy(picture.at) for picture in pictures]
        patches = [self._moved(_cut(own.pixels, own_at, self._grid)) for own, own_at in zip(pictures, at, strict=True)]
        at = [own.to(patches[0].device) for own in at]
        jobs = list[Job]()
        for number, tower in enumerate(self._towers):
            pixels = [own[:, 3 * number : 3 * number + 3] for own in patches]
            jobs.append(partial(_computed, tower, pixels, at, [own.kv.towers[number] for own in pictures]))
        return [*torch.split(self._project(torch.cat(self._run(jobs), dim=-1)), [len(own) for own in at])]

    def _moved(self, pixels: Tensor) -> Tensor:
        """To the towers' device, in the dtype in which they cut patches."""
        like = self._towers[0].pos_embed
        return pixels.to(like.device, non_blocking=True).to(like.dtype)


def _whole(tower: SparseTower, pixels: Tensor, kv: Sequence[Tensor]) -> Tensor:
    """Features [pictures, patches, dim] of one tower; each picture's keys and values go where its `kv` is."""
    tokens = tower.enter(pixels)
    for layer, block in enumerate(tower.blocks):
        tokens = block(tokens, partial(_keeping, [own[layer] for own in kv]))
    return tower.leave(tokens[:, tower.prefix_tokens :])


def _computed(tower: SparseTower, patches: Sequence[Tensor], at: Sequence[Tensor], kv: Sequence[Tensor]) -> Tensor:
    """Features [patches of all, dim] of one tower, from each picture's patches [n, 3, px, px] and their places [n]."""
    prefix = tower.prefix_tokens
    first = torch.arange(prefix, device=at[0].device)
    positions = [torch.cat((first, own + prefix)) for own in at]
    rows = torch.cat([tower.enter_patches(own, places) for own, places in zip(patches, at, strict=True)])[None]
    for layer, block in enumerate(tower.blocks):
        rows = block(rows, partial(_over_kept, [own[layer] for own in kv], positions))
    ends = torch.split(rows[0], [len(own) for own in positions])
    return tower.leave(torch.cat([own[prefix:] for own in ends]))


def _keeping(kv: Sequence[Tensor], queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend as ever, [batch, heads, tokens, head_dim]; `kv`: of each picture where its keys and values go."""
    for own, key, value in zip(kv, keys, values, strict=True):
        own[0], own[1] = key, value
    return attend(queries, keys, values)


def _over_kept(
    kv: Sequence[Tensor], positions: Sequence[Tensor], queries: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """Rows [1, heads, rows of all, head_dim] attend to all tokens of their own picture, after their own are written."""
    mixed = []
    for own, at, (begin, end) in zip(kv, positions, pairwise(accumulate(map(len, positions), initial=0)), strict=True):
        own[0].index_copy_(1, at, keys[0, :, begin:end])
        own[1].index_copy_(1, at, values[0, :, begin:end])
        mixed.append(attend(queries[:, :, begin:end], own[0][None], own[1][None]))
    return torch.cat(mixed, dim=2)


def _cut(pixels: Tensor, at: Tensor, grid: int) -> Tensor:
    """The `at`th patches of a picture [channels, H, W], in raster order -> [n, channels, px, px]."""
    px = pixels.shape[-1] // grid
    cut = pixels.reshape(-1, grid, px, grid, px)
    return cut[:, at // grid, :, at % grid]
