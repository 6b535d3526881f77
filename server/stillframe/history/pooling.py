"""Attention pooling: a chunk of image tokens becomes a few slots; untrained it is the mean.

Knows keys and values of layers; not which frame they are of.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Pooled:
    """The pooled chunks of one frame."""

    keys: Tensor  # [chunks, layers, kv_heads, slots a chunk, head_dim], before rotation
    values: Tensor  # [chunks, layers, kv_heads, slots a chunk, head_dim]

    def __len__(self) -> int:
        return len(self.keys)


class Pooling(nn.Module):
    """softmax(K q) over a chunk, one learnt q for each layer, head and slot; the same weights for keys and values."""

    def __init__(self, layers: int, kv_heads: int, head_dim: int, slots: int):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(layers, kv_heads, slots, head_dim))

    @property
    def slots(self) -> int:
        """Slots of a chunk."""
        return self.query.shape[2]

    def forward(self, keys: Tensor, values: Tensor, layer: int | None = None) -> tuple[Tensor, Tensor]:
        """[..., layers, kv_heads, tokens, head_dim] each -> [..., layers, kv_heads, slots, head_dim] each.

        With `layer`, of that layer alone, without the layers dimension. A chunk of one token is that token.
        """
        query = self.query if layer is None else self.query[layer]
        weights = torch.softmax(query @ keys.transpose(-2, -1), dim=-1)  # [..., slots, tokens]
        return weights @ keys, weights @ values

    def frame(self, keys: Tensor, values: Tensor, chunk_tokens: int) -> Pooled:
        """One frame's image tokens [layers, kv_heads, tokens, head_dim] -> its chunks, in the tokens' order."""
        chunked = (_chunks(part, chunk_tokens) for part in (keys, values))
        return Pooled(*self(*chunked))


def _chunks(tokens: Tensor, each: int) -> Tensor:
    """[layers, kv_heads, tokens, head_dim] -> [chunks, layers, kv_heads, each, head_dim]."""
    if tokens.shape[2] % each:
        raise ValueError(f"{tokens.shape[2]} tokens are not chunks of {each}")
    layers, heads, count, width = tokens.shape
    return tokens.reshape(layers, heads, count // each, each, width).permute(2, 0, 1, 3, 4)
