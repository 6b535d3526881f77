"""PaddedAttention: the attention of a captured pass: a batch of sequences padded to one length, with no host sync.

Knows the KV pool's tensor and positions; no plan, no session.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stillframe.models.graphs.buffers import Buffers
from stillframe.models.graphs.shapes import ALIGNED
from stillframe.models.llama.attention import added
from stillframe.models.llama.layout import Mask


class PaddedAttention:
    """The `AttentionBackend` of one pass over `buffers`, into the slots that these name; of tensors alone."""

    def __init__(self, buffers: Buffers, storage: Tensor, mask: Mask = Mask.CAUSAL):
        """`storage` [slots, 2, layers, kv_heads, capacity + 1, head_dim]: the last position is scratch."""
        self._buffers = buffers
        self._storage = storage
        self._last = storage.shape[2] - 1
        self._entering = self._surviving = buffers.at  # [batch, rows] positions to write at
        self._mask = mask
        self._reached = self._mask_positions(buffers.at).amax(dim=1)
        keys = torch.arange(storage.shape[-2], device=storage.device)
        self._stale = (keys > self._reached[:, None])[
            :, None, None, :, None
        ]  # keys that no row of this sequence attends to
        self._attention_mask = torch.empty(0)

    @property
    def positions(self) -> Tensor:
        """Of all rows that enter, one sequence behind the other; padding has position 0, and attends to it."""
        return self._mask_positions(self._buffers.at).flatten()

    def surviving_rows(self, layer: int) -> Tensor | None:
        """After the first layer those that the plan keeps, after the last the output rows."""
        shape, self._entering = self._buffers.shape, self._surviving
        keep = self._buffers.keep if layer == 0 and shape.drops_rows else None
        if layer == self._last and shape.outputs < (shape.surviving if keep is None else keep.shape[1]):
            every = torch.arange(self._entering.numel(), device=self._entering.device).view(self._entering.shape)
            keep = (every if keep is None else keep)[:, -shape.outputs :]
        if keep is not None:
            self._surviving = self._entering.flatten()[keep]
        if keep is not None or layer == 0:
            self._attention_mask = self._masked(self._surviving)
        return None if keep is None else keep.flatten()

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Write into the slots, then attend to a copy of them.

        What lies behind a sequence's rows is an earlier sequence's and may not be finite: NaN times a weight of 0 is
        NaN.
        """
        held, slots = self._storage[:, :, layer], self._buffers.slots
        for half, fresh in enumerate((keys, values)):
            by_position = held[:, half].transpose(1, 2)
            by_position[slots[:, None], self._entering] = self._by_sequence(fresh).transpose(1, 2)
        seen = held.index_select(0, slots).masked_fill_(self._stale, 0)
        shared = queries.shape[0] // keys.shape[0]
        seen = seen if shared == 1 else seen.repeat_interleave(shared, dim=2)
        mixed = functional.scaled_dot_product_attention(
            self._by_sequence(queries), seen[:, 0], seen[:, 1], attn_mask=self._attention_mask
        )
        return mixed.transpose(0, 1).flatten(1, 2)

    def on_layer(self, layers: int, rows: Tensor) -> None:
        """Keep each sequence's last rows, for layer hooks."""
        buffers = self._buffers
        if not buffers.shape.drops_rows or layers > self._last:
            return
        padded = rows.view(buffers.shape.batch, -1, rows.shape[-1])
        most = min(padded.shape[1], buffers.hook_rows.shape[2])
        buffers.hook_rows[layers, :, buffers.hook_rows.shape[2] - most :].copy_(padded[:, padded.shape[1] - most :])

    def _mask_positions(self, at: Tensor) -> Tensor:
        """Positions for the mask: padding's is 0, where there is always a key."""
        return at.masked_fill(at == self._buffers.sizes.scratch, 0)

    def _masked(self, at: Tensor) -> Tensor:
        """[batch, 1, rows, positions], `added`: a row attends to no later position, or to all of its sequence."""
        keys, last = self._storage.shape[-2], self._mask_positions(at)
        if self._mask is Mask.BIDIRECTIONAL:
            last = self._reached[:, None].expand_as(last)
        every = torch.arange(-(-keys // ALIGNED) * ALIGNED, device=at.device)
        return added(every <= last[:, None, :, None], self._storage.dtype)[..., :keys]

    def _by_sequence(self, heads: Tensor) -> Tensor:
        """[heads, all rows, head_dim] -> [batch, heads, rows, head_dim]."""
        return heads.view(len(heads), self._buffers.shape.batch, -1, heads.shape[-1]).transpose(0, 1)
