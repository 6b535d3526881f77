"""Towers: what a vision network makes of pictures, recorded for a few numbers of pictures and replayed.

Knows pictures and rows; no family. Where there are fewer pictures than were recorded, earlier ones are seen again.
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
class Sighted(Protocol):
    """A model with a vision encoder that can be captured: `embed` takes what replays it."""

    def encode_images(self, pixels: Tensor) -> Tensor:
        """See `base.ImageEncoder`."""
        ...

    @property
    def picture(self) -> tuple[int, int, int]:
        """Channels, height and width of what is encoded."""
        ...


class Towers:
    """An ImageEncoder that replays. For the engine's thread."""

    def __init__(
        self,
        encode: ImageEncoder,
        picture: tuple[int, int, int],
        numbers: Sequence[int],
        capture: Capture,
        counts: PassCounts,
        like: Tensor,
    ):
        """Record `encode` over each of the `numbers` of pictures, in the dtype and on the device of `like`."""
        self._encode = encode
        self._counts = counts
        with torch.inference_mode():
            self._pictures = torch.zeros(max(numbers), *picture, dtype=like.dtype, device=like.device)
            self._rows = torch.zeros_like(encode(self._pictures))
            self._replays = {
                number: capture(partial(self._compute, number)) for number in sorted(numbers, reverse=True)
            }

    @property
    def nbytes(self) -> int:
        """Bytes of what goes in and comes out."""
        return self._pictures.nbytes + self._rows.nbytes

    def __call__(self, pictures: Tensor) -> Tensor:
        """[n, channels, H, W] -> [n, patches, width]."""
        number = min((number for number in self._replays if number >= len(pictures)), default=None)
        if number is None:
            self._counts.ran("pictures")
            return self._encode(pictures)
        self._pictures[: len(pictures)].copy_(pictures, non_blocking=True)
        self._replays[number]()
        self._counts.replays += 1
        return self._rows[: len(pictures)].clone()

    def _compute(self, number: int) -> None:
        self._rows[:number].copy_(self._encode(self._pictures[:number]))
