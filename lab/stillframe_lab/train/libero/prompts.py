"""What follows the pictures in a batch of instructions of several lengths: text, the action's rows, then filling.

Knows token ids; no network. Filling comes last, so every other row has the position that it has when it is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

EMPTY = -1  # a row without a token: an action's place, or filling


@dataclass(frozen=True)
class Suffix:
    """The rows behind the pictures, [batch, rows]."""

    ids: Tensor  # EMPTY where there is no token
    counts: Tensor  # False for filling
    text_end: Tensor  # [batch] each text's last row

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]], tails: Tensor) -> Suffix:
        """`texts`: ids behind BOS, of each of the batch; `tails` [batch, rows]: of the action, EMPTY for places."""
        lengths = torch.tensor([len(text) for text in texts])
        rows = int(lengths.max()) + tails.shape[1]
        ids = torch.full((len(texts), rows), EMPTY)
        for row, (text, tail) in enumerate(zip(texts, tails.cpu(), strict=True)):
            ids[row, : len(text)] = torch.tensor(text)
            ids[row, len(text) : len(text) + len(tail)] = tail
        counts = torch.arange(rows) < (lengths + tails.shape[1])[:, None]
        return cls(ids.to(tails.device), counts.to(tails.device), (lengths - 1).to(tails.device))

    def behind_text(self, first: int, count: int) -> Tensor:
        """[batch, count]: the rows from `first` on, counted from each text's last."""
        return self.text_end[:, None] + torch.arange(first, first + count, device=self.text_end.device)


def taken(rows: Tensor, at: Tensor) -> Tensor:
    """Of rows [batch, rows, width] those at [batch, some]."""
    return rows.gather(1, at[..., None].expand(-1, -1, rows.shape[-1]))
