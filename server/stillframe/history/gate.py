"""The trained scorers: a recurrent gate over a session's chunks in order, and a linear score of each chunk alone.

Knows summaries as rows of numbers; not what they summarise. Their weights lie beside a checkpoint: checkpoint.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Cell = Literal["gru", "lstm"]
CELLS: dict[str, type[nn.GRUCell | nn.LSTMCell]] = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}
LEAST_SPREAD, FURTHEST = 1e-3, 6.0
KEEP_AT_START = 2.0  # initial logit of a utility: keep


@dataclass(frozen=True)
class GateSizes:
    """Sizes of a gate."""

    inputs: int
    hidden: int = 64
    cell: Cell = "gru"


class Standardizer(nn.Module):
    """Standardizes each input by its mean and standard deviation over the training episodes.

    What frames have in common is most of a summary; what tells a cue from none is a small part of what is left.
    """

    def __init__(self, inputs: int):
        super().__init__()
        self.centre, self.spread = nn.Buffer(torch.zeros(inputs)), nn.Buffer(torch.ones(inputs))

    def fit(self, summaries: Tensor) -> None:
        """Estimate both from chunks [chunks, inputs]."""
        self.centre.copy_(summaries.mean(0))
        self.spread.copy_(summaries.std(0).clamp(min=LEAST_SPREAD))

    def forward(self, summaries: Tensor) -> Tensor:
        """[..., inputs] -> standardized, clamped to +-FURTHEST."""
        return ((summaries - self.centre) / self.spread).clamp(-FURTHEST, FURTHEST)


class Gate(nn.Module):
    """Recurrent gate: a chunk's utility depends on the chunks before it."""

    def __init__(self, sizes: GateSizes):
        super().__init__()
        self.sizes = sizes
        self.norm = Standardizer(sizes.inputs)
        self.inward = nn.Linear(sizes.inputs, sizes.hidden)
        self.cell = CELLS[sizes.cell](sizes.hidden, sizes.hidden)
        self.outward = _cautious(sizes.hidden)

    def begin(self, sessions: int) -> Tensor:
        """Initial states [sessions, state]: zeros."""
        return torch.zeros(sessions, self.sizes.hidden * (2 if self.sizes.cell == "lstm" else 1), device=self._device)

    def forward(self, summaries: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """The next chunk of some sessions [sessions, inputs] -> logits of their utilities [sessions], states."""
        seen = torch.tanh(self.inward(self.norm(summaries)))
        if isinstance(self.cell, nn.LSTMCell):
            hidden, kept = self.cell(seen, tuple(states.chunk(2, dim=-1)))
            states = torch.cat((hidden, kept), dim=-1)
        else:
            hidden = states = self.cell(seen, states)
        return self.outward(hidden)[:, 0], states

    @property
    def _device(self) -> torch.device:
        return self.inward.weight.device


class Linear(nn.Module):
    """A chunk's utility from that chunk alone: the baseline of the gate."""

    def __init__(self, inputs: int):
        super().__init__()
        self.norm = Standardizer(inputs)
        self.outward = _cautious(inputs)

    def forward(self, summaries: Tensor) -> Tensor:
        """[..., inputs] -> logits [...]."""
        out: Tensor = self.outward(self.norm(summaries))[..., 0]
        return out


def _cautious(inputs: int) -> nn.Linear:
    """A head that is initialised to keep every chunk."""
    head = nn.Linear(inputs, 1)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, KEEP_AT_START)
    return head
