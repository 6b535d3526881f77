"""Thread pool for parsing and image decoding, fair between callers, with a bound on bytes under way.

Knows not what it runs. Work or bytes beyond the bounds are refused at once, not queued.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from stillframe.errors import Overloaded
from stillframe.web.http.fair_semaphore import FairSemaphore
from stillframe.web.http.fair_share import FairSharePool
from stillframe.web.http.limits import OVERLOADED_WAIT_S, Limits

P = ParamSpec("P")
T = TypeVar("T")


class DecodePool:
    """A few threads behind a bounded fair queue, and a budget for the bytes that arrive for them."""

    def __init__(self, limits: Limits):
        self.byte_budget = ByteBudget(limits.max_intake_bytes)
        self._threads = ThreadPoolExecutor(limits.decode_threads, thread_name_prefix="unpack")
        self._semaphore = FairSemaphore(limits.decode_threads, limits.max_decodes_waiting)

    async def run(self, share: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `work(*args)` on a thread; raise Overloaded if the queue is full."""
        async with self._semaphore.acquire(share):
            return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))

    async def run_waiting(self, share: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, but wait where the queue is full: for connections that are not read meanwhile."""
        async with self._semaphore.acquire(share, patient=True):
            return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))

    def close(self) -> None:
        """Finish running work, drop waiting work."""
        self._threads.shutdown(wait=True, cancel_futures=True)


class ByteBudget:
    """Bytes of requests in memory, per caller. Counted as they arrive, not as they are announced."""

    def __init__(self, most_bytes: int):
        self._shares = FairSharePool(most_bytes)

    @property
    def held_bytes(self) -> int:
        """Return the bytes held by all callers."""
        return int(self._shares.held)

    @contextmanager
    def reserve(self, share: str) -> Iterator[Callable[[int], None]]:
        """Yield a function that counts bytes in, and raises Overloaded beyond the budget; release them at the end."""
        counted = 0

        def count(n_bytes: int) -> None:
            nonlocal counted
            if not self._shares.acquire(share, n_bytes):
                raise Overloaded(
                    "overloaded", "Too many bytes arrive at once; send smaller frames.", retry_after_s=OVERLOADED_WAIT_S
                )
            counted += n_bytes

        try:
            yield count
        finally:
            self._shares.release(share, counted)
