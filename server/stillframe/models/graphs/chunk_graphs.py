"""GraphedChunks: chunks that a family draws over prefixes, every step of them captured as one graph and replayed.

Knows batch sizes and static buffers; no family. A batch smaller than a captured one is padded with earlier robots'.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from stillframe.domain import PassCounts
from stillframe.models.graphs.graph_runner import Capture
from stillframe.reuse.kv import FrameKV


class ChunkBuffers(Protocol):
    """Static inputs and outputs of chunks over prefixes, and what computes them, of tensors alone."""

    def fill(self, caches: Sequence[FrameKV], lengths: Sequence[int], states: Tensor | None, noise: Tensor) -> None:
        """Copy robots' inputs in, from the first place on."""
        ...

    def compute(self, robots: int) -> None:
        """Draw the first so many places' chunks."""
        ...

    def drawn(self, robots: int) -> Tensor:
        """The first so many places' chunks: a copy."""
        ...


@runtime_checkable
class DrawsChunks(Protocol):
    """A model that draws chunks over prefixes, in passes that can be captured."""

    def static_chunks(self, robots: int, capacity: int) -> ChunkBuffers:
        """For up to so many robots, and prefixes of up to `capacity` rows."""
        ...

    def static_chunks_bytes(self, robots: int, capacity: int) -> int:
        """What these take of a device."""
        ...


class GraphedChunks:
    """A `runner.ChunkGraphs` that replays. One thread at a time."""

    def __init__(self, buffers: ChunkBuffers, sizes: Sequence[int], capture: Capture, counts: PassCounts):
        """Capture batches of each of the `sizes`, the largest first."""
        self._buffers, self._counts = buffers, counts
        with torch.inference_mode():
            self._replays = {size: capture(partial(buffers.compute, size)) for size in sorted(sizes, reverse=True)}

    def replay(
        self, caches: Sequence[FrameKV], lengths: Sequence[int], states: Tensor | None, noise: Tensor, *, plain: bool
    ) -> Tensor | None:
        """See `runner.ChunkGraphs`."""
        size = min((size for size in self._replays if size >= len(noise)), default=None)
        if not plain or size is None:
            self._counts.ran("chunks")
            return None
        self._buffers.fill(caches, lengths, states, noise)
        self._replays[size]()
        self._counts.replays += 1
        return self._buffers.drawn(len(noise))
