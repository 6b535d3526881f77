"""The training sequence: one picture and six instructions that share the image's rows.

Knows token ids, positions and the attention mask; no loss. Possible because the image comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillframe.models.prismatic.checks import ACTION_NAMES

ACTION_DIM = len(ACTION_NAMES)


@dataclass(frozen=True)
class SharedPrefix:
    """[BOS] [patches] then a branch per instruction: [text] and, where actions are tokens, the first six of them.

    A branch's rows have the positions they would have alone, and attend to the prefix and their own branch only.
    """

    ids: Tensor  # [suffix rows]; action rows hold a placeholder until `with_actions`
    positions: Tensor  # [rows]
    mask: Tensor  # [rows, rows], True where a row may attend
    text_end: Tensor  # [branches]: each branch's last text row, where its first action token is predicted
    prefix_rows: int

    @classmethod
    def build(cls, prompts: Sequence[Sequence[int]], patches: int, action_rows: int = ACTION_DIM - 1) -> SharedPrefix:
        """`prompts` are whole prompts, BOS first."""
        prefix_rows = 1 + patches
        lengths = [len(prompt) - 1 + action_rows for prompt in prompts]
        ids, positions, branch, text_end = [], list(range(prefix_rows)), [-1] * prefix_rows, []
        for index, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
            text_end.append(len(positions) + len(prompt) - 2)
            ids += [*prompt[1:], *[0] * action_rows]
            positions += range(prefix_rows, prefix_rows + length)
            branch += [index] * length
        of, at = torch.tensor(branch), torch.tensor(positions)
        mask = (at[None, :] <= at[:, None]) & ((of[None, :] == of[:, None]) | (of[None, :] == -1))
        return cls(torch.tensor(ids), at, mask, torch.tensor(text_end), prefix_rows)

    def to(self, device: torch.device) -> SharedPrefix:
        """Move to another device."""
        moved = (self.ids, self.positions, self.mask, self.text_end)
        ids, positions, mask, text_end = (tensor.to(device) for tensor in moved)
        return SharedPrefix(ids, positions, mask, text_end, self.prefix_rows)

    @property
    def predicting(self) -> Tensor:
        """[branches, 7]: rows whose next token is each action dimension."""
        return self.text_end[:, None] + torch.arange(ACTION_DIM, device=self.text_end.device)

    def with_actions(self, tokens: Tensor) -> Tensor:
        """Action ids [batch, branches, 7] -> suffix ids [batch, suffix rows] with the first six of each in place."""
        ids = self.ids.expand(len(tokens), -1).clone()
        slots = (self.predicting[:, 1:] - self.prefix_rows).flatten()
        ids[:, slots] = tokens[:, :, :-1].flatten(1)
        return ids
