"""History: one session's older frames, in slots of a fixed size, within bytes that are never exceeded.

Knows chunks, what they are worth and how old they are; not who said what they are worth, and no model.
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
LEAST = 1e-6  # of a utility, for its logarithm
GROWTH = 16  # chunks for which a history without end begins


@dataclass(frozen=True)
class ChunkShape:
    """What one chunk takes."""

    layers: int
    kv_heads: int
    head_dim: int
    tokens: int  # that were pooled
    slots: int  # into so many
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
class Rules:
    """What stays."""

    budget_bytes: int | None  # None: without end
    chunks_per_frame: int = 1
    window_frames: int = 0  # so many of the last frames stay
    threshold: float = 0.0  # what is worth less goes
    decay: float = 1.0  # a frame

    def capacity(self, chunk_bytes: int) -> int | None:
        """Chunks. Raises ConfigError where the window alone does not fit."""
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
class Tally:
    """What became of chunks."""

    kept: int = 0  # stayed when the window had gone past them
    dropped: int = 0  # went, as they came or later


@dataclass
class _Book:
    """What is known of the chunks that are held, in the order in which they lie."""

    utility: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    frame: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # when it came


class History:
    """The chunks of one session. Held ones adjoin from the first place on, in no order: their ranks say how old."""

    def __init__(self, shape: ChunkShape, rules: Rules):
        """Take the memory that the budget allows. Raises ConfigError."""
        self.shape, self.rules = shape, rules
        self.tally = Tally()  # since the episode began
        self.frames = 0  # that have come
        self._capacity = rules.capacity(shape.nbytes)
        self._storage = shape.allocate(GROWTH if self._capacity is None else self._capacity)
        self._book = _Book()
        self._mass = log(shape.tokens / shape.slots)

    @property
    def held(self) -> int:
        """Chunks."""
        return len(self._book.frame)

    @property
    def nbytes(self) -> int:
        """Bytes of the chunks that are held."""
        return self.held * self.shape.nbytes

    @property
    def utilities(self) -> NDArray[np.float64]:
        """Of the chunks that are held [held], in the order of `columns`; a window's are 1 there whatever is said."""
        return self._book.utility

    @property
    def held_frames(self) -> NDArray[np.int64]:
        """Which frame each of them came with [held], counted from 1."""
        return self._book.frame

    def add(self, pooled: Pooled, utilities: NDArray[np.float64]) -> Tally:
        """A frame is over: take in its chunks, in order, and let go of what is worth least; what became of them.

        Costs the same always.
        """
        self.frames += 1
        utility = np.concatenate((self._book.utility, utilities))
        frame = np.concatenate((self._book.frame, np.full(len(pooled), self.frames, np.int64)))
        stay = self._staying(utility, frame)
        held = self.held
        places = self._make_room(np.flatnonzero(stay[:held]), int(stay.sum()))
        new = np.flatnonzero(stay[held:])
        order = np.concatenate((places, held + new)).astype(np.int64)  # what lies where, now
        if len(new):
            self._write(pooled, new, len(places))
        self._book = _Book(utility[order], frame[order])
        leaving = frame == self.frames - self.rules.window_frames
        now = Tally(int((stay & leaving).sum()), int((~stay).sum()))
        self.tally = Tally(self.tally.kept + now.kept, self.tally.dropped + now.dropped)
        return now

    def revise(self, utilities: NDArray[np.float64]) -> None:
        """Say anew what the held chunks are worth [held], in the order of `columns`."""
        self._book.utility = utilities

    def columns(self) -> Columns | None:
        """What may be looked at; None where nothing is held. Copies: valid whatever comes."""
        if not self.held:
            return None
        keys, values = self._storage[:, :, :, : self.held].flatten(3, 4).clone().unbind(0)
        ranks = np.unique(self._book.frame, return_inverse=True)[1].repeat(self.shape.slots)
        bias = np.log(np.maximum(self._trusted(), LEAST)).repeat(self.shape.slots) + self._mass
        return Columns(
            keys, values, *(torch.from_numpy(row).to(keys.device) for row in (bias.astype(np.float32), ranks))
        )

    def reset(self) -> None:
        """An episode begins: as if there had been none before."""
        self.tally, self.frames, self._book = Tally(), 0, _Book()

    def saved(self) -> dict[str, Tensor]:
        """All that `restored` needs to go on from here: copies."""
        return {
            "chunks": self._storage[:, :, :, : self.held].clone(),
            "utility": torch.from_numpy(self._book.utility.copy()),
            "frame": torch.from_numpy(self._book.frame.copy()),
            "counts": torch.tensor([self.frames, self.tally.kept, self.tally.dropped]),
        }

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Be as the history that was saved, which had the same shape and rules."""
        chunks = saved["chunks"]
        self._grow(chunks.shape[3])
        self._storage[:, :, :, : chunks.shape[3]] = chunks
        self._book = _Book(saved["utility"].numpy().copy(), saved["frame"].numpy().copy())
        self.frames, kept, dropped = saved["counts"].tolist()
        self.tally = Tally(kept, dropped)

    def _trusted(self) -> NDArray[np.float64]:
        """Utilities as they are looked at: recent detail is worth all it can be."""
        return np.where(self._recent(self._book.frame), 1.0, self._book.utility)

    def _recent(self, frame: NDArray[np.int64]) -> NDArray[np.bool_]:
        return frame > self.frames - self.rules.window_frames

    def _staying(self, utility: NDArray[np.float64], frame: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which chunks stay: those of the window, then those worth most now, as many as there is room for."""
        worth = utility * self.rules.decay ** (self.frames - frame)
        recent = self._recent(frame)
        stay = recent | (utility >= self.rules.threshold)
        if self._capacity is None or stay.sum() <= self._capacity:
            return stay
        rank = np.where(recent, np.inf, np.where(stay, worth, -np.inf))
        best = np.lexsort((frame, rank))[::-1][: self._capacity]  # of equal ones the newest stays
        chosen = np.zeros(len(stay), np.bool_)
        chosen[best] = True
        return chosen

    def _make_room(self, stay: NDArray[np.int64], held: int) -> NDArray[np.int64]:
        """Move those that stay to the first places; which lies where. At most as many move as have gone."""
        self._grow(held)
        order = np.arange(len(stay))
        inside = stay[stay < len(stay)]
        holes, movers = np.setdiff1d(order, inside), stay[stay >= len(stay)]
        if len(movers):
            self._storage[:, :, :, holes] = self._storage[:, :, :, movers]
        order[holes] = movers
        return order

    def _write(self, pooled: Pooled, new: NDArray[np.int64], first: int) -> None:
        """Put chunks [layers, kv_heads, new, slots, head_dim] behind the others."""
        for half, chunks in zip(self._storage, (pooled.keys, pooled.values), strict=True):
            half[:, :, first : first + len(new)] = chunks[new].permute(1, 2, 0, 3, 4)

    def _grow(self, chunks: int) -> None:
        """Without end: twice as much when it is full."""
        have = self._storage.shape[3]
        if chunks > have:
            grown = self.shape.allocate(max(chunks, 2 * have))
            grown[:, :, :, :have] = self._storage
            self._storage = grown
