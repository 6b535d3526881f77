"""HistoryKV: keys and values of older frames that a pass attends to; and a frame's own image tokens before rotation.

Knows a decoder, its cache and columns; not which frames are kept, and why.

Only the text's and the action's rows attend to columns. Image rows never do: their keys and values are the frame's
alone, so they may be reused, and are pooled once for good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stillframe.history.columns import Columns
from stillframe.models.llama.attention import attend
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.layout import TokenLayout
from stillframe.models.llama.rotary import Rotary
from stillframe.reuse.kv import FrameKV

WeightsHook = Callable[[int, Tensor], None]  # called with (layer, weights [heads, rows, slots]) in each layer


@dataclass(frozen=True)
class HistoryKV:
    """Columns of older frames, rotated to the positions at which they are attended to."""

    keys: Tensor  # [layers, kv_heads, slots, head_dim]
    values: Tensor  # [layers, kv_heads, slots, head_dim]
    bias: Tensor  # [slots], -inf where a slot is empty
    first: int  # position from which on rows attend to them
    weights_hook: WeightsHook | None = None

    @classmethod
    def of(
        cls, decoder: Decoder, columns: Columns, layout: TokenLayout, weights_hook: WeightsHook | None = None
    ) -> HistoryKV:
        """Ranks are positions: 0 for the oldest frame that is there, so that they stay in range in any episode."""
        last = decoder.config.max_position_embeddings - 1
        rotary = decoder.model.rotary(columns.ranks.clamp(max=last), columns.keys.dtype)
        keys, bias = rotary.apply(columns.keys), columns.bias.to(columns.keys.dtype)
        return cls(keys, columns.values, bias, layout.text.start, weights_hook)

    def without_hook(self) -> HistoryKV:
        """The same, for passes whose attention weights are not needed."""
        return replace(self, weights_hook=None)


def attend_with_history(
    history: HistoryKV, layer: int, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor
) -> Tensor:
    """Attend to older frames and to the frame's own keys: [heads, rows, head_dim], in the queries' shape.

    `keys` and `values` [kv_heads, keys, head_dim] are the frame's own; `mask` [rows, keys] is `added`.
    """
    every = torch.cat((history.keys[layer], keys), dim=1)
    mask = torch.cat((history.bias.expand(len(mask), -1), mask), dim=1)
    if history.weights_hook is not None:
        shared = queries.shape[0] // every.shape[0]
        scores = queries @ every.repeat_interleave(shared, dim=0).transpose(1, 2) * queries.shape[-1] ** -0.5
        history.weights_hook(layer, torch.softmax(scores + mask, dim=-1)[..., : len(history.bias)])
    return attend(queries, every, torch.cat((history.values[layer], values), dim=1), mask)


def image_tokens(decoder: Decoder, kv: FrameKV, layout: TokenLayout) -> tuple[Tensor, Tensor]:
    """A frame's keys before rotation and its values [layers, kv_heads, patches, head_dim], out of its cache."""
    patches = layout.patch_positions
    keys, values = kv.rows(patches.start, patches.stop)
    positions = torch.arange(patches.start, patches.stop, device=kv.device)
    rotary = decoder.model.rotary(positions, keys.dtype)
    return Rotary(rotary.cos, -rotary.sin).apply(keys), values
