"""Who says what a chunk is worth: learnt scorers and such as need no training, behind one interface.

Knows summaries, states and utilities in [0, 1]; not what becomes of them.
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
    """One chunk each of some sessions, as scorers see it: of the tapped layers, slots averaged, all heads."""

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
        """What a learnt scorer reads [sessions, inputs]."""
        return torch.cat((self.keys, self.values, self.extras), dim=-1)


def summary(chunk: Tensor, taps: Sequence[int]) -> Tensor:
    """One chunk's keys or values [..., layers, kv_heads, slots, head_dim] -> [..., numbers]."""
    return chunk[..., [*taps], :, :, :].float().mean(dim=-2).flatten(-3)


class Scorer(Protocol):
    """Utilities as chunks come. States are rows of numbers, one for each session: they can be saved and batched."""

    @property
    def watches(self) -> bool:
        """Whether `revised` wants to know where answers looked."""
        ...

    def begin(self) -> Tensor:
        """The state of a session without a chunk."""
        ...

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """What the next chunk of each session is worth [sessions], and the states after it."""
        ...

    def revised(self, utilities: Utilities, masses: Utilities) -> Utilities:
        """What held chunks are worth [held] after an answer that looked at each so much [held]."""
        ...


class _Blind:
    """Knows no chunk that came before, and does not look again."""

    watches = False

    def begin(self) -> Tensor:
        """Nothing."""
        return torch.zeros(0)

    def revised(self, utilities: Utilities, masses: Utilities) -> Utilities:  # noqa: ARG002 (the seam's shape)
        """As they were."""
        return utilities


class Recency(_Blind):
    """Every chunk is worth the same, so age alone decides: a window as long as the budget."""

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """All that there is."""
        return np.ones(len(summaries.keys)), [*states]


class Novelty(_Blind):
    """1 - cosine with the last chunk that was new: what looks like it is worth little."""

    def __init__(self, new_from: float = 0.02):
        self._new_from = new_from

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """A session's first chunk is all new."""
        scored = [self._one(keys, state) for keys, state in zip(summaries.keys, states, strict=True)]
        return np.array([utility for utility, _ in scored]), [state for _, state in scored]

    def _one(self, keys: Tensor, last: Tensor) -> tuple[float, Tensor]:
        if not len(last):
            return 1.0, keys
        novelty = min(1.0, max(0.0, 1 - float(functional.cosine_similarity(keys, last.to(keys.device), dim=0))))
        return novelty, keys if novelty >= self._new_from else last


class AttentionMass(_Blind):
    """How much answers looked at a chunk, a running mean; a new one is worth all until that is known."""

    watches = True

    def __init__(self, memory: float = 0.8):
        self._memory = memory

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """Not looked at yet."""
        return np.ones(len(summaries.keys)), [*states]

    def revised(self, utilities: Utilities, masses: Utilities) -> Utilities:
        """Towards this answer's masses, the largest of which counts as 1."""
        most = masses.max(initial=0.0)
        return self._memory * utilities + (1 - self._memory) * (masses / most if most > 0 else masses)


class Recurrent(_Blind):
    """The gate."""

    def __init__(self, gate: Gate):
        self._gate = gate

    def begin(self) -> Tensor:
        """The gate's."""
        return self._gate.begin(1)[0]

    @torch.inference_mode()
    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """All sessions in one step of the cell."""
        logits, after = self._gate(summaries.inputs, torch.stack([*states]))
        return _utilities(logits), [*after]


class Alone(_Blind):
    """The linear score."""

    def __init__(self, linear: Linear):
        self._linear = linear

    @torch.inference_mode()
    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """All sessions at once."""
        return _utilities(self._linear(summaries.inputs)), [*states]


def _utilities(logits: Tensor) -> Utilities:
    out: Utilities = torch.sigmoid(logits).double().cpu().numpy()
    return out
