"""Limit of open WebSockets, in all and per caller, and the signal that ends them when the daemon drains.

Knows no message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from stillframe.errors import Overloaded
from stillframe.web.http.fair_share import FairSharePool
from stillframe.web.http.limits import FULL_WAIT_S


class ConnectionLimiter:
    """For the event loop's thread only, except `drain`."""

    def __init__(self, capacity: int):
        self._shares = FairSharePool(capacity)
        self._draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain_event: asyncio.Event | None = None

    @contextmanager
    def admit(self, share: str) -> Iterator[asyncio.Event]:
        """Count a caller's connection while open; yield the event that is set on drain. Raises Overloaded."""
        if not self._shares.acquire(share):
            detail = f"Of {self._shares.capacity:g} connections as many are open as may be, in all or of this caller."
            raise Overloaded("overloaded", detail, retry_after_s=FULL_WAIT_S)
        try:
            yield self.draining
        finally:
            self._shares.release(share)

    @property
    def open(self) -> int:
        """Return how many are open."""
        return int(self._shares.held)

    @property
    def draining(self) -> asyncio.Event:
        """Return the event that is set when the daemon drains."""
        if self._drain_event is None:
            self._loop, self._drain_event = asyncio.get_running_loop(), asyncio.Event()
            if self._draining:  # checked last: a signal may come between any two lines of this
                self._drain_event.set()
        return self._drain_event

    def drain(self) -> None:
        """Tell every connection to close once its frames are answered. Any thread, signal handlers too."""
        self._draining = True
        if self._loop is not None and self._drain_event is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._drain_event.set)
