"""A pool that callers share: how much of it each may hold, so that there is something left for the next one.

Knows neither what the pool is of nor who the callers are. For the event loop's thread only.
"""

from __future__ import annotations

from collections import Counter

GENEROSITY = 3.0  # times what is free: alone a caller gets three quarters, two get three sevenths each


class Shares:
    """At most `most` in all. A caller may take more as long as it holds less than GENEROSITY times what is free.

    What one may hold depends on what is left, so nothing has to be known of how many callers there will be, and the
    pool is never full for one that holds nothing. Source: Choudhury and Hahne, dynamic queue length thresholds, 1998.
    """

    def __init__(self, most: float):
        self.most = most
        self._held: Counter[str] = Counter()

    @property
    def held(self) -> float:
        """By all together."""
        return self._held.total()

    def take(self, share: str, amount: int = 1) -> bool:
        """Take so much for a caller, or nothing: then False."""
        free = self.most - self.held
        if amount > free or self._held[share] >= GENEROSITY * free:
            return False
        self._held[share] += amount
        return True

    def give_back(self, share: str, amount: int = 1) -> None:
        """Return what was taken."""
        self._held[share] -= amount
        if self._held[share] <= 0:
            del self._held[share]
