"""So many a second and so many at once, for one or for each of many.

Knows not what is counted. For the event loop's thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

MOST_KNOWN = 4096  # keys whose allowance is remembered; beyond, the one that took longest ago begins with a full one


class Allowance:
    """`per_s` a second, `at_once` at most."""

    def __init__(self, per_s: float, at_once: float, now_s: float):
        self._per_s, self._at_once = per_s, at_once
        self._left, self._since_s = at_once, now_s

    def left(self, now_s: float) -> float:
        """How many there are now."""
        self._left = min(self._at_once, self._left + (now_s - self._since_s) * self._per_s)
        self._since_s = now_s
        return self._left

    def take(self, now_s: float, amount: float = 1.0) -> bool:
        """Take some; False: there are not as many, and none are taken."""
        if self.left(now_s) < amount:
            return False
        self._left -= amount
        return True

    def owe(self, amount: float) -> None:
        """Take what has been used already, be it more than there was."""
        self._left -= amount


class Allowances:
    """One for each key."""

    def __init__(self, per_s: float, at_once: float, clock: Callable[[], float]):
        self._per_s, self._at_once, self._clock = per_s, at_once, clock
        self._known: OrderedDict[Hashable, Allowance] = OrderedDict()

    def forget(self, key: Hashable) -> None:
        """Its key is no more."""
        self._known.pop(key, None)

    def of(self, key: Hashable) -> Allowance:
        """That of a key."""
        allowance = self._known.get(key)
        if allowance is None:
            allowance = self._known[key] = Allowance(self._per_s, self._at_once, self._clock())
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return allowance
