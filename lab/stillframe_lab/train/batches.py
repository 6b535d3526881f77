"""Batches from frame stores: random pictures, half of them with sensor noise, normalised as in the daemon.

Knows stores and keypoints; no network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe_lab.train.auxiliary import Keypoints
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.objective import Batch

Pick = tuple[FrameStore, int]  # a store and one of its frames


class BatchSource:
    """Draws batches from demonstrations and, if there are any, from DAgger rounds."""

    def __init__(
        self,
        demos: Sequence[FrameStore],
        rounds: Sequence[FrameStore],
        pixels: PixelPipeline,
        *,
        dagger_draw: float,
        noise_max: float,
    ):
        self._demos, self._rounds = list(demos), list(rounds)
        mean, std = (torch.tensor(values)[:, :, None, None] for values in (pixels.means, pixels.stds))
        self._gain, self._bias = 1 / (255 * std), -mean / std  # [towers, 3, 1, 1] each
        self._dagger_draw = dagger_draw
        self._noise_max = noise_max

    def draw(self, count: int, rng: np.random.Generator) -> Batch:
        """`count` frames with replacement."""
        picks = self.picks(count, rng)
        return Batch(self.pixels_of(picks, rng), stacked(picks, "actions"), self.keypoints_of(picks))

    def picks(self, count: int, rng: np.random.Generator) -> list[Pick]:
        """Draw so many frames."""
        return [self._pick(rng) for _ in range(count)]

    def pixels_of(self, picks: Sequence[Pick], rng: np.random.Generator, cameras: int | None = None) -> Tensor:
        """[picks, cameras, 6, H, W], normalised, half of the pictures with noise. `cameras`: the first so many."""
        images = np.stack([store.images[index][:cameras] for store, index in picks])  # [picks, cameras, px, px, 3]
        pixels = self._normalised(images.reshape(-1, *images.shape[2:]), rng)
        return pixels.view(*images.shape[:2], *pixels.shape[1:])

    def keypoints_of(self, picks: Sequence[Pick]) -> Keypoints:
        """Where cubes and tool are in each."""
        return Keypoints.of(stacked(picks, "points_m"), stacked(picks, "points_px"), stacked(picks, "finger_rad"))

    def _pick(self, rng: np.random.Generator) -> Pick:
        """Draw demonstrations or rounds, then one of their frames uniformly."""
        stores = self._rounds if self._rounds and rng.random() < self._dagger_draw else self._demos
        index = int(rng.integers(sum(map(len, stores))))
        for store in stores:
            if index < len(store):
                break
            index -= len(store)
        return store, index

    def _normalised(self, images: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
        """uint8 [pictures, H, W, 3] -> float32 [pictures, 6, H, W]; noise is rounded to grey levels like a camera's."""
        grey = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        sigma = torch.from_numpy(rng.uniform(0, self._noise_max, len(images)) * (rng.random(len(images)) < 0.5)).float()
        noisy = torch.nonzero(sigma).flatten()
        noise = torch.from_numpy(rng.standard_normal(grey[noisy].shape, dtype=np.float32))
        grey[noisy] = (grey[noisy] + noise * sigma[noisy, None, None, None]).round().clamp(0, 255)
        return torch.cat([grey.mul(gain).add_(bias) for gain, bias in zip(self._gain, self._bias, strict=True)], dim=1)


def stacked(picks: Sequence[Pick], name: str) -> Tensor:
    """One of the labels of each."""
    return torch.from_numpy(np.stack([getattr(store.labels, name)[index] for store, index in picks]))
