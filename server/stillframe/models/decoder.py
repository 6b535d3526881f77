"""The Llama decoder: rotary attention, RMSNorm, SwiGLU, under the names that checkpoints use.

Knows positions and a place to put keys and values; no prompt, no action, no family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.models.attention import added, attend

Tap = Callable[[int, Tensor], None]  # called with (layers done, hidden rows) before the first layer and after each


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a Llama decoder; the defaults are LlamaConfig's, which checkpoints leave out."""

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


NO_DROPS: Mapping[int, Tensor] = MappingProxyType({})


class KeyValues(Protocol):
    """Where attention puts this pass's keys and values, and what it may then look at."""

    def write(self, layer: int, positions: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store rows; return all keys and values that queries may see."""
        ...


class OwnRowsOnly:
    """Keeps nothing: a pass sees its own rows. For training, where every pass is whole."""

    def write(self, layer: int, positions: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002 (the seam's shape)
        """Hand the rows straight back."""
        return keys, values


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32 whatever the rows' dtype."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, rows: Tensor) -> Tensor:
        """[..., size] -> [..., size]."""
        wide = rows.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(rows.dtype)


@dataclass(frozen=True)
class Rotary:
    """Cosines and sines of some rows' absolute positions, [rows, head_dim] each."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def at(cls, positions: Tensor, config: DecoderConfig, dtype: torch.dtype) -> Rotary:
        """The angles at `positions` [rows], taken in fp32 and then rounded to `dtype`."""
        exponents = torch.arange(0, config.head_dim, 2, device=positions.device).float() / config.head_dim
        angles = positions[:, None].float() * (1.0 / config.rope_theta**exponents)
        angles = torch.cat((angles, angles), dim=-1)
        return cls(angles.cos().to(dtype), angles.sin().to(dtype))

    def of(self, kept: Tensor) -> Rotary:
        """The angles of some of the rows."""
        return Rotary(self.cos[kept], self.sin[kept])

    def turn(self, heads: Tensor) -> Tensor:
        """Rotate [..., heads, rows, head_dim] by half-rotation, Llama's pairing."""
        first, second = heads.chunk(2, dim=-1)
        return heads * self.cos + torch.cat((-second, first), dim=-1) * self.sin


class Attention(nn.Module):
    """Grouped-query self-attention that writes its keys and values elsewhere."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.head_dim = config.head_dim
        self.grouped = config.num_key_value_heads != config.num_attention_heads
        width, kv_width = config.hidden_size, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_width, bias=False)
        self.v_proj = nn.Linear(width, kv_width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(
        self,
        rows: Tensor,
        layer: int,
        positions: Tensor,
        rotary: Rotary,
        kv: KeyValues,
        mask: Tensor | None,
        on: Tensor | None,
    ) -> Tensor:
        """[..., rows, width] -> the same, of the rows `on`; `mask` [rows, keys] is True where a row may look."""
        keys, values = self._heads(self.k_proj(rows)), self._heads(self.v_proj(rows))
        keys, values = kv.write(layer, positions, rotary.turn(keys), values)
        if on is not None:
            rows, rotary, mask = rows[..., on, :], rotary.of(on), None if mask is None else mask[on]
        mixed = attend(self.queries(rows, rotary), keys, values, mask, grouped=self.grouped)
        mixed = mixed.transpose(-3, -2).flatten(-2)
        out: Tensor = self.o_proj(mixed)
        return out

    def queries(self, rows: Tensor, rotary: Rotary) -> Tensor:
        """What some rows ask for: [..., rows, width] -> [..., heads, rows, head_dim]."""
        return rotary.turn(self._heads(self.q_proj(rows)))

    def _heads(self, rows: Tensor) -> Tensor:
        """[..., rows, width] -> [..., heads, rows, head_dim]."""
        return rows.view(*rows.shape[:-1], -1, self.head_dim).transpose(-3, -2)


class SwiGLU(nn.Module):
    """Llama's gated feed-forward."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(rows)) * self.up_proj(rows))
        return out


class DecoderLayer(nn.Module):
    """Attention, then feed-forward, each normed before and added after."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = SwiGLU(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def queries(self, rows: Tensor, rotary: Rotary) -> Tensor:
        """What rows [..., rows, width] that enter this layer ask for: [..., heads, rows, head_dim]."""
        return self.self_attn.queries(self.input_layernorm(rows), rotary)

    def forward(
        self,
        rows: Tensor,
        layer: int,
        positions: Tensor,
        rotary: Rotary,
        kv: KeyValues,
        mask: Tensor | None,
        on: Tensor | None = None,
    ) -> Tensor:
        """[..., rows, width] -> the same, of the rows `on` (None: all); the others leave their keys and values."""
        mixed = self.self_attn(self.input_layernorm(rows), layer, positions, rotary, kv, mask, on)
        rows = (rows if on is None else rows[..., on, :]) + mixed
        out: Tensor = rows + self.mlp(self.post_attention_layernorm(rows))
        return out


class LlamaModel(nn.Module):
    """Embeddings, layers and the final norm."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self._angles: dict[tuple[torch.dtype, torch.device], Rotary] = {}

    def forward(
        self,
        rows: Tensor,
        positions: Tensor,
        kv: KeyValues,
        mask: Tensor | None,
        tap: Tap | None = None,
        kept: Mapping[int, Tensor] = NO_DROPS,
    ) -> Tensor:
        """Run every layer over embedded rows [..., rows, width] at `positions` [rows] -> normed hidden rows.

        `kept`: layer -> indices of the rows entering it that go on. The others write their keys and values there,
        for these need no more than the row itself, and leave the computation for good: in the layers that follow
        their keys and values in `kv` stay as they are, and stay visible.
        """
        rotary = self.rotary(positions, rows.dtype)
        mask = None if mask is None else added(mask, rows.dtype)
        if tap is not None:
            tap(0, rows)
        for index, layer in enumerate(self.layers):
            on = kept.get(index)
            rows = layer(rows, index, positions, rotary, kv, mask, on)
            if on is not None:
                positions, rotary, mask = positions[on], rotary.of(on), None if mask is None else mask[on]
            if tap is not None:
                tap(index + 1, rows)
        out: Tensor = self.norm(rows)
        return out

    def queries(self, layer: int, rows: Tensor, positions: Tensor) -> Tensor:
        """What rows [rows, width], as they enter `layer`, ask for there: [heads, rows, head_dim]."""
        block = cast("DecoderLayer", self.layers[layer])
        return block.queries(rows, self.rotary(positions, rows.dtype))

    def rotary(self, positions: Tensor, dtype: torch.dtype) -> Rotary:
        """The angles at `positions`, looked up: every position's are made once for a dtype and a device."""
        made = self._angles.get((dtype, positions.device))
        if made is None:
            with torch.inference_mode(mode=False):  # training may look them up later
                every = torch.arange(self.config.max_position_embeddings, device=positions.device)
                made = self._angles[dtype, positions.device] = Rotary.at(every, self.config, dtype)
        return made.of(positions)


class Decoder(nn.Module):
    """A Llama with its output head: `model.*` and `lm_head.*` of a checkpoint."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        self.model = LlamaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @cached_property
    def longest(self) -> float:
        """Norm of the head's longest row, taken once: for weights that stay as they are."""
        return float(self.lm_head.weight.detach().float().norm(dim=-1).max())

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [...] -> rows [..., width]."""
        rows: Tensor = self.model.embed_tokens(ids)
        return rows

    def logits(self, hidden: Tensor) -> Tensor:
        """Normed hidden rows [..., width] -> [..., vocab]."""
        out: Tensor = self.lm_head(hidden)
        return out


def causal_mask(positions: Tensor, keys: int) -> Tensor | None:
    """[rows, keys], True where the key is not later than the row; None for a lone row that may see every key."""
    if len(positions) == 1 and int(positions[0]) == keys - 1:
        return None
    return torch.arange(keys, device=positions.device)[None, :] <= positions[:, None]
