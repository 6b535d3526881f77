"""What matters for the task: how much the text looks at each patch, and how sharply, layer by layer.

Knows queries, keys and positions; no model. Needs only the text's rows, so no attention map is ever made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Relevance:
    """What one pass's text rows looked at."""

    scores: Tensor  # [patch tokens]: attention from the text, mean over rows, heads and the chosen layers
    entropies: Tensor  # [layers looked at]: of the text's attention over the patches, nats; low where it is sharp

    @classmethod
    def of(cls, looks: Mapping[int, Tensor], chosen: Sequence[int]) -> Relevance:
        """Sum up layer -> `look`, in the order of the layers; the scores are those of the `chosen` ones (none: all)."""
        picked = [looks[layer] for layer in chosen or looks]
        scores = torch.stack([look.mean(dim=0) for look in picked]).mean(dim=0)
        return cls(scores, torch.stack([_entropy(look) for look in looks.values()]))


def look(queries: Tensor, keys: Tensor, positions: Tensor, patches: range) -> Tensor:
    """Attention of some rows to the patches in one layer, mean over heads: [rows, patch tokens].

    `queries` [heads, rows, head_dim] at `positions` [rows]; `keys` [kv_heads, tokens, head_dim] from position 0 on;
    `patches` are positions. Causal, as the decoder is.
    """
    heads, _, dim = queries.shape
    keys = keys.repeat_interleave(heads // len(keys), dim=0) if heads != len(keys) else keys
    scores = (queries @ keys.transpose(-1, -2)).float() * dim**-0.5
    later = torch.arange(keys.shape[1], device=keys.device) > positions[:, None]
    attention = scores.masked_fill(later, -torch.inf).softmax(dim=-1)
    seen: Tensor = attention.mean(dim=0)[:, patches.start : patches.stop]
    return seen


def _entropy(look: Tensor) -> Tensor:
    """Mean over rows of the entropy of each row's attention, taken over the patches alone."""
    shares = look / look.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(look.dtype).tiny)
    entropy: Tensor = torch.special.entr(shares).sum(dim=-1).mean()
    return entropy
