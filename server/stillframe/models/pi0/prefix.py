"""PrefixKV: the prefixes' keys and values of several robots, with room behind them for the expert's own rows.

Knows positions and layers; not what the rows mean. Made once a frame: the prefix does not change while its chunk is
drawn, so no step writes or moves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillframe.models.expert_probe import ExpertHook
from stillframe.models.llama.attention import added, attend
from stillframe.reuse.kv import FrameKV


@dataclass
class PrefixKV:
    """The `AttentionBackend` of the expert's passes: its rows attend to their prefix and to own rows.

    Of these there are `alone`, which see none behind them, and `together`, which see all. A pass is over the last
    so many: those before it stay as an earlier one wrote them. Prefixes are padded to one length.
    """

    kv: Tensor  # [2, layers, robots, 1, longest + alone + together, head_dim]
    positions: Tensor  # [robots]: of each one's first own row, as many as its prefix has rows
    alone: int
    together: int
    mask: Tensor | None  # [robots, 1, 1, keys], `added`, where there is padding
    hooks: Sequence[ExpertHook | None] = ()  # of each robot; none: nothing looks on

    @classmethod
    def of(cls, caches: Sequence[FrameKV], lengths: Sequence[int], alone: int, together: int) -> PrefixKV:
        """A copy of each robot's prefix, of so many rows."""
        like = caches[0].rows(0, 0)[0]
        layers, kv_heads, _, head_dim = like.shape
        kv = like.new_zeros(2, layers, len(caches), kv_heads, max(lengths) + alone + together, head_dim)
        copy_prefixes(kv, caches, lengths)
        positions = torch.tensor(lengths, device=kv.device)
        mask = None if min(lengths) == max(lengths) else _masked(_filled(kv, positions, alone + together), kv.dtype)
        return cls(kv, positions, alone, together, mask)

    @classmethod
    def padded(cls, kv: Tensor, lengths: Tensor, alone: int, together: int) -> PrefixKV:
        """Over copies in `kv` [2, layers, robots, 1, keys, head_dim] of so many rows each [robots]; of tensors alone.

        What lies behind them is an earlier frame's and may not be finite: NaN times a weight of 0 is NaN.
        """
        filled = _filled(kv, lengths, alone + together)
        kv.masked_fill_(~filled[:, None, :, None], 0)
        return cls(kv, lengths, alone, together, _masked(filled, kv.dtype))

    def watch(self, hooks: Sequence[ExpertHook | None]) -> None:
        """Call each robot's hook in every layer from now on; () and None: nothing looks on."""
        self.hooks = hooks

    def surviving_rows(self, layer: int) -> None:
        """All."""

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[robots, heads, rows, head_dim]; there is one key head."""
        rows = keys.shape[-2]
        begin, alone = self.kv.shape[-2] - rows, rows - self.together
        own_keys, own_values = self.kv[0, layer], self.kv[1, layer]
        own_keys[:, :, begin:], own_values[:, :, begin:] = keys.detach(), values.detach()
        if keys.requires_grad:  # a gradient goes through these, not through what was written
            own_keys = torch.cat((own_keys[:, :, :begin], keys), dim=2)
            own_values = torch.cat((own_values[:, :, :begin], values), dim=2)
        self._show(layer, queries[:, :, alone:], own_keys)
        if not alone:
            return self._mixed(queries, own_keys, own_values)
        first, rest, seen = queries[:, :, :alone], queries[:, :, alone:], begin + alone
        mixed = self._mixed(first, own_keys[:, :, :seen], own_values[:, :, :seen])
        return torch.cat((mixed, self._mixed(rest, own_keys, own_values)), dim=2)

    def _show(self, layer: int, queries: Tensor, keys: Tensor) -> None:
        """Each robot's hook is called with its rows of actions, and with all own keys."""
        first = keys.shape[-2] - self.alone - self.together
        for robot, hook in enumerate(self.hooks):
            if hook is not None:
                hook(layer, queries[robot], keys[robot, :, first:])

    def _mixed(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Every row's heads attend as rows of one head: no key is copied."""
        grouped = queries.transpose(1, 2)
        mask = None if self.mask is None else self.mask[..., : keys.shape[-2]]
        mixed = attend(grouped.flatten(1, 2)[:, None], keys, values, mask)
        return mixed.reshape(grouped.shape).transpose(1, 2)

    def on_layer(self, layers: int, rows: Tensor) -> None:
        """Nothing looks on."""


def copy_prefixes(kv: Tensor, caches: Sequence[FrameKV], lengths: Sequence[int]) -> None:
    """Each robot's prefix into `kv` [2, layers, robots, 1, keys, head_dim], from its first position on."""
    for at, (cache, length) in enumerate(zip(caches, lengths, strict=True)):
        for side, held in enumerate(cache.rows(0, length)):
            kv[side, :, at, :, :length] = held


def _filled(kv: Tensor, lengths: Tensor, own: int) -> Tensor:
    """[robots, keys]: True in a prefix, and at the `own` last places."""
    places, stop = torch.arange(kv.shape[-2], device=kv.device), kv.shape[-2]
    return (places < lengths[:, None]) | (places >= stop - own)


def _masked(filled: Tensor, dtype: torch.dtype) -> Tensor:
    """[robots, 1, 1, keys], `added`."""
    return added(filled[:, None, None], dtype)
