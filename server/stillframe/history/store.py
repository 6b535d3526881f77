"""History: one session's older frames in chunks of a fixed size, within a byte budget that is never exceeded.

Knows chunks, their utilities and ages; no scorer and no model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.errors import ConfigError
from stillframe.history.columns import Columns
from stillframe.history.pooling import Pooled

MIB = 2**20
LEAST = 1e-6  # floor of a utility, for its logarithm
GROWTH = 16  # initial chunks of a history without a budget


@dataclass(frozen=True)
class ChunkShape:
    """Shape of one chunk."""

    layers: int
    kv_heads: int
    head_dim: int
    tokens: int  # pooled together
    slots: int  # that they are pooled into
    dtype: torch.dtype
    device: torch.device

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values together."""
        return 2 * self.layers * self.kv_heads * self.slots * self.head_dim * self.dtype.itemsize

    def allocate(self, chunks: int) -> Tensor:
        """Zeros [2, layers, kv_heads, chunks, slots a chunk, head_dim]: keys, then values."""
        sizes = (2, self.layers, self.kv_heads, chunks, self.slots, self.head_dim)
        return torch.zeros(sizes, dtype=self.dtype, device=self.device)


@dataclass(frozen=True)
class RetentionPolicy:
    """Which chunks are kept."""

    budget_bytes: int | None  # None: unlimited
    chunks_per_frame: int = 1
    window_frames: int = 0  # the last frames are always kept
    threshold: float = 0.0  # chunks of a lower utility are dropped
    decay: float = 1.0  # of a utility, per frame
    evenly: bool = False  # frames stay for their places: those held are spread evenly over the episode

    def capacity(self, chunk_bytes: int) -> int | None:
        """Chunks that fit the budget. Raises ConfigError where the window alone does not."""
        if self.budget_bytes is None:
            return None
        chunks, needed = self.budget_bytes // chunk_bytes, max(1, self.window_frames) * self.chunks_per_frame
        if chunks < needed:
            raise ConfigError(
                f"history.budget_mib is {self.budget_bytes / MIB:.4g}; {max(1, self.window_frames)} frames, which "
                f"window_frames keeps, take {needed * chunk_bytes / MIB:.4g}: raise the one or lower the other"
            )
        return chunks


@dataclass
class ChunkCounts:
    """Chunks kept and dropped."""

    kept: int = 0  # still held when they left the window
    dropped: int = 0  # on arrival or later


@dataclass
class _ChunkTable:
    """Utilities and frames of the held chunks, in storage order."""

    utility: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    frame: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # that it came with


def levels(frame: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often a frame's place in its episode, counted from 0, can be halved [chunks]; the first frame's is inf.

    Where the frames of highest level stay, the newest of equal ones first, every 2^k-th frame is held, and as many of
    those half-way between them as there is room for: the oldest of these give way as the episode grows.
    """
    place = frame - 1
    lowest = np.bitwise_and(place, -place).astype(np.float64)  # the highest power of two that divides it
    return np.where(place > 0, lowest, np.inf)


class History:
    """The chunks of one session, contiguous from slot 0 in no order; ranks give their age."""

    def __init__(self, shape: ChunkShape, retention: RetentionPolicy):
        """Allocate the budget. Raises ConfigError."""
        self.shape, self.retention = shape, retention
        self.counts = ChunkCounts()  # since the episode began
        self.frames = 0  # added so far
        self._capacity = retention.capacity(shape.nbytes)
        self._storage = shape.allocate(GROWTH if self._capacity is None else self._capacity)
        self._table = _ChunkTable()
        self._mass = log(shape.tokens / shape.slots)

    @property
    def held(self) -> int:
        """Number of chunks held."""
        return len(self._table.frame)

    @property
    def nbytes(self) -> int:
        """Bytes of the held chunks."""
        return self.held * self.shape.nbytes

    @property
    def utilities(self) -> NDArray[np.float64]:
        """Of the held chunks [held], in the order of `columns`, which counts those of the window as 1."""
        return self._table.utility

    @property
    def held_frames(self) -> NDArray[np.int64]:
        """The frame that each came with [held], counted from 1."""
        return self._table.frame

    def add(self, pooled: Pooled, utilities: NDArray[np.float64]) -> ChunkCounts:
        """Add a frame's chunks in order and drop those of least utility; returns the counts. Constant cost."""
        self.frames += 1
        utility = np.concatenate((self._table.utility, utilities))
        frame = np.concatenate((self._table.frame, np.full(len(pooled), self.frames, np.int64)))
        stay = self._staying(utility, frame)
        held = self.held
        places = self._make_room(np.flatnonzero(stay[:held]), int(stay.sum()))
        new = np.flatnonzero(stay[held:])
        order = np.concatenate((places, held + new)).astype(np.int64)  # chunk of each slot
        if len(new):
            self._write(pooled, new, len(places))
        self._table = _ChunkTable(utility[order], frame[order])
        leaving = frame == self.frames - self.retention.window_frames
        now = ChunkCounts(int((stay & leaving).sum()), int((~stay).sum()))
        self.counts = ChunkCounts(self.counts.kept + now.kept, self.counts.dropped + now.dropped)
        return now

    def set_utilities(self, utilities: NDArray[np.float64]) -> None:
        """Replace the utilities of the held chunks [held], in the order of `columns`."""
        self._table.utility = utilities

    def columns(self) -> Columns | None:
        """What attention reads; None where nothing is held. Copies, so later adds do not change them."""
        if not self.held:
            return None
        keys, values = self._storage[:, :, :, : self.held].flatten(3, 4).clone().unbind(0)
        ranks = np.unique(self._table.frame, return_inverse=True)[1].repeat(self.shape.slots)
        bias = np.log(np.maximum(self._trusted(), LEAST)).repeat(self.shape.slots) + self._mass
        return Columns(
            keys, values, *(torch.from_numpy(row).to(keys.device) for row in (bias.astype(np.float32), ranks))
        )

    def reset(self) -> None:
        """Drop everything: an episode begins."""
        self.counts, self.frames, self._table = ChunkCounts(), 0, _ChunkTable()

    def saved(self) -> dict[str, Tensor]:
        """A copy of the state, for `restore`."""
        return {
            "chunks": self._storage[:, :, :, : self.held].clone(),
            "utility": torch.from_numpy(self._table.utility.copy()),
            "frame": torch.from_numpy(self._table.frame.copy()),
            "counts": torch.tensor([self.frames, self.counts.kept, self.counts.dropped]),
        }

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Take over a saved state of the same shape and retention policy."""
        chunks = saved["chunks"]
        self._grow(chunks.shape[3])
        self._storage[:, :, :, : chunks.shape[3]] = chunks
        self._table = _ChunkTable(saved["utility"].numpy().copy(), saved["frame"].numpy().copy())
        self.frames, kept, dropped = saved["counts"].tolist()
        self.counts = ChunkCounts(kept, dropped)

    def _trusted(self) -> NDArray[np.float64]:
        """Utilities for attention: 1 inside the window."""
        return np.where(self._recent(self._table.frame), 1.0, self._table.utility)

    def _recent(self, frame: NDArray[np.int64]) -> NDArray[np.bool_]:
        return frame > self.frames - self.retention.window_frames

    def _staying(self, utility: NDArray[np.float64], frame: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which chunks stay: those of the window, then those of highest decayed utility or level, up to capacity."""
        worth = levels(frame) if self.retention.evenly else utility * self.retention.decay ** (self.frames - frame)
        recent = self._recent(frame)
        stay = recent | (utility >= self.retention.threshold)
        if self._capacity is None or stay.sum() <= self._capacity:
            return stay
        rank = np.where(recent, np.inf, np.where(stay, worth, -np.inf))
        best = np.lexsort((frame, rank))[::-1][: self._capacity]  # the newest of equal ones stays
        chosen = np.zeros(len(stay), np.bool_)
        chosen[best] = True
        return chosen

    def _make_room(self, stay: NDArray[np.int64], held: int) -> NDArray[np.int64]:
        """Compact the kept chunks into the first slots; returns the chunk of each. Moves no more than were dropped."""
        self._grow(held)
        order = np.arange(len(stay))
        inside = stay[stay < len(stay)]
        holes, movers = np.setdiff1d(order, inside), stay[stay >= len(stay)]
        if len(movers):
            self._storage[:, :, :, holes] = self._storage[:, :, :, movers]
        order[holes] = movers
        return order

    def _write(self, pooled: Pooled, new: NDArray[np.int64], first: int) -> None:
        """Append chunks [layers, kv_heads, new, slots, head_dim]."""
        for half, chunks in zip(self._storage, (pooled.keys, pooled.values), strict=True):
            half[:, :, first : first + len(new)] = chunks[new].permute(1, 2, 0, 3, 4)

    def _grow(self, chunks: int) -> None:
        """Double the storage when it is full, where there is no budget."""
        have = self._storage.shape[3]
        if chunks > have:
            grown = self.shape.allocate(max(chunks, 2 * have))
            grown[:, :, :, :have] = self._storage
            self._storage = grown
