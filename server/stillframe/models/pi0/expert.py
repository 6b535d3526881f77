"""The action expert: a narrow Gemma whose layers attend to the prefix's keys and values, and to its own rows.

Knows rows, positions and modulations; no noise and no time. Source: Physical-Intelligence/openpi
src/openpi/models_pytorch/gemma_pytorch.py and its RMSNorm with a condition (adaRMS).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.models.llama.attention_backend import AttentionBackend
from stillframe.models.llama.decoder import GatedMLP, RMSNorm
from stillframe.models.llama.rotary import Rotary
from stillframe.models.pi0.gemma import GemmaConfig
from stillframe.models.pi0.shared_key import SharedKeyAttention


@dataclass(frozen=True)
class Modulation:
    """What a norm makes of normed rows: times `gain`, plus `shift`; what the sublayer adds is times `gate`."""

    gain: Tensor  # [width] float32
    shift: Tensor | None = None  # [width] float32; None: none, as `gate`
    gate: Tensor | None = None  # [width] in the rows' dtype

    def norm(self, rows: Tensor, eps: float) -> Tensor:
        """[..., width] -> the same, computed in float32."""
        normed = functional.rms_norm(rows.float(), (rows.shape[-1],), self.gain, eps)
        return (normed if self.shift is None else normed + self.shift).to(rows.dtype)

    def add(self, rows: Tensor, made: Tensor) -> Tensor:
        """The residual: rows, and what the sublayer behind this norm made of them."""
        return rows + (made if self.gate is None else made * self.gate)


class AdaptiveNorm(nn.Module):
    """adaRMS: the modulation is a projection of the time step's condition."""

    def __init__(self, width: int):
        super().__init__()
        self.dense = nn.Linear(width, 3 * width)

    def modulations(self, condition: Tensor, dtype: torch.dtype) -> Iterator[Modulation]:
        """One for each row of [steps, width]."""
        for scale, shift, gate in self.dense(condition).unflatten(-1, (3, -1)):
            yield Modulation(1.0 + scale, shift, gate.to(dtype))


class FixedNorm(RMSNorm):
    """The same for every time step. Its weight is the whole factor: the 1 of a checkpoint's offset is in it."""

    def modulations(self, condition: Tensor, dtype: torch.dtype) -> Iterator[Modulation]:  # noqa: ARG002 (as above)
        """One for each row of [steps, width]."""
        yield from [Modulation(self.weight.float())] * len(condition)


class ExpertLayer(nn.Module):
    """Attention, then feed-forward. The norms are their modulations' owners: these are handed in."""

    def __init__(self, config: GemmaConfig, *, adaptive: bool):
        super().__init__()
        self.self_attn = SharedKeyAttention(config)
        self.mlp = GatedMLP(config)
        self.input_layernorm = _norm(config, adaptive=adaptive)
        self.post_attention_layernorm = _norm(config, adaptive=adaptive)
        self.eps = config.rms_norm_eps

    def forward(
        self,
        rows: Tensor,
        layer: int,
        rotary: Rotary,
        backend: AttentionBackend,
        before: Modulation,
        between: Modulation,
    ) -> Tensor:
        """[robots, rows, width] -> the same."""
        rows = before.add(rows, self.self_attn(before.norm(rows, self.eps), layer, rotary, backend))
        return between.add(rows, self.mlp(between.norm(rows, self.eps)))


class Expert(nn.Module):
    """All layers and the norm behind them, which is modulated too; its gate gates nothing."""

    def __init__(self, config: GemmaConfig, *, adaptive: bool):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(ExpertLayer(config, adaptive=adaptive) for _ in range(config.num_hidden_layers))
        self.norm = _norm(config, adaptive=adaptive)

    def forward(
        self, rows: Tensor, rotary: Rotary, backend: AttentionBackend, modulations: Sequence[Modulation]
    ) -> Tensor:
        """[robots, rows, width] -> normed hidden rows. `modulations`: two a layer, and the last norm's."""
        for index, layer in enumerate(self.layers):
            rows = layer(rows, index, rotary, backend, *modulations[2 * index : 2 * index + 2])
        return modulations[-1].norm(rows, self.config.rms_norm_eps)

    def modulations(self, condition: Tensor, dtype: torch.dtype) -> list[list[Modulation]]:
        """Of each row of `condition` [steps, width], as `forward` takes them. `dtype`: that of the rows."""
        made = [norm.modulations(condition, dtype) for norm in self.norms]
        return [list(own) for own in zip(*made, strict=True)]

    @property
    def norms(self) -> list[AdaptiveNorm | FixedNorm]:
        """Two a layer, and the last; until they are dropped."""
        layers = [cast("ExpertLayer", layer) for layer in self.layers]
        return [*(norm for each in layers for norm in (each.input_layernorm, each.post_attention_layernorm)), self.norm]

    def prepare(self) -> None:
        """Free the norms, whose modulations are made: a projection in float32 before every sublayer is much memory.

        Fuse what shares its input. Irreversible.
        """
        for layer in self.layers:
            del layer.input_layernorm, layer.post_attention_layernorm
            cast("ExpertLayer", layer).self_attn.fuse()
        del self.norm


def _norm(config: GemmaConfig, *, adaptive: bool) -> AdaptiveNorm | FixedNorm:
    return AdaptiveNorm(config.hidden_size) if adaptive else FixedNorm(config.hidden_size, config.rms_norm_eps)
