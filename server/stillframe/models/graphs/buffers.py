"""Static buffers of captured passes: inputs and outputs at the same addresses in every replay.

Knows shapes and sequences; no layer. All shapes share the same memory: one pass runs at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from stillframe.models.graphs.shapes import GraphShape
from stillframe.models.llama.sequence import SequenceSlice


@dataclass(frozen=True)
class BufferSizes:
    """What the size of buffers depends on."""

    width: int
    layers: int
    scratch: int  # position at which padding is written: the last of a slot's, which no sequence reaches
    hook_rows: int  # rows at a prompt's end, as they enter each layer, that a layer hook can ask for
    dtype: torch.dtype
    device: torch.device


class SharedBuffers:
    """The memory of all shapes' buffers, as much as the largest needs."""

    def __init__(self, sizes: BufferSizes, shapes: Sequence[GraphShape]):
        self.sizes = sizes
        self._rows = self._allocate(max(shape.batch * shape.entering for shape in shapes) * sizes.width)
        self._hidden = self._allocate(max(shape.batch * shape.outputs for shape in shapes) * sizes.width)
        self._ints = torch.zeros(max(map(_ints, shapes)), dtype=torch.long, device=sizes.device)
        self._hook_rows = self._allocate(prod(_hook_rows(sizes, max(shape.batch for shape in shapes))))

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return sum(held.nbytes for held in (self._rows, self._hidden, self._ints, self._hook_rows))

    def buffers(self, shape: GraphShape) -> Buffers:
        """One shape's buffers: views."""
        sizes, ints = self.sizes, self._ints[: _ints(shape)]
        return Buffers(
            shape=shape,
            sizes=sizes,
            rows=_shaped(self._rows, shape.batch, shape.entering, sizes.width),
            hidden=_shaped(self._hidden, shape.batch, shape.outputs, sizes.width),
            hook_rows=_shaped(self._hook_rows, *_hook_rows(sizes, shape.batch)),
            ints=ints,
            at=_shaped(ints, shape.batch, shape.entering),
            slots=ints[shape.batch * shape.entering :][: shape.batch],
            keep=_shaped(ints[shape.batch * (shape.entering + 1) :], shape.batch, shape.surviving),
        )

    def _allocate(self, elements: int) -> Tensor:
        return torch.zeros(elements, dtype=self.sizes.dtype, device=self.sizes.device)


@dataclass(frozen=True)
class Buffers:
    """One shape's. Sequences fill the batch from its first index on; each one's rows are aligned to the end."""

    shape: GraphShape
    sizes: BufferSizes
    rows: Tensor  # [batch, entering, width]
    hidden: Tensor  # [batch, outputs, width]
    hook_rows: Tensor  # [layers, batch, hook_rows, width]: the last rows that enter each layer
    ints: Tensor  # the three below, concatenated
    at: Tensor  # [batch, entering] position of each row, `scratch` for padding
    slots: Tensor  # [batch] of the pool
    keep: Tensor  # [batch, surviving] indices, into all rows that enter, of those that survive the first layer

    def fill(self, sequences: Sequence[SequenceSlice], slots: Sequence[int]) -> None:
        """Copy sequences in. Padding holds rows of earlier ones: computed, and attended to by no other row."""
        self.ints.copy_(torch.from_numpy(self._indices(sequences, slots)), non_blocking=True)
        for own, sequence in zip(self.rows, sequences, strict=False):
            own[-len(sequence.rows) :].copy_(sequence.rows)
        for index, sequence in enumerate(sequences):
            kept = sequence.kept.get(0)
            if kept is not None:
                first = (index + 1) * self.shape.entering - len(sequence.rows)
                torch.add(kept.to(self.keep.device), first, out=self.keep[index, self.shape.surviving - len(kept) :])

    def results(self, sequences: Sequence[SequenceSlice]) -> list[Tensor]:
        """Copy each sequence's output rows out of the static buffers and call its layer hook."""
        for index, sequence in enumerate(sequences):
            if sequence.hook is not None and sequence.hook_rows is not None:
                for layer, rows in enumerate(self.hook_rows[:, index]):
                    sequence.hook(layer, rows[len(rows) - sequence.hook_rows :])
        return [own[-output_rows(sequence) :].clone() for own, sequence in zip(self.hidden, sequences, strict=False)]

    def _indices(
        self, sequences: Sequence[SequenceSlice], slots: Sequence[int]
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """`ints`, without the indices that only the device has: which rows a plan keeps. Rows left over are padding."""
        shape = self.shape
        at = np.full((shape.batch, shape.entering), self.sizes.scratch)
        keep = np.repeat(np.arange(shape.batch)[:, None] * shape.entering, shape.surviving, axis=1)
        for index, sequence in enumerate(sequences):
            at[index, -len(sequence.rows) :] = range(sequence.first, sequence.stop)
            if 0 not in sequence.kept:
                stop = (index + 1) * shape.entering
                keep[index, -len(sequence.rows) :] = range(stop - len(sequence.rows), stop)
        used = np.zeros(shape.batch, np.int64)
        used[: len(slots)] = slots
        return np.concatenate((at.ravel(), used, keep.ravel()))


def surviving_rows(sequence: SequenceSlice) -> int:
    """How many of its rows survive the first layer."""
    return len(sequence.kept[0]) if 0 in sequence.kept else len(sequence.rows)


def output_rows(sequence: SequenceSlice) -> int:
    """How many of its rows are output."""
    return surviving_rows(sequence) if sequence.read is None else min(sequence.read, surviving_rows(sequence))


def _ints(shape: GraphShape) -> int:
    return shape.batch * (shape.entering + 1 + shape.surviving)


def _hook_rows(sizes: BufferSizes, batch: int) -> tuple[int, int, int, int]:
    return sizes.layers, batch, sizes.hook_rows, sizes.width


def _shaped(flat: Tensor, *shape: int) -> Tensor:
    return flat[: prod(shape)].view(shape)
