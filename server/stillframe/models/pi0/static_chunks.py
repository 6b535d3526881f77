"""StaticChunks: chunks drawn in buffers that stay where they are, so that all steps can be captured as one graph.

Knows the network and its inputs; not how anything is captured. Every prefix is padded to a slot's capacity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stillframe.models.pi0.network import Pi0Network
from stillframe.models.pi0.prefix import PrefixKV, copy_prefixes
from stillframe.reuse.kv import FrameKV


class StaticChunks:
    """The `graphs.chunk_graphs.ChunkBuffers` of a pi0."""

    def __init__(self, network: Pi0Network, robots: int, capacity: int, horizon: int):
        """For up to so many robots, and prefixes of up to `capacity` rows."""
        self._network, numbers = network, network.sizes.action_dim
        device = network.action_out_proj.weight.device
        self._kv = torch.zeros(_kv_shape(network, robots, capacity, horizon), dtype=network.dtype, device=device)
        self._lengths = torch.zeros(robots, dtype=torch.long, device=device)
        self._states = torch.zeros(robots, numbers, device=device) if network.state_rows else None
        self._noise, self._drawn = (torch.zeros(robots, horizon, numbers, device=device) for _ in range(2))

    @staticmethod
    def bytes_of(network: Pi0Network, robots: int, capacity: int, horizon: int) -> int:
        """What the keys and values take, beside which the rest is little."""
        return torch.Size(_kv_shape(network, robots, capacity, horizon)).numel() * network.dtype.itemsize

    def fill(self, caches: Sequence[FrameKV], lengths: Sequence[int], states: Tensor | None, noise: Tensor) -> None:
        """See ChunkBuffers."""
        copy_prefixes(self._kv, caches, lengths)
        self._lengths[: len(lengths)].copy_(torch.tensor(lengths), non_blocking=True)
        self._noise[: len(noise)].copy_(noise)
        if self._states is not None and states is not None:
            self._states[: len(states)].copy_(states)

    def compute(self, robots: int) -> None:
        """See ChunkBuffers."""
        rows, horizon = self._network.state_rows, self._noise.shape[1]
        prefix = PrefixKV.padded(self._kv[:, :, :robots], self._lengths[:robots], rows, horizon)
        states = None if self._states is None else self._states[:robots]
        *_, last = self._network.drawn_over(prefix, states, self._noise[:robots])
        self._drawn[:robots].copy_(last)

    def drawn(self, robots: int) -> Tensor:
        """See ChunkBuffers."""
        return self._drawn[:robots].clone()


def _kv_shape(network: Pi0Network, robots: int, capacity: int, horizon: int) -> tuple[int, ...]:
    sizes = network.sizes.expert
    keys = capacity + network.state_rows + horizon
    return 2, sizes.num_hidden_layers, robots, sizes.num_key_value_heads, keys, sizes.head_dim
