"""Scorers of chunks, trained and untrained, behind one interface.

Knows summaries, states and utilities in [0, 1]; not which chunks are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stillframe.history.gate import Gate, Linear
from stillframe.history.pooling import Pooled

Utilities = NDArray[np.float64]


@dataclass(frozen=True)
class Summaries:
    """Scorer input, one chunk per session: the tapped layers, slots averaged, all heads."""

    keys: Tensor  # [sessions, tapped layers * kv_heads * head_dim] float32
    values: Tensor  # the same
    extras: Tensor  # [sessions, extras] float32: the last action, normalised, and the time since the last frame

    @classmethod
    def of(cls, pooled: Sequence[Pooled], chunk: int, taps: Sequence[int], extras: Tensor) -> Summaries:
        """The `chunk`-th chunk of each session's frame."""
        keys = torch.stack([summary(frame.keys[chunk], taps) for frame in pooled])
        values = torch.stack([summary(frame.values[chunk], taps) for frame in pooled])
        return cls(keys, values, extras)

    @property
    def inputs(self) -> Tensor:
        """Input of a trained scorer [sessions, inputs]."""
        return torch.cat((self.keys, self.values, self.extras), dim=-1)


def summary(chunk: Tensor, taps: Sequence[int]) -> Tensor:
    """One chunk's keys or values [..., layers, kv_heads, slots, head_dim] -> [..., numbers]."""
    return chunk[..., [*taps], :, :, :].float().mean(dim=-2).flatten(-3)


class Scorer(Protocol):
    """Scores chunks in order. A session's state is one row of numbers: it can be saved and batched."""

    @property
    def needs_attention(self) -> bool:
        """Whether `updated` needs the attention mass on each chunk."""
        ...

    def begin(self) -> Tensor:
        """The state before the first chunk."""
        ...

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """Utilities of each session's next chunk [sessions], and the states after it."""
        ...

    def updated(self, utilities: Utilities, masses: Utilities) -> Utilities:
        """Utilities of the held chunks [held] after an answer, given its attention mass on each [held]."""
        ...


class _BaseScorer:
    """Defaults: an empty state, utilities that are never updated."""

    needs_attention = False

    def begin(self) -> Tensor:
        """An empty state."""
        return torch.zeros(0)

    def updated(self, utilities: Utilities, masses: Utilities) -> Utilities:  # noqa: ARG002 (the seam's shape)
        """Unchanged."""
        return utilities


class Recency(_BaseScorer):
    """The same utility for every chunk: a sliding window as long as the budget."""

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """1 for each."""
        return np.ones(len(summaries.keys)), [*states]


class Novelty(_BaseScorer):
    """1 - cosine with the last new chunk: repeats score low."""

    def __init__(self, new_from: float = 0.02):
        self._new_from = new_from

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """A session's first chunk scores 1."""
        scored = [self._one(keys, state) for keys, state in zip(summaries.keys, states, strict=True)]
        return np.array([utility for utility, _ in scored]), [state for _, state in scored]

    def _one(self, keys: Tensor, last: Tensor) -> tuple[float, Tensor]:
        if not len(last):
            return 1.0, keys
        novelty = min(1.0, max(0.0, 1 - float(functional.cosine_similarity(keys, last.to(keys.device), dim=0))))
        return novelty, keys if novelty >= self._new_from else last


class AttentionMass(_BaseScorer):
    """Moving average of the attention mass on a chunk; a new chunk scores 1 until there is one."""

    needs_attention = True

    def __init__(self, decay: float = 0.8):
        self._decay = decay

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """1 for each new chunk."""
        return np.ones(len(summaries.keys)), [*states]

    def updated(self, utilities: Utilities, masses: Utilities) -> Utilities:
        """Move towards this answer's masses, scaled so that the largest is 1."""
        most = masses.max(initial=0.0)
        return self._decay * utilities + (1 - self._decay) * (masses / most if most > 0 else masses)


class GateScorer(_BaseScorer):
    """The recurrent gate."""

    def __init__(self, gate: Gate):
        self._gate = gate

    def begin(self) -> Tensor:
        """The gate's initial state."""
        return self._gate.begin(1)[0]

    @torch.inference_mode()
    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """One step of the cell for all sessions."""
        logits, after = self._gate(summaries.inputs, torch.stack([*states]))
        return _utilities(logits), [*after]


class LinearScorer(_BaseScorer):
    """The linear scorer."""

    def __init__(self, linear: Linear):
        self._linear = linear

    @torch.inference_mode()
    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """One product for all sessions."""
        return _utilities(self._linear(summaries.inputs)), [*states]


def _utilities(logits: Tensor) -> Utilities:
    out: Utilities = torch.sigmoid(logits).double().cpu().numpy()
    return out
