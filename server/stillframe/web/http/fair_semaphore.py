"""A fair semaphore: a few holders at a time; waiting callers are served round robin.

Knows neither the work nor who the callers are. For the event loop's thread only.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from stillframe.errors import Overloaded
from stillframe.web.http.limits import OVERLOADED_WAIT_S


@dataclass(eq=False)
class _Waiter:
    """A waiting acquisition."""

    patient: bool  # not counted: its client is not read meanwhile
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class FairSemaphore:
    """`at_once` holders; at most `max_waiting` wait, patient ones aside, and the caller with most is displaced."""

    def __init__(self, at_once: int, max_waiting: int):
        self._free = at_once
        self._max_waiting = max_waiting
        self._queues: OrderedDict[str, deque[_Waiter]] = OrderedDict()  # by caller, next to be served first
        self._last_served = ""  # the last caller served: it goes to the end

    @asynccontextmanager
    async def acquire(self, share: str, *, patient: bool = False) -> AsyncIterator[None]:
        """Hold the semaphore, after waiting in the caller's queue if need be. Raises Overloaded."""
        await self._wait(share, patient=patient)
        try:
            yield
        finally:
            self._release()

    async def _wait(self, share: str, *, patient: bool) -> None:
        if self._free > 0:
            self._free -= 1
            self._last_served = share
            return
        waiter = self._enqueue(share, patient=patient)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self._release()  # granted as it was cancelled
            else:
                self._remove(share, waiter)
            raise

    def _enqueue(self, share: str, *, patient: bool) -> _Waiter:
        if not patient and sum(self._impatient(queue) for queue in self._queues.values()) >= self._max_waiting:
            self._displace(share)
        waiter = _Waiter(patient)
        self._queues.setdefault(share, deque()).append(waiter)
        return waiter

    def _displace(self, share: str) -> None:
        """Displace the last waiter of the caller with most, unless the newcomer has as many. Raises Overloaded."""
        fullest = max(self._queues, key=lambda other: self._impatient(self._queues[other]))
        if self._impatient(self._queues[fullest]) <= self._impatient(self._queues.get(share, deque())) + 1:
            raise _full()
        waiter = next(waiter for waiter in reversed(self._queues[fullest]) if not waiter.patient)
        self._remove(fullest, waiter)
        waiter.granted.set_exception(_full())

    def _release(self) -> None:
        while self._queues:
            if next(iter(self._queues)) == self._last_served:
                self._queues.move_to_end(self._last_served)
            share, queue = next(iter(self._queues.items()))
            waiter = queue.popleft()
            if not queue:
                del self._queues[share]
            if not waiter.granted.done():
                self._last_served = share
                waiter.granted.set_result(None)
                return
        self._free += 1

    def _remove(self, share: str, waiter: _Waiter) -> None:
        queue = self._queues.get(share, deque())
        if waiter in queue:
            queue.remove(waiter)
        if not queue:
            self._queues.pop(share, None)

    @staticmethod
    def _impatient(queue: deque[_Waiter]) -> int:
        return sum(not waiter.patient for waiter in queue)


def _full() -> Overloaded:
    return Overloaded(
        "overloaded", "Too many frames are being unpacked; send fewer at once.", retry_after_s=OVERLOADED_WAIT_S
    )
