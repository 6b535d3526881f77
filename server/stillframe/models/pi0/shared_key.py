"""SharedKeyAttention: the expert's, all of whose heads attend to one key and value, as every Gemma of a pi0 does.

Knows rows and angles; what they attend to is the backend's. No row is dropped, so queries, keys and values come of one
product, and the first two are rotated together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillframe.models.llama.attention_backend import AttentionBackend
from stillframe.models.llama.rotary import Rotary
from stillframe.models.llama.weight_packing import fuse
from stillframe.models.pi0.gemma import GemmaConfig


class SharedKeyAttention(nn.Module):
    """Self-attention under the names that checkpoints use. `qkv_proj`, where it is set, is the first three fused."""

    def __init__(self, config: GemmaConfig):
        super().__init__()
        self.qkv_proj: nn.Module | None = None
        self.head_dim = config.head_dim
        width, heads_width = config.hidden_size, config.num_attention_heads * config.head_dim
        self.q_proj = nn.Linear(width, heads_width, bias=False)
        self.k_proj = nn.Linear(width, config.head_dim, bias=False)
        self.v_proj = nn.Linear(width, config.head_dim, bias=False)
        self.o_proj = nn.Linear(heads_width, width, bias=False)

    def forward(self, rows: Tensor, layer: int, rotary: Rotary, backend: AttentionBackend) -> Tensor:
        """[robots, rows, width] -> the same."""
        heads = self._projected(rows).view(*rows.shape[:-1], -1, self.head_dim).transpose(-3, -2)
        turned = rotary.apply(heads[..., :-1, :, :])
        mixed = backend.attend(layer, turned[..., :-1, :, :], turned[..., -1:, :, :], heads[..., -1:, :, :])
        out: Tensor = self.o_proj(mixed.transpose(-3, -2).flatten(-2))
        return out

    def fuse(self) -> None:
        """Make one product of three. Irreversible."""
        fuse(self, "qkv_proj", "q_proj", "k_proj", "v_proj")

    def _projected(self, rows: Tensor) -> Tensor:
        """Queries of every head, the key, the value: [robots, rows, (heads + 2) * head_dim]."""
        if self.qkv_proj is None:
            return torch.cat((self.q_proj(rows), self.k_proj(rows), self.v_proj(rows)), dim=-1)
        out: Tensor = self.qkv_proj(rows)
        return out
