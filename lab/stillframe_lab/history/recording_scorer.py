"""A scorer that is listened to: what it said of every chunk, and how long that took.

Knows a scorer; asks nothing of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from stillframe.history.scorers import Scorer, Summaries, Utilities
from stillframe.stopwatch import Clock


@dataclass
class RecordingScorer:
    """Another scorer, word for word. See `memory.scorers.Scorer`."""

    scorer: Scorer
    clock: Clock = time.thread_time
    said: list[float] = field(default_factory=list)  # of each chunk, as it came
    took_ms: list[float] = field(default_factory=list)  # a call each

    @property
    def needs_attention(self) -> bool:
        """As the other."""
        return self.scorer.needs_attention

    def begin(self) -> Tensor:
        """As the other."""
        return self.scorer.begin()

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """As the other."""
        asked_s = self.clock()
        utilities, after = self.scorer.score(summaries, states)
        self.took_ms.append((self.clock() - asked_s) * 1e3)
        self.said += utilities.tolist()
        return utilities, after

    def updated(self, utilities: Utilities, masses: Utilities) -> Utilities:
        """As the other."""
        return self.scorer.updated(utilities, masses)
