"""Rate limit: a token bucket of frames, or of requests of any kind, for each key.

Knows neither frames nor who the clients are. For the event loop's thread only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from stillframe.errors import RequestError, TooMany
from stillframe.web.http.token_bucket import TokenBuckets

MAX_DEBT_S = 10.0  # until a bucket is full again, however much was charged
THROTTLE_DELAY_S = 0.25  # before a client over its rate is told so: it cannot send the next request meanwhile
_ROUNDING_S = 1e-9  # a client that waited as long as it was told is not refused for the last bit of a float

Key = tuple[str, ...]


class RateLimiter:
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
        self._per_s = float("inf") if per_s is None else per_s
        self._capacity = max(1.0, burst_s * self._per_s)  # a bucket holds one frame at least
        self._clock = clock
        self._buckets = TokenBuckets(self._per_s, self._capacity, clock)

    @property
    def _unlimited(self) -> bool:
        return self._per_s == float("inf")

    def acquire(self, key: Key) -> None:
        """Take one frame out of a key's bucket, or raise TooMany with the wait until there is one."""
        if self._unlimited:
            return
        bucket = self._buckets.bucket(key)
        wait_s = (1.0 - bucket.available(self._clock())) / self._per_s
        if wait_s > _ROUNDING_S:
            self.refused += 1
            detail = f"This client sends more than {self._per_s:g} {self._of} a second; wait {wait_s:.3g} s."
            raise TooMany("rate-limited", detail, retry_after_s=wait_s)
        bucket.charge(1.0)

    def charge(self, key: Key, amount: float) -> None:
        """Charge a known key for a refused request, which cost more than an answer; it owes MAX_DEBT_S at most."""
        if self._unlimited or key not in self._buckets:
            return
        bucket = self._buckets.bucket(key)
        least = self._capacity - MAX_DEBT_S * self._per_s
        bucket.charge(min(amount, bucket.available(self._clock()) - least))


async def throttle(error: RequestError) -> None:
    """Sleep THROTTLE_DELAY_S before a refusal for asking too often is sent; any other goes out at once."""
    if isinstance(error, TooMany):
        await asyncio.sleep(THROTTLE_DELAY_S)
