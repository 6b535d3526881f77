"""PrefixKV: the prefixes' keys and values of several robots, with room behind them for the expert's own rows.

Knows positions and layers; not what the rows mean. Made once a frame: the prefix does not change while its chunk is
drawn, so no step writes or moves it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stillframe.models.expert_probe import ExpertHook
from stillframe.models.llama.attention import attend
from stillframe.reuse.kv import FrameKV


class PrefixKV:
    """The `AttentionBackend` of the expert's passes: its rows attend to their prefix and to all own rows so far.

    Prefixes of different lengths are padded to the longest, and the padding is masked.
    """

    def __init__(self, caches: Sequence[FrameKV], lengths: Sequence[int], own: int):
        """`lengths`: rows of each prefix; `own`: how many rows of the expert's there will be."""
        robots, self._longest = len(caches), max(lengths)
        parts = [kv.rows(0, length) for kv, length in zip(caches, lengths, strict=True)]
        keys = parts[0][0]
        layers, kv_heads, _, head_dim = keys.shape
        self._kv = keys.new_zeros(2, layers, robots, kv_heads, self._longest + own, head_dim)
        for at, (part, length) in enumerate(zip(parts, lengths, strict=True)):
            for side in range(2):
                self._kv[side, :, at, :, :length] = part[side]
        self._mask = _mask(lengths, self._longest, own, keys.device)
        self.positions = torch.tensor(lengths, device=keys.device)  # [robots]: of each one's first own row
        self._first = 0
        self._hooks: Sequence[ExpertHook | None] = ()

    def begin(self, first: int) -> None:
        """The rows of the next pass are the own rows from `first` on; those before it stay."""
        self._first = first

    def watch(self, hooks: Sequence[ExpertHook | None]) -> None:
        """Call each robot's hook in every layer from now on; () and None: nothing looks on."""
        self._hooks = hooks

    def surviving_rows(self, layer: int) -> None:
        """All."""

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[robots, heads, rows, head_dim]. Heads that share keys attend as rows of one: no key is copied."""
        begin, end = self._longest + self._first, self._longest + self._first + keys.shape[-2]
        own_keys, own_values = self._kv[0, layer], self._kv[1, layer]
        if keys.requires_grad:  # what a gradient goes through is not written into the prefix's memory
            seen = (
                torch.cat((own_keys[:, :, :begin], keys), dim=2),
                torch.cat((own_values[:, :, :begin], values), dim=2),
            )
        else:
            own_keys[:, :, begin:end], own_values[:, :, begin:end] = keys, values
            seen = own_keys[:, :, :end], own_values[:, :, :end]
        for robot, hook in enumerate(self._hooks):
            if hook is not None:
                hook(layer, queries[robot], seen[0][robot, :, self._longest :])
        robots, heads, rows, head_dim = queries.shape
        grouped = queries.reshape(robots, own_keys.shape[1], -1, head_dim)
        if self._mask is None:
            mixed = attend(grouped, *seen)
        else:
            mixed = functional.scaled_dot_product_attention(grouped, *seen, attn_mask=self._mask[..., :end])
        return mixed.reshape(robots, heads, rows, head_dim)

    def on_layer(self, layers: int, rows: Tensor) -> None:
        """Nothing looks on."""


def _mask(lengths: Sequence[int], longest: int, own: int, device: torch.device) -> Tensor | None:
    """[robots, 1, 1, keys], True where there is a key; None: everywhere."""
    if min(lengths) == longest:
        return None
    places = torch.arange(longest + own, device=device)
    there = places < torch.tensor(lengths, device=device)[:, None]
    return (there | (places >= longest))[:, None, None]
