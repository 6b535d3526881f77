"""Token buckets: so many a second on average and so many at once, in one bucket or one per key.

Knows not what is counted. For the event loop's thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

MAX_KEYS = 4096  # buckets kept; beyond, the one used longest ago is dropped, and its key begins with a full one


class TokenBucket:
    """Fills with `per_s` tokens a second, up to `capacity`."""

    def __init__(self, per_s: float, capacity: float, now_s: float):
        self._per_s, self._capacity = per_s, capacity
        self._tokens, self._since_s = capacity, now_s

    def available(self, now_s: float) -> float:
        """Return the tokens in it now; negative while it is in debt."""
        self._tokens = min(self._capacity, self._tokens + (now_s - self._since_s) * self._per_s)
        self._since_s = now_s
        return self._tokens

    def take(self, now_s: float, amount: float = 1.0) -> bool:
        """Take `amount` tokens; False, and none taken, where there are not as many."""
        if self.available(now_s) < amount:
            return False
        self._tokens -= amount
        return True

    def charge(self, amount: float) -> None:
        """Take tokens for what has been used already: the bucket may go into debt."""
        self._tokens -= amount


class TokenBuckets:
    """A bucket per key, the most recently used MAX_KEYS of them."""

    def __init__(self, per_s: float, capacity: float, clock: Callable[[], float]):
        self._per_s, self._capacity, self._clock = per_s, capacity, clock
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._buckets

    def forget(self, key: Hashable) -> None:
        """Drop a key's bucket."""
        self._buckets.pop(key, None)

    def bucket(self, key: Hashable) -> TokenBucket:
        """Return a key's bucket, a full one for a new key."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._per_s, self._capacity, self._clock())
            if len(self._buckets) > MAX_KEYS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket
