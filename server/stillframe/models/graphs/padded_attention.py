"""Ranks: the Places of a recorded pass. Strands of one length stand side by side, and nothing waits for the host.

Knows the KV pool's tensor and positions; no plan, no session.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stillframe.models.graphs.buffers import Buffers
from stillframe.models.graphs.shapes import ALIGNED
from stillframe.models.llama.attention import added


class Ranks:
    """One pass over what lies in `buffers`, into the slots that these name. Made anew for each, of tensors alone."""

    def __init__(self, buffers: Buffers, storage: Tensor):
        """`storage` [slots, 2, layers, kv_heads, capacity + 1, head_dim]: the last position is scratch."""
        self._buffers = buffers
        self._storage = storage
        self._last = storage.shape[2] - 1
        self._entering = self._going = buffers.at  # [batch, rows] positions to write at
        reached = self._seen(buffers.at).amax(dim=1)
        keys = torch.arange(storage.shape[-2], device=storage.device)
        self._stale = (keys > reached[:, None])[:, None, None, :, None]  # what nobody in this strand looks at
        self._looks = torch.empty(0)

    @property
    def positions(self) -> Tensor:
        """Of all rows that enter, one strand behind the other; padding says 0, and looks at what lies there."""
        return self._seen(self._buffers.at).flatten()

    def going_on(self, layer: int) -> Tensor | None:
        """Those of the plan after the first layer, those that are read out of the last."""
        form, self._entering = self._buffers.form, self._going
        on = self._buffers.on if layer == 0 and form.thins else None
        if layer == self._last and form.reading < (form.going if on is None else on.shape[1]):
            every = torch.arange(self._entering.numel(), device=self._entering.device).view(self._entering.shape)
            on = (every if on is None else on)[:, -form.reading :]
        if on is not None:
            self._going = self._entering.flatten()[on]
        if on is not None or layer == 0:
            self._looks = self._mask(self._going)
        return None if on is None else on.flatten()

    def mix(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Write into the slots, then look at a copy of them.

        What lies behind a strand's rows was written by whoever had the slot before and may not be finite: NaN times a
        weight of nought is NaN.
        """
        held, slots = self._storage[:, :, layer], self._buffers.slots
        for half, fresh in enumerate((keys, values)):
            by_position = held[:, half].transpose(1, 2)
            by_position[slots[:, None], self._entering] = self._ranked(fresh).transpose(1, 2)
        seen = held.index_select(0, slots).masked_fill_(self._stale, 0)
        shared = queries.shape[0] // keys.shape[0]
        seen = seen if shared == 1 else seen.repeat_interleave(shared, dim=2)
        mixed = functional.scaled_dot_product_attention(
            self._ranked(queries), seen[:, 0], seen[:, 1], attn_mask=self._looks
        )
        return mixed.transpose(0, 1).flatten(1, 2)

    def saw(self, layers: int, rows: Tensor) -> None:
        """Keep each strand's last rows, for taps."""
        buffers = self._buffers
        if not buffers.form.thins or layers > self._last:
            return
        ranked = rows.view(buffers.form.batch, -1, rows.shape[-1])
        most = min(ranked.shape[1], buffers.heard.shape[2])
        buffers.heard[layers, :, buffers.heard.shape[2] - most :].copy_(ranked[:, ranked.shape[1] - most :])

    def _seen(self, at: Tensor) -> Tensor:
        """Positions from which rows look: padding's is the first, where there is always something."""
        return at.masked_fill(at == self._buffers.sizes.scratch, 0)

    def _mask(self, at: Tensor) -> Tensor:
        """[batch, 1, rows, positions], `added`: a row looks at no later position."""
        keys = self._storage.shape[-2]
        every = torch.arange(-(-keys // ALIGNED) * ALIGNED, device=at.device)
        return added(every <= self._seen(at)[:, None, :, None], self._storage.dtype)[..., :keys]

    def _ranked(self, heads: Tensor) -> Tensor:
        """[heads, all rows, head_dim] -> [batch, heads, rows, head_dim]."""
        return heads.view(len(heads), self._buffers.form.batch, -1, heads.shape[-1]).transpose(0, 1)
