"""PrefixKV: the prefixes' keys and values of several robots, with room behind them for the expert's own rows.

Knows positions and layers; not what the rows mean. Made once a frame: the prefix does not change while its chunk is
drawn, so no step writes or moves it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stillframe.models.llama.attention import added, attend
from stillframe.reuse.kv import FrameKV


class PrefixKV:
    """The `AttentionBackend` of the expert's passes: its rows attend to their prefix and to own rows.

    Of these there are `alone`, which see none behind them, and `together`, which see all. A pass is over the last
    so many: those before it stay as an earlier one wrote them. Prefixes of different lengths are padded to the longest,
    and the padding is masked.
    """

    def __init__(self, caches: Sequence[FrameKV], lengths: Sequence[int], alone: int, together: int):
        """`lengths`: rows of each prefix."""
        longest = max(lengths)
        parts = [kv.rows(0, length) for kv, length in zip(caches, lengths, strict=True)]
        keys = parts[0][0]
        layers, kv_heads, _, head_dim = keys.shape
        self._stop, self._together = longest + alone + together, together
        self._kv = keys.new_zeros(2, layers, len(caches), kv_heads, self._stop, head_dim)
        for at, (part, length) in enumerate(zip(parts, lengths, strict=True)):
            for side in range(2):
                self._kv[side, :, at, :, :length] = part[side]
        self._mask = _mask(lengths, longest, self._stop, keys)
        self.positions = torch.tensor(lengths, device=keys.device)  # [robots]: of each one's first own row

    def surviving_rows(self, layer: int) -> None:
        """All."""

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[robots, heads, rows, head_dim]; there is one key head."""
        rows = keys.shape[-2]
        begin, alone = self._stop - rows, rows - self._together
        own_keys, own_values = self._kv[0, layer], self._kv[1, layer]
        own_keys[:, :, begin:], own_values[:, :, begin:] = keys.detach(), values.detach()
        if keys.requires_grad:  # a gradient goes through these, not through what was written
            own_keys = torch.cat((own_keys[:, :, :begin], keys), dim=2)
            own_values = torch.cat((own_values[:, :, :begin], values), dim=2)
        if not alone:
            return self._mixed(queries, own_keys, own_values)
        first, rest, seen = queries[:, :, :alone], queries[:, :, alone:], begin + alone
        mixed = self._mixed(first, own_keys[:, :, :seen], own_values[:, :, :seen])
        return torch.cat((mixed, self._mixed(rest, own_keys, own_values)), dim=2)

    def _mixed(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Every row's heads attend as rows of one head: no key is copied."""
        rows, heads = queries.shape[-2], queries.shape[1]
        grouped = queries.transpose(1, 2).flatten(1, 2)[:, None]
        mask = None if self._mask is None else self._mask[..., : keys.shape[-2]]
        return attend(grouped, keys, values, mask)[:, 0].unflatten(1, (rows, heads)).transpose(1, 2)

    def on_layer(self, layers: int, rows: Tensor) -> None:
        """Nothing looks on."""


def _mask(lengths: Sequence[int], longest: int, stop: int, like: Tensor) -> Tensor | None:
    """[robots, 1, 1, keys], `added`: a row attends where there is a key; None: everywhere."""
    if min(lengths) == longest:
        return None
    places = torch.arange(stop, device=like.device)
    there = places < torch.tensor(lengths, device=like.device)[:, None]
    return added((there | (places >= longest))[:, None, None], like.dtype)
