"""How often one may ask: a bucket of frames, or of requests of any kind, for each key, that fills with time.

Knows neither frames nor who the clients are. For the event loop's thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from stillframe.errors import TooMany

MOST_CLIENTS = 4096  # whose buckets are kept; beyond, the one that asked longest ago goes, and starts afresh
MOST_OWED_S = 10.0  # until a bucket is full again, however much was charged
_ROUNDING_S = 1e-9  # whoever waits as long as they were told is not refused for the last bit of a float

Key = tuple[str, ...]


class Rates:
    """Lets each key have `per_s` on average, and `burst_s` worth of them at once; None: any number."""

    def __init__(
        self,
        per_s: float | None = None,
        *,
        burst_s: float = 2.0,
        clock: Callable[[], float] = monotonic,
        of: str = "frames",
    ):
        self._of = of
        self.refused = 0
        self._cost_s = 0.0 if per_s is None else 1 / per_s
        self._burst_s = max(burst_s, self._cost_s)  # a bucket holds one frame at least
        self._clock = clock
        self._full_at_s: OrderedDict[Key, float] = OrderedDict()  # when each bucket is full again, oldest asker first

    def charge(self, key: Key, amount: float) -> None:
        """Take more out of a bucket than it asked for: what it asked was refused, and cost more than an answer."""
        if self._cost_s and key in self._full_at_s:
            self._full_at_s[key] = min(self._full_at_s[key] + amount * self._cost_s, self._clock() + MOST_OWED_S)

    def allow(self, key: Key) -> None:
        """Take one frame out of a client's bucket, or raise TooMany with the wait until there is one."""
        if not self._cost_s:
            return
        now_s = self._clock()
        taken_s = max(self._full_at_s.pop(key, now_s), now_s) - now_s
        too_soon_s = taken_s + self._cost_s - self._burst_s
        allowed = too_soon_s <= _ROUNDING_S
        self._full_at_s[key] = now_s + taken_s + (self._cost_s if allowed else 0)
        if len(self._full_at_s) > MOST_CLIENTS:
            self._full_at_s.popitem(last=False)
        if not allowed:
            self.refused += 1
            detail = f"This client sends more than {1 / self._cost_s:g} {self._of} a second; wait {too_soon_s:.3g} s."
            raise TooMany("rate-limited", detail, retry_after_s=too_soon_s)
