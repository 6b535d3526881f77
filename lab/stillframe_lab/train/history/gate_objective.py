"""Valuing: what the learnt scorers say of chunks in a row, and how far that is from what the chunks are worth.

Knows summaries and labels; neither episodes nor a policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.history.checkpoint import HistoryWeights

WORTHY = 0.5  # chunks that are worth more are told apart from the others


@dataclass(frozen=True)
class ChunkBatch:
    """Chunks of some sessions, each in its order."""

    inputs: Tensor  # [sessions, longest, inputs]
    worth: Tensor  # [sessions, longest] in [0, 1]
    there: Tensor  # [sessions, longest] 1 where there is a chunk, 0 behind the last


@dataclass(frozen=True)
class ScorerLogits:
    """Logits of utilities [sessions, longest]."""

    gate: Tensor
    linear: Tensor


@dataclass(frozen=True)
class ScorerErrors:
    """Mean |utility - label| of chunks that are worth much, and of the others: the gate's and the linear score's."""

    worthy: float
    idle: float
    linear_worthy: float
    linear_idle: float


class Scorers(nn.Module):
    """Both learnt scorers of a memory, to be taught on the same chunks."""

    def __init__(self, weights: HistoryWeights):
        """The weights' own: they learn in place."""
        super().__init__()
        self.gate, self.linear = weights.gate, weights.linear
        self.requires_grad_()

    def fit(self, chunks: Tensor) -> None:
        """Take what all summaries have in common from many [chunks, inputs]."""
        for scorer in (self.gate, self.linear):
            scorer.norm.fit(chunks)

    def forward(self, inputs: Tensor, truncate: int) -> ScorerLogits:
        """Chunks in their order [sessions, longest, inputs], in float32 whatever is around.

        A gradient goes back through at most `truncate` chunks.
        """
        with torch.autocast(inputs.device.type, enabled=False):
            inputs = inputs.float()
            return ScorerLogits(self._in_order(inputs, truncate), self.linear(inputs))

    def _in_order(self, inputs: Tensor, truncate: int) -> Tensor:
        said, state = [], self.gate.begin(len(inputs))
        for at, chunk in enumerate(inputs.unbind(1)):
            logits, state = self.gate(chunk, state if at % truncate else state.detach())
            said.append(logits)
        return torch.stack(said, dim=1)


def scorer_loss(said: ScorerLogits, rows: ChunkBatch, keep_share: float) -> Tensor:
    """Both scorers' losses, one sum: the scorers share nothing."""
    return sum((_scorer_loss(logits, rows, keep_share) for logits in (said.gate, said.linear)), torch.zeros(()))


def scorer_errors(said: ScorerLogits, rows: ChunkBatch) -> ScorerErrors:
    """How far off both are."""
    return ScorerErrors(*_errors(said.gate, rows), *_errors(said.linear, rows))


def _scorer_loss(logits: Tensor, rows: ChunkBatch, keep_share: float) -> Tensor:
    """Cross-entropy against the labels; and two-sided, as much kept as they say: a hinge on too much overshoots."""
    off = functional.binary_cross_entropy_with_logits(logits, rows.worth, reduction="none")
    more = ((torch.sigmoid(logits) - rows.worth) * rows.there).sum(1) / rows.there.sum(1).clamp(min=1)
    return (off * rows.there).sum() / rows.there.sum().clamp(min=1) + keep_share * more.square().mean()


def _errors(logits: Tensor, rows: ChunkBatch) -> tuple[float, float]:
    off, there, worthy = (torch.sigmoid(logits.detach()) - rows.worth).abs(), rows.there > 0, rows.worth > WORTHY
    return float(off[there & worthy].mean()), float(off[there & ~worthy].mean())
