"""Buffers: where a recorded pass finds its rows and leaves what it computed, at the same addresses every time.

Knows forms and strands; no layer. Every form uses the same memory: one pass runs at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from stillframe.models.graphs.shapes import Form
from stillframe.models.llama.sequence import Strand


@dataclass(frozen=True)
class Sizes:
    """What buffers are made for."""

    width: int
    layers: int
    scratch: int  # position at which padding is written: the last of a slot's, which no sequence reaches
    listens: int  # rows at a prompt's end, as they enter each layer, that a tap can ask for
    dtype: torch.dtype
    device: torch.device


class Shared:
    """The memory of all forms' buffers, as much as the largest needs."""

    def __init__(self, sizes: Sizes, forms: Sequence[Form]):
        self.sizes = sizes
        self._rows = self._room(max(form.batch * form.entering for form in forms) * sizes.width)
        self._hidden = self._room(max(form.batch * form.reading for form in forms) * sizes.width)
        self._ints = torch.zeros(max(map(_ints, forms)), dtype=torch.long, device=sizes.device)
        self._heard = self._room(prod(_heard(sizes, max(form.batch for form in forms))))

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return sum(held.nbytes for held in (self._rows, self._hidden, self._ints, self._heard))

    def of(self, form: Form) -> Buffers:
        """One form's buffers: views."""
        sizes, ints = self.sizes, self._ints[: _ints(form)]
        return Buffers(
            form=form,
            sizes=sizes,
            rows=_shaped(self._rows, form.batch, form.entering, sizes.width),
            hidden=_shaped(self._hidden, form.batch, form.reading, sizes.width),
            heard=_shaped(self._heard, *_heard(sizes, form.batch)),
            ints=ints,
            at=_shaped(ints, form.batch, form.entering),
            slots=ints[form.batch * form.entering :][: form.batch],
            on=_shaped(ints[form.batch * (form.entering + 1) :], form.batch, form.going),
        )

    def _room(self, elements: int) -> Tensor:
        return torch.zeros(elements, dtype=self.sizes.dtype, device=self.sizes.device)


@dataclass(frozen=True)
class Buffers:
    """One form's. Strands lie at the end of their room, in the first of the batch's places."""

    form: Form
    sizes: Sizes
    rows: Tensor  # [batch, entering, width]
    hidden: Tensor  # [batch, reading, width]: what comes out
    heard: Tensor  # [layers, batch, listens, width]: the last rows that enter each layer
    ints: Tensor  # the three below, one behind the other
    at: Tensor  # [batch, entering] position of each row, `scratch` for padding
    slots: Tensor  # [batch] of the pool
    on: Tensor  # [batch, going] indices into all rows that enter, of those that go on

    def fill(self, strands: Sequence[Strand], slots: Sequence[int]) -> None:
        """Put strands in. What earlier ones left in the padding is computed on, and looked at by nobody."""
        self.ints.copy_(torch.from_numpy(self._places(strands, slots)), non_blocking=True)
        for own, strand in zip(self.rows, strands, strict=False):
            own[-len(strand.rows) :].copy_(strand.rows)
        for place, strand in enumerate(strands):
            kept = strand.kept.get(0)
            if kept is not None:
                first = (place + 1) * self.form.entering - len(strand.rows)
                torch.add(kept.to(self.on.device), first, out=self.on[place, self.form.going - len(kept) :])

    def results(self, strands: Sequence[Strand]) -> list[Tensor]:
        """Of each strand the rows that are read, and no longer the buffer's. Taps hear what they came for."""
        for place, strand in enumerate(strands):
            if strand.tap is not None and strand.listens is not None:
                for layer, rows in enumerate(self.heard[:, place]):
                    strand.tap(layer, rows[len(rows) - strand.listens :])
        return [own[-reading(strand) :].clone() for own, strand in zip(self.hidden, strands, strict=False)]

    def _places(self, strands: Sequence[Strand], slots: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """`ints`, but for what only the device knows: which rows a plan keeps. A row that nobody filled is padding."""
        form = self.form
        at = np.full((form.batch, form.entering), self.sizes.scratch)
        on = np.repeat(np.arange(form.batch)[:, None] * form.entering, form.going, axis=1)
        for place, strand in enumerate(strands):
            at[place, -len(strand.rows) :] = range(strand.first, strand.stop)
            if 0 not in strand.kept:
                stop = (place + 1) * form.entering
                on[place, -len(strand.rows) :] = range(stop - len(strand.rows), stop)
        used = np.zeros(form.batch, np.int64)
        used[: len(slots)] = slots
        return np.concatenate((at.ravel(), used, on.ravel()))


def going(strand: Strand) -> int:
    """How many of its rows go on after the first layer."""
    return len(strand.kept[0]) if 0 in strand.kept else len(strand.rows)


def reading(strand: Strand) -> int:
    """How many of its rows come out."""
    return going(strand) if strand.read is None else min(strand.read, going(strand))


def _ints(form: Form) -> int:
    return form.batch * (form.entering + 1 + form.going)


def _heard(sizes: Sizes, batch: int) -> tuple[int, int, int, int]:
    return sizes.layers, batch, sizes.listens, sizes.width


def _shaped(flat: Tensor, *shape: int) -> Tensor:
    return flat[: prod(shape)].view(shape)
