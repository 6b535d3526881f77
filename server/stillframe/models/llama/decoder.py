"""The Llama decoder: rotary attention, RMSNorm, gated feed-forward, under the names that checkpoints use.

Knows positions and attention backends; no prompt, no action, no family.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.domain import WeightScheme
from stillframe.models.llama.attention import added
from stillframe.models.llama.attention_backend import AttentionBackend, RowPruner
from stillframe.models.llama.rotary import Rotary

Activation = Literal["silu", "gelu_tanh"]


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a Llama decoder; the defaults are LlamaConfig's, which checkpoints leave out.

    The properties are what decoders of other makers differ in: a subclass says otherwise.
    """

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

    @property
    def activation(self) -> Activation:
        """Of the feed-forward's gate."""
        return "silu"

    @property
    def embedding_scale(self) -> float:
        """What embeddings of tokens are multiplied by."""
        return 1.0


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32 whatever the rows' dtype. Its weight may be wider than the rows."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, rows: Tensor) -> Tensor:
        """[..., size] -> [..., size]."""
        if self.weight.dtype != rows.dtype:
            return functional.rms_norm(rows.float(), (rows.shape[-1],), self.weight, self.eps).to(rows.dtype)
        return functional.rms_norm(rows, (rows.shape[-1],), self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query self-attention; what its rows attend to is the backend's choice.

    `kv_proj`, where it is set, is k_proj and v_proj fused: see weight_packing.py.
    """

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.kv_proj: nn.Module | None = None
        self.head_dim = config.head_dim
        width, kv_width = config.hidden_size, config.num_key_value_heads * config.head_dim
        q_width = config.num_attention_heads * config.head_dim
        self.q_proj = nn.Linear(width, q_width, bias=False)
        self.k_proj = nn.Linear(width, kv_width, bias=False)
        self.v_proj = nn.Linear(width, kv_width, bias=False)
        self.o_proj = nn.Linear(q_width, width, bias=False)

    def forward(
        self, rows: Tensor, layer: int, rotary: Rotary, backend: AttentionBackend, keep: Tensor | None
    ) -> Tensor:
        """[..., rows, width] -> the same, of the rows `keep` (None: all)."""
        keys, values = (self._heads(part) for part in self.keys_values(rows))
        keys = rotary.apply(keys)
        if keep is not None:
            rows, rotary = rows[..., keep, :], rotary.select(keep)
        mixed = backend.attend(layer, self.queries(rows, rotary), keys, values)
        out: Tensor = self.o_proj(mixed.transpose(-3, -2).flatten(-2))
        return out

    def queries(self, rows: Tensor, rotary: Rotary) -> Tensor:
        """Rotated queries: [..., rows, width] -> [..., heads, rows, head_dim]."""
        return rotary.apply(self._heads(self.q_proj(rows)))

    def keys_values(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """[..., rows, width] -> keys before rotation and values, [..., rows, kv_width] each."""
        if self.kv_proj is None:
            return self.k_proj(rows), self.v_proj(rows)
        keys, values = self.kv_proj(rows).chunk(2, dim=-1)
        return keys, values

    def _heads(self, rows: Tensor) -> Tensor:
        """[..., rows, width] -> [..., heads, rows, head_dim]."""
        return rows.view(*rows.shape[:-1], -1, self.head_dim).transpose(-3, -2)


class GatedMLP(nn.Module):
    """The gated feed-forward: SwiGLU in a Llama. `gate_up_proj`, where it is set, is gate_proj and up_proj fused."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.gate_up_proj: nn.Module | None = None
        self._activate = functional.silu if config.activation == "silu" else _gelu_tanh
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        if self.gate_up_proj is None:
            gate, up = self.gate_proj(rows), self.up_proj(rows)
        else:
            gate, up = self.gate_up_proj(rows).chunk(2, dim=-1)
        out: Tensor = self.down_proj(self._activate(gate) * up)
        return out


class DecoderLayer(nn.Module):
    """Attention, then feed-forward, each normed before and added after."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = GatedMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def queries(self, rows: Tensor, rotary: Rotary) -> Tensor:
        """Queries of rows [..., rows, width] that enter this layer: [..., heads, rows, head_dim]."""
        return self.self_attn.queries(self.input_layernorm(rows), rotary)

    def forward(
        self, rows: Tensor, layer: int, rotary: Rotary, backend: AttentionBackend, keep: Tensor | None = None
    ) -> Tensor:
        """[..., rows, width] -> the same, of the rows `keep` (None: all); the others leave only keys and values."""
        mixed = self.self_attn(self.input_layernorm(rows), layer, rotary, backend, keep)
        rows = (rows if keep is None else rows[..., keep, :]) + mixed
        out: Tensor = rows + self.mlp(self.post_attention_layernorm(rows))
        return out


def _gelu_tanh(rows: Tensor) -> Tensor:
    return functional.gelu(rows, approximate="tanh")


def _embedding(count: int, width: int) -> nn.Embedding:
    """Initialise as nn.Embedding does, but not on the meta device, where that would import torch's compiler (1 s)."""
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
        self._masks: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self._positions: dict[torch.device, Tensor] = {}

    def forward(self, rows: Tensor, backend: AttentionBackend, prune: RowPruner | None = None) -> Tensor:
        """Run every layer over embedded rows [..., rows, width] -> normed hidden rows of those that survive all layers.

        A row that does not survive a layer still writes its keys and values there, for these need no more than the row
        itself, and is dropped for good: in the layers that follow its cached keys and values stay as they are, and stay
        visible to attention. What `prune` takes out behind a layer is not there for the layers that follow; it is
        called before the first as well, as behind layer -1.
        """
        rotary = self.rotary(backend.positions, rows.dtype)
        if prune is not None:
            rows, places = prune(-1, rows)
            rotary = rotary if places is None else rotary.select(places)
        backend.on_layer(0, rows)
        for index, layer in enumerate(self.layers):
            keep = backend.surviving_rows(index)
            rows = layer(rows, index, rotary, backend, keep)
            if keep is not None:
                rotary = rotary.select(keep)
            if prune is not None:
                rows, places = prune(index, rows)
                rotary = rotary if places is None else rotary.select(places)
            backend.on_layer(index + 1, rows)
        out: Tensor = self.norm(rows)
        return out

    def queries(self, layer: int, rows: Tensor, positions: Tensor) -> Tensor:
        """Queries of rows [rows, width] as they enter `layer`: [heads, rows, head_dim]."""
        block = cast("DecoderLayer", self.layers[layer])
        return block.queries(rows, self.rotary(positions, rows.dtype))

    def rotary(self, positions: Tensor, dtype: torch.dtype) -> Rotary:
        """The angles at `positions`, from a table that is made once for a dtype and a device."""
        made = self._angles.get((dtype, positions.device))
        if made is None:
            with torch.inference_mode(mode=False):  # training may look them up later
                made = Rotary.at(
                    self._all_positions(positions.device), self.config.head_dim, self.config.rope_theta, dtype
                )
            self._angles[dtype, positions.device] = made
        return made.select(positions)

    def positions(self, first: int, stop: int, device: torch.device) -> Tensor:
        """[first, ..., stop - 1]: a view of a tensor that is made once for a device."""
        made = self._positions.get(device)
        if made is None or len(made) < stop:
            made = self._positions[device] = torch.arange(_round_up(stop), device=device)
        return made[first:stop]

    def causal(self, first: int, stop: int, keys: int, like: Tensor) -> Tensor:
        """[stop - first, keys], `added`: rows at positions `first` on attend to no later key. A view, as above."""
        made = self._masks.get((like.dtype, like.device))
        if made is None or len(made) < keys:
            every = torch.arange(_round_up(keys), device=like.device)
            made = added(every[None, :] <= every[:, None], like.dtype)
            self._masks[like.dtype, like.device] = made
        return made[first:stop, :keys]

    def _all_positions(self, device: torch.device) -> Tensor:
        return torch.arange(self.config.max_position_embeddings, device=device)


class Decoder(nn.Module):
    """A Llama with its output head: `model.*` and `lm_head.*` of a checkpoint. `has_head` False: without the latter."""

    def __init__(self, config: DecoderConfig, *, has_head: bool = True):
        super().__init__()
        self.config = config
        self.model = LlamaModel(config)
        self.has_head = has_head
        if has_head:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.weights: WeightScheme = "as-is"  # of the layers: see models/quantised
        self.batch_invariant = False  # whether a row's numbers do not depend on which rows share its pass
        self.max_head_norm = math.inf  # see `measure_head`; until then no lead of one token over another is decisive

    def measure_head(self) -> None:
        """Take the norm of the head's longest row: once the weights are final, and before they are packed."""
        self.max_head_norm = float(self.lm_head.weight.detach().float().norm(dim=-1).max())

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [...] -> rows [..., width]."""
        rows: Tensor = self.model.embed_tokens(ids)
        return rows if self.config.embedding_scale == 1 else rows * self.config.embedding_scale

    def logits(self, hidden: Tensor) -> Tensor:
        """Normed hidden rows [..., width] -> [..., vocab]; of a decoder with a head."""
        out: Tensor = self.lm_head(hidden)
        return out


def _round_up(length: int) -> int:
    """The next multiple of 256: by which tables grow."""
    return -(-length // 256) * 256
