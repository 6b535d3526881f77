"""CudaGraphRunner: the graphs of a DecoderRunner. Replays a pass whose shape was captured.

Knows sequences, shapes and the pool; no session. A replay gives the eager pass's numbers, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from stillframe.domain import PassCounts
from stillframe.models.graphs.buffers import Buffers, BufferSizes, SharedBuffers, output_rows, surviving_rows
from stillframe.models.graphs.padded_attention import PaddedAttention
from stillframe.models.graphs.shapes import GraphBatch, GraphShape, RowCounts, assign_shapes
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.layout import Mask
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.reuse.kv import KVPool

Compute = Callable[[], None]
Capture = Callable[[Compute], Compute]  # from what computes into static buffers to what replays it


class CudaGraphRunner:
    """One decoder's captured passes, over one pool. One thread at a time."""

    def __init__(
        self,
        decoder: Decoder,
        pool: KVPool,
        shapes: Sequence[GraphShape],
        capture: Capture,
        *,
        hook_rows: int,
        counts: PassCounts,
        mask: Mask = Mask.CAUSAL,
    ):
        """Capture every shape, in the order given. `hook_rows`: rows at a prompt's end that layer hooks may ask for."""
        weight = decoder.model.embed_tokens.weight
        sizes = BufferSizes(
            decoder.config.hidden_size, pool.shape.layers, pool.shape.capacity, hook_rows, weight.dtype, weight.device
        )
        self.counts = counts
        self._mask = mask
        self._pool = pool
        self._hook_rows = hook_rows
        self._shared = SharedBuffers(sizes, shapes)
        self._buffers = {shape: self._shared.buffers(shape) for shape in shapes}
        self._storage = pool.storage
        with torch.inference_mode():
            self._replays = {shape: capture(self._computation(decoder, own)) for shape, own in self._buffers.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return self._shared.nbytes

    def replay(self, sequences: Sequence[SequenceSlice]) -> list[Tensor] | None:
        """The results of the pass; None where it has to be run eagerly, which is counted with the reason."""
        reason = next(filter(None, map(self._reason, sequences)), None)
        batches = None if reason else assign_shapes([*self._replays], [_row_counts(sequence) for sequence in sequences])
        if batches is None:
            self.counts.ran(reason or "rows")
            return None
        results: dict[int, Tensor] = {}
        for batch in batches:
            results |= zip(batch.sequences, self._replay(batch, sequences), strict=True)
        return [results[index] for index in range(len(sequences))]

    def _computation(self, decoder: Decoder, buffers: Buffers) -> Compute:
        """What is captured, over buffers that hold only padding as yet."""
        buffers.fill((), ())
        return partial(_compute, decoder, buffers, self._storage, self._mask)

    def _replay(self, batch: GraphBatch, sequences: Sequence[SequenceSlice]) -> list[Tensor]:
        own, buffers = [sequences[index] for index in batch.sequences], self._buffers[batch.shape]
        slots = [self._pool.slot_of(sequence.kv) for sequence in own]
        buffers.fill(own, [slot for slot in slots if slot is not None])  # none is None: see _reason
        self._replays[batch.shape]()
        self.counts.replays += 1
        return buffers.results(own)

    def _reason(self, sequence: SequenceSlice) -> str | None:
        """Why a sequence cannot be replayed, whatever its length."""
        if sequence.pruning is not None or sequence.kv.is_pruned:
            return "pruned"
        if self._pool.slot_of(sequence.kv) is None:
            return "storage"
        if sequence.mask is not self._mask:
            return "mask"
        if sequence.history is not None:
            return "history"
        if sequence.kept.keys() - {0}:
            return "layers"
        needed = 0 if sequence.hook is None else sequence.hook_rows
        return None if needed is not None and needed <= min(self._hook_rows, surviving_rows(sequence)) else "tap"


def _compute(decoder: Decoder, buffers: Buffers, storage: Tensor, mask: Mask) -> None:
    """What is captured."""
    hidden = decoder.model(buffers.rows.flatten(0, 1), PaddedAttention(buffers, storage, mask))
    buffers.hidden.copy_(hidden.view(buffers.hidden.shape))


def _row_counts(sequence: SequenceSlice) -> RowCounts:
    return RowCounts(len(sequence.rows), surviving_rows(sequence), output_rows(sequence), sequence.hook is not None)
