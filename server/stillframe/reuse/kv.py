"""FrameKV: where a decoder's keys and values live, written at positions.

Knows layers, positions and bytes; no family, no session.
"""

from __future__ import annotations

import torch
from torch import Tensor


class FrameKV:
    """Preallocated keys and values of one sequence, addressed by absolute position.

    Rows may be written in any order and again; a row keeps its value until it is written.
    """

    def __init__(
        self, *, layers: int, kv_heads: int, head_dim: int, capacity: int, dtype: torch.dtype, device: torch.device
    ):
        shape = (layers, kv_heads, capacity, head_dim)
        self._keys = torch.zeros(shape, dtype=dtype, device=device)
        self._values = torch.zeros(shape, dtype=dtype, device=device)
        self.capacity = capacity  # tokens
        self.length = 0  # tokens: one past the last position written

    @property
    def nbytes(self) -> int:
        """Bytes held, whether or not they are written."""
        return 2 * self._keys.nbytes

    def write(self, layer: int, positions: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put rows at `positions` [rows]; keys and values are [kv_heads, rows, head_dim].

        Returns the layer's keys and values up to `length`: views, valid until the next write.
        """
        self._keys[layer].index_copy_(1, positions, keys)
        self._values[layer].index_copy_(1, positions, values)
        return self._keys[layer, :, : self.length], self._values[layer, :, : self.length]

    def reserve(self, length: int) -> None:
        """Make positions below `length` visible to the reads that follow."""
        if length > self.capacity:
            raise ValueError(f"a sequence of {length} tokens does not fit a cache of {self.capacity}")
        self.length = max(self.length, length)
