"""The parts beside the backbone: the head that regresses a chunk, and the projector of the robot's state.

Knows hidden rows and numbers; no file. Source: moojink/openvla-oft prismatic/models/action_heads.py, projectors.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """x + ReLU(Linear(LayerNorm(x)))."""

    def __init__(self, width: int):
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, rows: Tensor) -> Tensor:
        """[..., width] -> the same."""
        out: Tensor = rows + self.ffn(rows)
        return out


class ResidualMLP(nn.Module):
    """Norm, widen, residual blocks, norm, narrow."""

    def __init__(self, inputs: int, width: int, outputs: int, blocks: int):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(inputs)
        self.fc1 = nn.Linear(inputs, width)
        self.mlp_resnet_blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        rows = torch.relu(self.fc1(self.layer_norm1(rows)))
        for block in self.mlp_resnet_blocks:
            rows = block(rows)
        out: Tensor = self.fc2(self.layer_norm2(rows))
        return out


class RegressionHead(nn.Module):
    """All hidden rows of one action side by side -> its numbers, normalised."""

    def __init__(self, row: int, width: int, action_dim: int, blocks: int):
        """`row`: width of the decoder's rows; `width`: of the head's own."""
        super().__init__()
        self.action_dim = action_dim
        self.model = ResidualMLP(row * action_dim, width, action_dim, blocks)

    def forward(self, hidden: Tensor) -> Tensor:
        """[chunk * action_dim, row] -> [chunk, action_dim]."""
        out: Tensor = self.model(hidden.reshape(len(hidden) // self.action_dim, -1))
        return out


class StateProjector(nn.Module):
    """The robot's state as one row of the decoder's input."""

    def __init__(self, numbers: int, row: int):
        super().__init__()
        self.fc1 = nn.Linear(numbers, row)
        self.fc2 = nn.Linear(row, row)

    def forward(self, state: Tensor) -> Tensor:
        """[..., numbers] -> [..., row]."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(state)))
        return out
