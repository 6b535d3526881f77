"""Task relevance: the attention to each patch of those rows that say what matters, and its entropy, layer by layer.

Knows queries, keys and positions; no model. Needs only these rows: no attention map is materialised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Relevance:
    """What the rows that say what matters attended to in one pass."""

    scores: Tensor  # [patch tokens]: attention to them, mean over rows, heads and the chosen layers
    entropies: Tensor  # [layers looked at]: of that attention over the patches, nats; low where it is sharp

    @classmethod
    def of(cls, attentions: Mapping[int, Tensor], chosen: Sequence[int]) -> Relevance:
        """Average layer -> `attention_to_patches`, in order of layers; scores are those of the `chosen` (none: all)."""
        picked = [attentions[layer] for layer in chosen or attentions]
        scores = torch.stack([attention.mean(dim=0) for attention in picked]).mean(dim=0)
        return cls(scores, torch.stack([_entropy(attention) for attention in attentions.values()]))


def attention_to_patches(queries: Tensor, keys: Tensor, positions: Tensor | None, patches: range) -> Tensor:
    """Attention of some rows to the patches in one layer, mean over heads: [rows, patch tokens].

    `queries` [heads, rows, head_dim]; `keys` [kv_heads, tokens, head_dim] from position 0 on; `patches` are positions.
    `positions` [rows] of queries that see no later key; None: they see all.
    """
    heads, _, dim = queries.shape
    keys = keys.repeat_interleave(heads // len(keys), dim=0) if heads != len(keys) else keys
    scores = (queries @ keys.transpose(-1, -2)).float() * dim**-0.5
    if positions is not None:
        scores = scores.masked_fill(torch.arange(keys.shape[1], device=keys.device) > positions[:, None], -torch.inf)
    attention = scores.softmax(dim=-1)
    seen: Tensor = attention.mean(dim=0)[:, patches.start : patches.stop]
    return seen


def _entropy(attention: Tensor) -> Tensor:
    """Mean over rows of the entropy of each row's attention, taken over the patches alone."""
    shares = attention / attention.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(attention.dtype).tiny)
    entropy: Tensor = torch.special.entr(shares).sum(dim=-1).mean()
    return entropy
