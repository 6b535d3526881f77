"""A bounded pool shared by callers, with a dynamic limit for each, so that some is always left for the next.

Knows neither what is pooled nor who the callers are. For the event loop's thread only.
"""

from __future__ import annotations

from collections import Counter

SHARE_FACTOR = 3.0  # times what is free: alone a caller gets three quarters, two get three sevenths each


class FairSharePool:
    """At most `most` in all. A caller may take more as long as it holds less than GENEROSITY times what is free.

    The limit follows what is free, so the number of callers need not be known, and the pool is never full for a caller
    that holds nothing. Source: Choudhury and Hahne, dynamic queue length thresholds, 1998.
    """

    def __init__(self, capacity: float):
        self.capacity = capacity
        self._held: Counter[str] = Counter()

    @property
    def held(self) -> float:
        """Return how much all callers hold."""
        return self._held.total()

    def acquire(self, share: str, amount: int = 1) -> bool:
        """Acquire `amount` for a caller; False, and nothing acquired, over its limit."""
        free = self.capacity - self.held
        if amount > free or self._held[share] >= SHARE_FACTOR * free:
            return False
        self._held[share] += amount
        return True

    def release(self, share: str, amount: int = 1) -> None:
        """Return what was acquired."""
        self._held[share] -= amount
        if self._held[share] <= 0:
            del self._held[share]
