"""GraphedVision: a vision encoder, captured for a few batch sizes and replayed.

Knows images and rows; no family. A batch smaller than a captured one is padded with earlier images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from stillframe.domain import PassCounts
from stillframe.models.base import ImageEncoder
from stillframe.models.graphs.graph_runner import Capture


@runtime_checkable
class HasVisionEncoder(Protocol):
    """A model with a vision encoder that can be captured: `embed` takes what replays it."""

    def encode_images(self, pixels: Tensor) -> Tensor:
        """See `base.ImageEncoder`."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what is encoded."""
        ...


class GraphedVision:
    """An `ImageEncoder` that replays. One thread at a time."""

    def __init__(
        self,
        encode: ImageEncoder,
        image_shape: tuple[int, int, int],
        sizes: Sequence[int],
        capture: Capture,
        counts: PassCounts,
        like: Tensor,
    ):
        """Capture `encode` for batches of each of the `sizes`, in the dtype and on the device of `like`."""
        self._encode = encode
        self._counts = counts
        with torch.inference_mode():
            self._images = torch.zeros(max(sizes), *image_shape, dtype=like.dtype, device=like.device)
            self._rows = torch.zeros_like(encode(self._images))
            self._replays = {size: capture(partial(self._compute, size)) for size in sorted(sizes, reverse=True)}

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return self._images.nbytes + self._rows.nbytes

    def __call__(self, images: Tensor) -> Tensor:
        """[n, channels, H, W] -> [n, patches, width]."""
        size = min((size for size in self._replays if size >= len(images)), default=None)
        if size is None:
            self._counts.ran("pictures")
            return self._encode(images)
        self._images[: len(images)].copy_(images, non_blocking=True)
        self._replays[size]()
        self._counts.replays += 1
        return self._rows[: len(images)].clone()

    def _compute(self, size: int) -> None:
        self._rows[:size].copy_(self._encode(self._images[:size]))
