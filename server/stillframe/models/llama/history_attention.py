"""Recall: older frames as a pass looks at them; and a frame's image tokens as they are before rotation.

Knows a decoder, its cache and columns; not which frames are kept, and why.

Only the text's and the action's rows look at columns. Image rows never do: what a frame's image leaves in the cache is
the frame's alone, so it may be reused, and is pooled once for good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stillframe.history.columns import Columns
from stillframe.models.llama.attention import attend
from stillframe.models.llama.decoder import Decoder, Rotary
from stillframe.models.llama.layout import TokenLayout
from stillframe.reuse.kv import FrameKV

Watch = Callable[[int, Tensor], None]  # called with (layer, weights [heads, rows that look, slots]) in each layer


@dataclass(frozen=True)
class Recall:
    """Columns of older frames, turned to the places at which they are looked at."""

    keys: Tensor  # [layers, kv_heads, slots, head_dim]
    values: Tensor  # [layers, kv_heads, slots, head_dim]
    bias: Tensor  # [slots], -inf where a slot is empty
    first: int  # position from which on rows look
    watch: Watch | None = None

    @classmethod
    def of(cls, decoder: Decoder, columns: Columns, layout: TokenLayout, watch: Watch | None = None) -> Recall:
        """Ranks are positions: 0 for the oldest frame that is there, so that they stay in range in any episode."""
        last = decoder.config.max_position_embeddings - 1
        rotary = decoder.model.rotary(columns.ranks.clamp(max=last), columns.keys.dtype)
        keys, bias = rotary.turn(columns.keys), columns.bias.to(columns.keys.dtype)
        return cls(keys, columns.values, bias, layout.text.start, watch)

    def unwatched(self) -> Recall:
        """The same, for passes of which nobody asks where they look."""
        return replace(self, watch=None)


def recalled(history: Recall, layer: int, queries: Tensor, keys: Tensor, values: Tensor, looks: Tensor) -> Tensor:
    """What rows find in older frames and in their own: [heads, rows, head_dim], in the queries' shape.

    `keys` and `values` [kv_heads, keys, head_dim] are the frame's own; `looks` [rows, keys] is `added`.
    """
    every = torch.cat((history.keys[layer], keys), dim=1)
    mask = torch.cat((history.bias.expand(len(looks), -1), looks), dim=1)
    if history.watch is not None:
        shared = queries.shape[0] // every.shape[0]
        scores = queries @ every.repeat_interleave(shared, dim=0).transpose(1, 2) * queries.shape[-1] ** -0.5
        history.watch(layer, torch.softmax(scores + mask, dim=-1)[..., : len(history.bias)])
    return attend(queries, every, torch.cat((history.values[layer], values), dim=1), mask)


def image_tokens(decoder: Decoder, kv: FrameKV, layout: TokenLayout) -> tuple[Tensor, Tensor]:
    """A frame's keys before rotation and its values [layers, kv_heads, patches, head_dim], out of its cache."""
    patches = layout.patch_positions
    keys, values = kv.rows(patches.start, patches.stop)
    positions = torch.arange(patches.start, patches.stop, device=kv.device)
    turned = decoder.model.rotary(positions, keys.dtype)
    return Rotary(turned.cos, -turned.sin).turn(keys), values
