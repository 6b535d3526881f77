"""What became of one sender's frames, counted.

Knows numbers only. Every frame that was due is in exactly one of the counts; `check` holds that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from stillframe.bench.loadtest.wires.base import Ending, Outcome


@dataclass
class Tally:
    """One robot's."""

    due: int = 0  # frames whose time came
    skipped: int = 0  # of these: not sent, for too many were under way
    sent: int = 0
    superseded: int = 0
    unanswered: int = 0  # sent, and nothing came
    problems: Counter[str] = field(default_factory=Counter)  # by code
    latencies_s: list[float] = field(default_factory=list)  # of those answered: from when the frame was due
    lags_s: list[float] = field(default_factory=list)  # by how much the sender itself was late
    reuse: list[float] = field(default_factory=list)
    ended: str = ""  # why it ended before its time

    @property
    def answered(self) -> int:
        """Frames with an action."""
        return len(self.latencies_s)

    def count(self, ending: Ending, latency_s: float) -> None:
        """One frame has ended."""
        if ending.outcome is Outcome.ANSWERED:
            self.latencies_s.append(latency_s)
            if ending.reuse_ratio is not None:
                self.reuse.append(ending.reuse_ratio)
        elif ending.outcome is Outcome.SUPERSEDED:
            self.superseded += 1
        else:
            self.problems[ending.code] += 1

    def within(self, deadline_s: float) -> int:
        """Frames whose action came in time."""
        return sum(latency_s <= deadline_s for latency_s in self.latencies_s)

    def check(self) -> None:
        """Every frame is counted once."""
        ended = self.answered + self.superseded + self.problems.total() + self.unanswered
        assert self.due == self.skipped + self.sent, self  # noqa: S101 (a bug of ours)
        assert self.sent == ended, self  # noqa: S101 (a bug of ours)
