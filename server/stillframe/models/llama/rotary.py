"""Rotary position embedding, with Llama's pairing of dimensions.

Knows positions and angles; no layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rotary:
    """Cosines and sines of the angles at some rows' absolute positions, [rows, head_dim] each.

    Sines of the first half are negative, as the rotation takes them.
    """

    cos: Tensor
    sin: Tensor

    @classmethod
    def at(cls, positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> Rotary:
        """The angles at `positions` [rows], taken in fp32 and then rounded to `dtype`."""
        exponents = torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim
        angles = positions[:, None].float() * (1.0 / theta**exponents)
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        return cls(torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1))

    def select(self, kept: Tensor) -> Rotary:
        """The angles of some of the rows."""
        return Rotary(self.cos[kept], self.sin[kept])

    def last(self, rows: int) -> Rotary:
        """The angles of the last so many rows."""
        return Rotary(self.cos[..., -rows:, :], self.sin[..., -rows:, :])

    def apply(self, heads: Tensor) -> Tensor:
        """Rotate [..., heads, rows, head_dim] by half-rotation, Llama's pairing."""
        first, second = heads.chunk(2, dim=-1)
        return heads * self.cos + torch.cat((second, first), dim=-1) * self.sin
