"""Batches of demonstrations' frames.

Knows stores and keypoints; no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stillframe_lab.train.auxiliary import PATCH_PX, Keypoints
from stillframe_lab.train.batches import BatchSource, stacked


@dataclass(frozen=True)
class LiberoBatch:
    """A few frames and what is known of them."""

    pixels: Tensor  # [batch, cameras, 6, H, W], normalised
    state: Tensor  # [batch, 8], in the robot's units
    task: Tensor  # [batch]
    chunks: Tensor  # [batch, horizon, 7] in [-1, 1]
    keypoints: Keypoints  # in the first camera's picture

    def to(self, device: torch.device) -> LiberoBatch:
        """The same, on another device."""
        pixels, state, task, chunks = (part.to(device) for part in (self.pixels, self.state, self.task, self.chunks))
        return LiberoBatch(pixels, state, task, chunks, self.keypoints.to(device))


def draw_frames(source: BatchSource, count: int, cameras: int, horizon: int, rng: np.random.Generator) -> LiberoBatch:
    """`count` frames of a source whose stores have TaskLabels, with replacement: the first cameras, first actions."""
    picks = source.picks(count, rng)
    pixels = source.pixels_of(picks, rng, cameras)
    points_m, points_px, opening = (stacked(picks, name) for name in ("points_m", "points_px", "finger_rad"))
    keypoints = Keypoints.of(points_m, points_px, opening, pixels.shape[-1] // PATCH_PX)
    state, task, chunks = (stacked(picks, name) for name in ("state", "task", "chunks"))
    return LiberoBatch(pixels, state, task, chunks[:, :horizon], keypoints)
