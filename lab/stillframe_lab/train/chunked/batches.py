"""Batches of frames that are labelled with chunks.

Knows stores and keypoints; no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stillframe_lab.train.auxiliary import Keypoints
from stillframe_lab.train.batches import BatchSource, stacked


@dataclass(frozen=True)
class ChunkBatch:
    """A few frames and what is known of them."""

    pixels: Tensor  # [batch, cameras, 6, H, W], normalised
    state: Tensor  # [batch, 7], in the robot's units
    goals: Tensor  # [batch, branches], indices of INSTRUCTIONS
    chunks: Tensor  # [batch, branches, horizon, 7] in [-1, 1]
    keypoints: Keypoints  # in the first camera's picture

    def to(self, device: torch.device) -> ChunkBatch:
        """The same, on another device."""
        pixels, state, goals, chunks = (
            tensor.to(device) for tensor in (self.pixels, self.state, self.goals, self.chunks)
        )
        return ChunkBatch(pixels, state, goals, chunks, self.keypoints.to(device))


def draw_chunks(source: BatchSource, count: int, rng: np.random.Generator) -> ChunkBatch:
    """`count` frames of a source whose stores have ChunkLabels, with replacement."""
    picks = source.picks(count, rng)
    state, goals, chunks = (stacked(picks, name) for name in ("state", "goals", "chunks"))
    return ChunkBatch(source.pixels_of(picks, rng), state, goals, chunks, source.keypoints_of(picks))
