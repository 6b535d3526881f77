"""All the WebSockets that are open: how many may be, and how they end when the daemon stops.

Knows no message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from stillframe.errors import Overloaded
from stillframe.web.http.shares import Shares

FULL_WAIT_S = 5.0


class Hub:
    """For the event loop's thread only, but for `drain`."""

    def __init__(self, most: int):
        self._shares = Shares(most)
        self._draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving: asyncio.Event | None = None

    @contextmanager
    def entered(self, share: str) -> Iterator[asyncio.Event]:
        """Count a caller's connection while it lasts; the event is set when it has to end. Raises Overloaded."""
        if not self._shares.take(share):
            detail = f"Of {self._shares.most:g} connections as many are open as may be, in all or of this caller."
            raise Overloaded("overloaded", detail, retry_after_s=FULL_WAIT_S)
        try:
            yield self.leaving
        finally:
            self._shares.give_back(share)

    @property
    def open(self) -> int:
        """How many there are."""
        return int(self._shares.held)

    @property
    def leaving(self) -> asyncio.Event:
        """Set when the daemon drains."""
        if self._leaving is None:
            self._loop, self._leaving = asyncio.get_running_loop(), asyncio.Event()
            if self._draining:  # looked at last: a signal may come in between any two lines of this
                self._leaving.set()
        return self._leaving

    def drain(self) -> None:
        """Let every connection end once what it asked is answered. Any thread, signal handlers too."""
        self._draining = True
        if self._loop is not None and self._leaving is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._leaving.set)
