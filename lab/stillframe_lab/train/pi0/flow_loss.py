"""The flow's loss: noisy copies of each chunk, at drawn times, and how far off the velocity is that the expert says.

Knows the network's expert; no prompt. Source: Physical-Intelligence/openpi src/openpi/models_pytorch/pi0_pytorch.py:
times are drawn from Beta(1.5, 1), between 0.001 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from stillframe.models.pi0.expert import AdaptiveNorm, Modulation
from stillframe.models.pi0.flow import time_codes
from stillframe.models.pi0.network import Pi0Network
from stillframe_lab.train.pi0.attention import KV, SuffixAttention

TIME_POWER = 1 / 1.5  # a uniform number to this power is of Beta(1.5, 1)
EARLIEST, SPAN = 0.001, 0.999


@dataclass(frozen=True)
class RowModulation(Modulation):
    """One for each row: `gain`, `shift` and `gate` are [batch, rows, width]."""

    def norm(self, rows: Tensor, eps: float) -> Tensor:
        """See Modulation."""
        assert self.shift is not None  # noqa: S101 (made below)
        return functional.rms_norm(rows.float(), (rows.shape[-1],), eps=eps) * self.gain + self.shift


class FlowLoss:
    """Of chunks over prefixes, `repeats` noisy copies of each."""

    def __init__(self, policy: Pi0Network, repeats: int):
        self._policy, self._repeats = policy, repeats

    def __call__(self, prefix: list[KV], state: Tensor, wanted: Tensor, generator: torch.Generator) -> Tensor:
        """Scaled states [batch, 7] and chunks [batch, horizon, 7] -> squared errors of the latter's shape."""
        batch, horizon, numbers = wanted.shape
        noise = torch.randn((batch, self._repeats, horizon, numbers), generator=generator)
        times = torch.rand((batch, self._repeats), generator=generator) ** TIME_POWER * SPAN + EARLIEST
        at = times[..., None, None]
        noisy = at * noise + (1 - at) * wanted[:, None]
        velocity = self.velocity(prefix, state, noisy, times)
        return (velocity - (noise - wanted[:, None])).square().mean(1)

    def velocity(self, prefix: list[KV], state: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """Copies [batch, copies, horizon, 7] at times [batch, copies] -> the expert's velocities."""
        policy = self._policy
        rows = self._rows(noisy, times).flatten(1, 2)  # [batch, copies * horizon, width]
        before = 0
        if not policy.sizes.adaptive:
            rows, before = torch.cat((policy.state_proj(state)[:, None], rows), dim=1), 1
        copies, horizon = noisy.shape[1:3]
        first = prefix[0][0].shape[-2]
        positions = torch.cat((torch.arange(before), torch.arange(horizon).repeat(copies) + before)) + first
        attention = SuffixAttention(positions, _mask(before, copies, horizon), prefix=prefix)
        rotary = policy.decoder.model.rotary(positions, rows.dtype)
        hidden = policy.expert(rows, rotary, attention, self._modulations(times, horizon))
        out: Tensor = policy.action_out_proj(hidden[:, before:]).float()
        return out.view(noisy.shape)

    def _rows(self, noisy: Tensor, times: Tensor) -> Tensor:
        """[batch, copies, horizon, width]."""
        policy = self._policy
        rows: Tensor = policy.action_in_proj(noisy)
        if policy.sizes.adaptive:
            return rows
        codes = self._codes(times)[:, :, None].expand(*rows.shape)
        mixed = policy.action_time_mlp_in(torch.cat((rows, codes), dim=-1))
        out: Tensor = policy.action_time_mlp_out(functional.silu(mixed))
        return out

    def _modulations(self, times: Tensor, horizon: int) -> Sequence[Modulation]:
        policy, expert = self._policy, self._policy.expert
        if not policy.sizes.adaptive:
            return expert.modulations(times.new_zeros(1, 1), torch.float32)[0]
        condition = functional.silu(policy.time_mlp_in(self._codes(times)))
        condition = functional.silu(policy.time_mlp_out(condition))
        return [_of_rows(cast("AdaptiveNorm", norm), condition, horizon) for norm in expert.norms]

    def _codes(self, times: Tensor) -> Tensor:
        return time_codes(times, self._policy.sizes.expert.hidden_size)


def _of_rows(norm: AdaptiveNorm, condition: Tensor, horizon: int) -> RowModulation:
    """The modulation of each copy's rows."""
    scale, shift, gate = norm.dense(condition).float().repeat_interleave(horizon, dim=1).chunk(3, dim=-1)
    return RowModulation(1.0 + scale, shift, gate)


def _mask(before: int, copies: int, horizon: int) -> Tensor:
    """[rows, rows]: a copy sees itself and what is before all copies, which sees itself alone."""
    owner = torch.cat((torch.zeros(before), torch.arange(1, copies + 1).repeat_interleave(horizon)))
    return (owner[:, None] == owner) | (owner == 0)
