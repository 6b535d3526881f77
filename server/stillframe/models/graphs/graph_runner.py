"""Replayer: a DecoderRunner's graphs: replays what was recorded, where a pass has one of the recorded forms.

Knows strands, forms and the pool; no session. What it replays gives the eager pass's numbers, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from stillframe.domain import PassCounts
from stillframe.models.graphs.buffers import Buffers, Shared, Sizes, going, reading
from stillframe.models.graphs.padded_attention import Ranks
from stillframe.models.graphs.shapes import Extent, Form, Group, grouped
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.sequence import Strand
from stillframe.reuse.kv import KVPool

Compute = Callable[[], None]
Capture = Callable[[Compute], Compute]  # from what computes into static buffers to what does so again


class Replayer:
    """One decoder's recorded passes, over one pool. For whoever runs the decoder, one thread at a time."""

    def __init__(
        self,
        decoder: Decoder,
        pool: KVPool,
        forms: Sequence[Form],
        capture: Capture,
        *,
        listens: int,
        counts: PassCounts,
    ):
        """Record every form, in the order given. `listens`: rows at a prompt's end that taps may ask for."""
        weight = decoder.model.norm.weight
        sizes = Sizes(
            decoder.config.hidden_size, pool.shape.layers, pool.shape.capacity, listens, weight.dtype, weight.device
        )
        self.counts = counts
        self._pool = pool
        self._listens = listens
        self._shared = Shared(sizes, forms)
        self._buffers = {form: self._shared.of(form) for form in forms}
        self._storage = pool.storage
        with torch.inference_mode():
            self._replays = {form: capture(self._filled(decoder, own)) for form, own in self._buffers.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return self._shared.nbytes

    def replay(self, strands: Sequence[Strand]) -> list[Tensor] | None:
        """What an eager pass gives; None where the pass has to be run eagerly, which is counted with the reason."""
        reason = next(filter(None, map(self._reason, strands)), None)
        groups = None if reason else grouped([*self._replays], [_extent(strand) for strand in strands])
        if groups is None:
            self.counts.ran(reason or "rows")
            return None
        results = {
            at: own for group in groups for at, own in zip(group.strands, self._replay(group, strands), strict=True)
        }
        return [results[at] for at in range(len(strands))]

    def _filled(self, decoder: Decoder, buffers: Buffers) -> Compute:
        """What is recorded, over buffers in which for now there is nothing but padding."""
        buffers.fill((), ())
        return partial(_compute, decoder, buffers, self._storage)

    def _replay(self, group: Group, strands: Sequence[Strand]) -> list[Tensor]:
        own, buffers = [strands[at] for at in group.strands], self._buffers[group.form]
        slots = [self._pool.slot_of(strand.kv) for strand in own]
        buffers.fill(
            own, [slot for slot in slots if slot is not None]
        )  # none is: who is not of the pool is run eagerly
        self._replays[group.form]()
        self.counts.replays += 1
        return buffers.results(own)

    def _reason(self, strand: Strand) -> str | None:
        """Why a strand cannot be replayed, whatever its length."""
        if self._pool.slot_of(strand.kv) is None:
            return "storage"
        if strand.kv.is_guarded:
            return "guarded"
        if strand.history is not None:
            return "history"
        if strand.kept.keys() - {0}:
            return "layers"
        heard = 0 if strand.tap is None else strand.listens
        return None if heard is not None and heard <= min(self._listens, going(strand)) else "tap"


def _compute(decoder: Decoder, buffers: Buffers, storage: Tensor) -> None:
    """What is recorded."""
    hidden = decoder.model(buffers.rows.flatten(0, 1), Ranks(buffers, storage))
    buffers.hidden.copy_(hidden.view(buffers.hidden.shape))


def _extent(strand: Strand) -> Extent:
    return Extent(len(strand.rows), going(strand), reading(strand), strand.tap is not None)
