"""A scorer that records its utilities and times.

Knows the scorer that it wraps; scores nothing itself.
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
    """Delegates to another scorer. See `history.scorers.Scorer`."""

    scorer: Scorer
    clock: Clock = time.thread_time
    utilities: list[float] = field(default_factory=list)  # of each chunk, when it was added
    took_ms: list[float] = field(default_factory=list)  # of each call

    @property
    def needs_attention(self) -> bool:
        """See the other scorer."""
        return self.scorer.needs_attention

    def begin(self) -> Tensor:
        """See the other scorer."""
        return self.scorer.begin()

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """See the other scorer."""
        asked_s = self.clock()
        utilities, after = self.scorer.score(summaries, states)
        self.took_ms.append((self.clock() - asked_s) * 1e3)
        self.utilities += utilities.tolist()
        return utilities, after

    def updated(self, utilities: Utilities, masses: Utilities) -> Utilities:
        """See the other scorer."""
        return self.scorer.updated(utilities, masses)
