"""Scaled dot-product attention, for towers and decoders alike.

Knows heads and masks; no positions, no cache.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, grouped: bool = False
) -> Tensor:
    """Mix values: [..., heads, rows, head_dim] with or without a batch dimension -> the queries' shape.

    `mask` [rows, keys] is True where a row may look, or `added`. `grouped`: fewer key than query heads.
    """
    if queries.requires_grad and queries.device.type == "cpu" and not grouped:
        return _by_products(queries, keys, values, mask)
    if queries.dim() == 3:
        return attend(queries[None], keys[None], values[None], mask, grouped=grouped)[0]
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=grouped)


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as what is added to scores: the kernel makes this of every mask, so make it once for all layers."""
    if mask.is_floating_point():
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)


def _by_products(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Mix the same by plain products, for training on a CPU.

    torch 2.13's fused kernel has a backward pass in bf16 that is 3 to 5 times slower than this
    (16 x 2 heads x 261 x 32: 32 against 12 ms forward and backward, one thread).
    """
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    if mask is not None:
        scores = scores + added(mask, scores.dtype)
    return torch.softmax(scores, dim=-1, dtype=scores.dtype) @ values
