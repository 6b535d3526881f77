"""The diffusion transformer that predicts the noise in a chunk of actions.

Knows tensors; no picture, no text and no schedule. Source: microsoft/CogACT action_model/models.py; names are its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.models.llama.attention import attend

TIME_CODE = 256  # numbers that a time step is written in
LONGEST_PERIOD = 10_000.0
EPS = 1e-6


@dataclass(frozen=True)
class DiTConfig:
    """Sizes. Published: S 384 x 6 with 4 heads, B 768 x 12 with 12, L 1024 x 24 with 16."""

    width: int
    depth: int
    heads: int
    condition_width: int  # of the row that it is steered by
    horizon: int = 16
    action_dim: int = 7


class TimestepEmbedder(nn.Module):
    """A diffusion time step as a row."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_CODE, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, steps: Tensor) -> Tensor:
        """[batch] -> [batch, width]."""
        half = TIME_CODE // 2
        periods = torch.arange(half, dtype=torch.float32, device=steps.device) / half
        angles = steps.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * periods)
        code = torch.cat((angles.cos(), angles.sin()), dim=-1)
        out: Tensor = self.mlp(code)
        return out


class ConditionEmbedder(nn.Module):
    """The row that steers, projected; `uncondition` stands for none."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.linear = nn.Linear(config.condition_width, config.width)
        self.uncondition = nn.Parameter(torch.zeros(1, config.condition_width))

    def forward(self, condition: Tensor) -> Tensor:
        """[batch, condition_width] -> [batch, width]."""
        out: Tensor = self.linear(condition)
        return out


class ActionEmbedder(nn.Module):
    """Each noisy action as a row."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.linear = nn.Linear(config.action_dim, config.width)

    def forward(self, actions: Tensor) -> Tensor:
        """[batch, horizon, action_dim] -> [batch, horizon, width]."""
        out: Tensor = self.linear(actions)
        return out


class DiTAttention(nn.Module):
    """Full self-attention with fused query, key, value."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, rows: Tensor) -> Tensor:
        """[batch, rows, width] -> the same."""
        qkv = self.qkv(rows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attend(qkv[0], qkv[1], qkv[2])
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class DiTMLP(nn.Module):
    """Two linear layers with the tanh GELU between them."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.width, 4 * config.width)
        self.fc2 = nn.Linear(4 * config.width, config.width)

    def forward(self, rows: Tensor) -> Tensor:
        """[batch, rows, width] -> the same."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(rows), approximate="tanh"))
        return out


class DiTBlock(nn.Module):
    """One pre-norm block. The norms have no weights, so checkpoints have no tensors for them."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.attn = DiTAttention(config)
        self.mlp = DiTMLP(config)

    def forward(self, rows: Tensor) -> Tensor:
        """[batch, rows, width] -> the same."""
        rows = rows + self.attn(_normed(rows))
        out: Tensor = rows + self.mlp(_normed(rows))
        return out


class FinalLayer(nn.Module):
    """Rows to predicted noise."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.linear = nn.Linear(config.width, config.action_dim)

    def forward(self, rows: Tensor) -> Tensor:
        """[batch, rows, width] -> [batch, rows, action_dim]."""
        out: Tensor = self.linear(_normed(rows))
        return out


class DiT(nn.Module):
    """Predicts noise. One row of time and condition goes ahead of the actions' rows, and all see each other."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        self.x_embedder = ActionEmbedder(config)
        self.t_embedder = TimestepEmbedder(config.width)
        self.z_embedder = ConditionEmbedder(config)
        self.positional_embedding = nn.Parameter(torch.zeros(config.horizon + 1, config.width))
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(config)

    def forward(self, actions: Tensor, steps: Tensor, condition: Tensor) -> Tensor:
        """[batch, horizon, action_dim], time steps [batch], [batch, condition_width] -> noise like the actions."""
        steering = self.t_embedder(steps) + self.z_embedder(condition)
        rows = torch.cat((steering[:, None], self.x_embedder(actions)), dim=1) + self.positional_embedding
        for block in self.blocks:
            rows = block(rows)
        noise: Tensor = self.final_layer(rows)[:, 1:]
        return noise


def _normed(rows: Tensor) -> Tensor:
    return functional.layer_norm(rows, rows.shape[-1:], eps=EPS)
