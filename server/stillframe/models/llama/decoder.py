"""The Llama decoder: rotary attention, RMSNorm, SwiGLU, under the names that checkpoints use.

Knows positions and a place to put keys and values; no prompt, no action, no family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.models.llama.attention import added, attend

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


class Places(Protocol):
    """What the layers ask of one pass: where its rows sit, which of them go on, and what they look at."""

    @property
    def positions(self) -> Tensor:
        """Absolute position of each row that enters the first layer, [rows]."""
        ...

    def going_on(self, layer: int) -> Tensor | None:
        """Indices, into the rows that enter `layer`, of those that go on; None: all. Asked once a layer, in order."""
        ...

    def mix(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What the rows that go on find: [..., heads, rows, head_dim], in the queries' shape.

        Keys and values are those of all rows that enter the layer.
        """
        ...

    def saw(self, layers: int, rows: Tensor) -> None:
        """Take a look at the rows [rows, width], which have gone through so many layers."""
        ...


@dataclass(frozen=True)
class Whole:
    """A pass in which every row sees its own kind, by a mask, and nothing is kept. For training."""

    positions: Tensor  # [rows]
    mask: Tensor | None  # [rows, rows], True where a row may look
    tap: Tap | None = None

    def going_on(self, layer: int) -> Tensor | None:  # noqa: ARG002 (the seam's shape)
        """All."""
        return None

    def mix(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # noqa: ARG002 (the seam's shape)
        """Among themselves."""
        return attend(queries, keys, values, self.mask)

    def saw(self, layers: int, rows: Tensor) -> None:
        """Show the tap."""
        if self.tap is not None:
            self.tap(layers, rows)


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32 whatever the rows' dtype."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, rows: Tensor) -> Tensor:
        """[..., size] -> [..., size]."""
        return functional.rms_norm(rows, (rows.shape[-1],), self.weight, self.eps)


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
    """Grouped-query self-attention; what its rows look at is the pass's business.

    `kv_proj`, where it is set, is k_proj and v_proj in one product: see settling.py.
    """

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.kv_proj: nn.Module | None = None
        self.head_dim = config.head_dim
        width, kv_width = config.hidden_size, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_width, bias=False)
        self.v_proj = nn.Linear(width, kv_width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, rows: Tensor, layer: int, rotary: Rotary, places: Places, on: Tensor | None) -> Tensor:
        """[..., rows, width] -> the same, of the rows `on`."""
        keys, values = (self._heads(part) for part in self.keys_values(rows))
        keys = rotary.turn(keys)
        if on is not None:
            rows, rotary = rows[..., on, :], rotary.of(on)
        mixed = places.mix(layer, self.queries(rows, rotary), keys, values)
        out: Tensor = self.o_proj(mixed.transpose(-3, -2).flatten(-2))
        return out

    def queries(self, rows: Tensor, rotary: Rotary) -> Tensor:
        """What some rows ask for: [..., rows, width] -> [..., heads, rows, head_dim]."""
        return rotary.turn(self._heads(self.q_proj(rows)))

    def keys_values(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """[..., rows, width] -> keys before rotation and values, [..., rows, kv_width] each."""
        if self.kv_proj is None:
            return self.k_proj(rows), self.v_proj(rows)
        keys, values = self.kv_proj(rows).chunk(2, dim=-1)
        return keys, values

    def _heads(self, rows: Tensor) -> Tensor:
        """[..., rows, width] -> [..., heads, rows, head_dim]."""
        return rows.view(*rows.shape[:-1], -1, self.head_dim).transpose(-3, -2)


class SwiGLU(nn.Module):
    """Llama's gated feed-forward. `gate_up_proj`, where it is set, is gate_proj and up_proj in one product."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.gate_up_proj: nn.Module | None = None
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        if self.gate_up_proj is None:
            gate, up = self.gate_proj(rows), self.up_proj(rows)
        else:
            gate, up = self.gate_up_proj(rows).chunk(2, dim=-1)
        out: Tensor = self.down_proj(functional.silu(gate) * up)
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

    def forward(self, rows: Tensor, layer: int, rotary: Rotary, places: Places, on: Tensor | None = None) -> Tensor:
        """[..., rows, width] -> the same, of the rows `on` (None: all); the others leave their keys and values."""
        mixed = self.self_attn(self.input_layernorm(rows), layer, rotary, places, on)
        rows = (rows if on is None else rows[..., on, :]) + mixed
        out: Tensor = rows + self.mlp(self.post_attention_layernorm(rows))
        return out


def _embedding(count: int, width: int) -> nn.Embedding:
    """Draw as nn.Embedding does; on the meta device, where that would load torch's compiler for a second, nothing."""
    weight = torch.empty(count, width)
    return nn.Embedding(count, width, _weight=weight if weight.is_meta else nn.init.normal_(weight))


class LlamaModel(nn.Module):
    """Embeddings, layers and the final norm."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = _embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self._angles: dict[tuple[torch.dtype, torch.device], Rotary] = {}
        self._looks: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self._positions: dict[torch.device, Tensor] = {}

    def forward(self, rows: Tensor, places: Places) -> Tensor:
        """Run every layer over embedded rows [..., rows, width] -> normed hidden rows, of those that got to the end.

        A row that does not go on writes its keys and values all the same, for these need no more than the row itself,
        and leaves the computation for good: in the layers that follow its keys and values stay as they are, and stay
        visible.
        """
        rotary = self.rotary(places.positions, rows.dtype)
        places.saw(0, rows)
        for index, layer in enumerate(self.layers):
            on = places.going_on(index)
            rows = layer(rows, index, rotary, places, on)
            if on is not None:
                rotary = rotary.of(on)
            places.saw(index + 1, rows)
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
                made = Rotary.at(self._every(positions.device), self.config, dtype)
            self._angles[dtype, positions.device] = made
        return made.of(positions)

    def positions(self, first: int, stop: int, device: torch.device) -> Tensor:
        """[first, ..., stop - 1]: a view of what is made once for a device."""
        made = self._positions.get(device)
        if made is None or len(made) < stop:
            made = self._positions[device] = torch.arange(_round_up(stop), device=device)
        return made[first:stop]

    def causal(self, first: int, stop: int, keys: int, like: Tensor) -> Tensor:
        """[stop - first, keys], `added`: rows at positions `first` on look at no later key. A view, as above."""
        made = self._looks.get((like.dtype, like.device))
        if made is None or len(made) < keys:
            every = torch.arange(_round_up(keys), device=like.device)
            made = added(every[None, :] <= every[:, None], like.dtype)
            self._looks[like.dtype, like.device] = made
        return made[first:stop, :keys]

    def _every(self, device: torch.device) -> Tensor:
        return torch.arange(self.config.max_position_embeddings, device=device)


class Decoder(nn.Module):
    """A Llama with its output head: `model.*` and `lm_head.*` of a checkpoint."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        self.model = LlamaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.steady = False  # whether a row's numbers are known not to depend on how many rows share a pass

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


def _round_up(length: int) -> int:
    """Of tables that grow: a multiple of 256."""
    return -(-length // 256) * 256
