"""Similarity of each patch token to its reference, by decoder input rows or by pixels.

Knows rows and pixels of patches, all at once; no layout, no session. Smaller distances are more alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stillframe.domain import Image

NOISE_FLOOR = 10.0  # grey levels: contrast below this is sensor noise


@dataclass(frozen=True)
class PatchTokens:
    """The patches of one frame, or those from which each token's keys and values were computed."""

    rows: Tensor  # [tokens, width]: what enters the decoder
    pixels: Tensor | None  # uint8 [tokens, channels * px * px]: what the model sees; None where no criterion asks

    @cached_property
    def sizes(self) -> Tensor:
        """L2 norm of each row, [tokens], never zero. A reference's can be computed ahead."""
        sizes: Tensor = torch.linalg.vector_norm(self.rows, dim=-1, dtype=torch.float32)
        return sizes.clamp_min(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True)
class Similarity:
    """Result of a criterion."""

    distance: Tensor  # [tokens], for ordering
    static: Tensor  # bool [tokens]


class Criterion(Protocol):
    """Compares tokens with their references."""

    needs_pixels: bool

    def __call__(self, now: PatchTokens, reference: PatchTokens) -> Similarity:
        """Compare every token with its reference."""
        ...


@dataclass(frozen=True)
class Embedding:
    """Compares the decoder's input row with the row that the token's KV came from. The vision towers run anyway.

    They attend globally, so the row of a pixel-identical patch can change: pixels miss that, rows do not.
    """

    limit: float  # relative L2
    needs_pixels = False

    def __call__(self, now: PatchTokens, reference: PatchTokens) -> Similarity:
        """Distance: |now - reference| / |reference|."""
        moved = torch.linalg.vector_norm(now.rows - reference.rows, dim=-1, dtype=torch.float32)
        distance = moved / reference.sizes
        return Similarity(distance, distance <= self.limit)


@dataclass(frozen=True)
class Pixels:
    """The published cosine, and two tests for what it misses: dimming and small shifts."""

    least_cosine: float
    least_centred: float
    most_difference: float  # grey levels
    needs_pixels = True

    def __call__(self, now: PatchTokens, reference: PatchTokens) -> Similarity:
        """Distance: one minus the smaller of the two cosines."""
        new, old = _floats(now), _floats(reference)
        cosine, centred = _cosine(new, old), _centred_cosine(new, old)
        difference = (new - old).abs().amax(dim=-1)
        static = (cosine >= self.least_cosine) & (centred >= self.least_centred) & (difference <= self.most_difference)
        return Similarity(1.0 - torch.minimum(cosine, centred), static)


@dataclass(frozen=True)
class Cosine:
    """As published (VLA-Cache, section 3.1): raw pixels, nothing subtracted."""

    least: float
    needs_pixels = True

    def __call__(self, now: PatchTokens, reference: PatchTokens) -> Similarity:
        """Distance: one minus the cosine."""
        cosine = _cosine(_floats(now), _floats(reference))
        return Similarity(1.0 - cosine, cosine >= self.least)


@dataclass(frozen=True)
class IdenticalPrefix:
    """Exact reuse: rows that are bit-equal, and so are all rows before them.

    Under a causal mask a token's keys and values depend on itself and on what stands before it, on nothing else.
    """

    needs_pixels = False

    def __call__(self, now: PatchTokens, reference: PatchTokens) -> Similarity:
        """Distance: 0 or 1."""
        static = (now.rows == reference.rows).all(dim=-1).long().cumprod(0).bool()
        return Similarity((~static).float(), static)


def patch_pixels(views: Iterable[Image], grid: tuple[int, int]) -> Tensor:
    """Cut views uint8 [H, W, 3] into `grid` (rows, columns) of patches each -> uint8 [patch tokens, px * px * 3]."""
    rows, columns = grid
    cut = [view.reshape(rows, view.shape[0] // rows, columns, view.shape[1] // columns, 3) for view in views]
    return torch.from_numpy(np.concatenate([patches.swapaxes(1, 2).reshape(rows * columns, -1) for patches in cut]))


def _floats(tokens: PatchTokens) -> Tensor:
    if tokens.pixels is None:
        raise ValueError("this criterion compares pixels, and the tokens carry none")
    return tokens.pixels.float()


def _cosine(new: Tensor, old: Tensor) -> Tensor:
    """[tokens]; two black patches are alike, a black and a lit one are not."""
    black = (new.amax(dim=-1) == 0) & (old.amax(dim=-1) == 0)
    return torch.where(black, 1.0, functional.cosine_similarity(new, old, dim=-1))


def _centred_cosine(new: Tensor, old: Tensor) -> Tensor:
    """Cosine after each patch's mean is subtracted; flat patches, where only noise is left, count as equal."""
    new, old = new - new.mean(dim=-1, keepdim=True), old - old.mean(dim=-1, keepdim=True)
    floor = new.shape[-1] * NOISE_FLOOR**2
    sizes = (new.square().sum(dim=-1) + floor) * (old.square().sum(dim=-1) + floor)
    return ((new * old).sum(dim=-1) + floor) / sizes.sqrt()
