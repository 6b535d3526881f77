"""AuditBudget: how much of the device's time audits may take.

Knows seconds; not what they were spent on.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_SAVED_S = 1.0  # that are not spent and kept for later


@dataclass
class AuditBudget:
    """A share of the time that frames take: over any stretch audits take that, MOST_SAVED_S and one audit more."""

    share: float
    credit_s: float = 0.0

    def earn(self, computed_s: float) -> None:
        """Frames were computed for so long."""
        self.credit_s = min(MOST_SAVED_S, self.credit_s + self.share * computed_s)

    def spend(self, audited_s: float) -> None:
        """An audit took so long."""
        self.credit_s -= audited_s

    @property
    def allows(self) -> bool:
        """Whether one more audit may begin."""
        return self.credit_s > 0
