"""The losses and errors of the trained scorers on sequences of labelled chunks.

Knows summaries and labels; neither episodes nor a policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.history.checkpoint import HistoryWeights

WORTHY = 0.5  # chunks of higher utility are counted apart


@dataclass(frozen=True)
class ChunkBatch:
    """A batch of sessions' chunks, in order, padded."""

    inputs: Tensor  # [sessions, longest, inputs]
    worth: Tensor  # [sessions, longest] in [0, 1]
    there: Tensor  # [sessions, longest] 1 where there is a chunk, 0 for padding


@dataclass(frozen=True)
class ScorerLogits:
    """Logits of utilities [sessions, longest]."""

    gate: Tensor
    linear: Tensor


@dataclass(frozen=True)
class ScorerErrors:
    """Mean |utility - label| of chunks of high utility and of the others, for the gate and the linear scorer."""

    worthy: float
    idle: float
    linear_worthy: float
    linear_idle: float


class Scorers(nn.Module):
    """Both trained scorers, on the same chunks."""

    def __init__(self, weights: HistoryWeights):
        """The scorers of `weights`, trained in place."""
        super().__init__()
        self.gate, self.linear = weights.gate, weights.linear
        self.requires_grad_()

    def fit(self, chunks: Tensor) -> None:
        """Fit the input normalisation to chunks [chunks, inputs]."""
        for scorer in (self.gate, self.linear):
            scorer.norm.fit(chunks)

    def forward(self, inputs: Tensor, truncate: int) -> ScorerLogits:
        """Logits of chunks in order [sessions, longest, inputs], in float32 under any autocast.

        A gradient goes back through at most `truncate` chunks.
        """
        with torch.autocast(inputs.device.type, enabled=False):
            inputs = inputs.float()
            return ScorerLogits(self._in_order(inputs, truncate), self.linear(inputs))

    def _in_order(self, inputs: Tensor, truncate: int) -> Tensor:
        steps, state = [], self.gate.begin(len(inputs))
        for at, chunk in enumerate(inputs.unbind(1)):
            logits, state = self.gate(chunk, state if at % truncate else state.detach())
            steps.append(logits)
        return torch.stack(steps, dim=1)


def scorer_loss(logits: ScorerLogits, rows: ChunkBatch, keep_share: float) -> Tensor:
    """The sum of both scorers' losses; they share no parameters."""
    return sum((_scorer_loss(each, rows, keep_share) for each in (logits.gate, logits.linear)), torch.zeros(()))


def scorer_errors(logits: ScorerLogits, rows: ChunkBatch) -> ScorerErrors:
    """The errors of both scorers."""
    return ScorerErrors(*_errors(logits.gate, rows), *_errors(logits.linear, rows))


def _scorer_loss(logits: Tensor, rows: ChunkBatch, keep_share: float) -> Tensor:
    """Cross-entropy against the labels, plus a squared penalty on the difference in how much is kept."""
    off = functional.binary_cross_entropy_with_logits(logits, rows.worth, reduction="none")
    more = ((torch.sigmoid(logits) - rows.worth) * rows.there).sum(1) / rows.there.sum(1).clamp(min=1)
    return (off * rows.there).sum() / rows.there.sum().clamp(min=1) + keep_share * more.square().mean()


def _errors(logits: Tensor, rows: ChunkBatch) -> tuple[float, float]:
    off, there, worthy = (torch.sigmoid(logits.detach()) - rows.worth).abs(), rows.there > 0, rows.worth > WORTHY
    return float(off[there & worthy].mean()), float(off[there & ~worthy].mean())
