"""Runs the parsing of bodies and the decoding of pictures beside the event loop, a few at a time.

Knows not what it runs. More work, or more bytes, than may wait is refused at once instead of queued.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from stillframe.errors import Overloaded
from stillframe.web.limits import Limits

P = ParamSpec("P")
T = TypeVar("T")


class Unpacking:
    """A few threads, a bounded line in front of them, and a bound on the bytes that arrive for them."""

    def __init__(self, limits: Limits):
        self.intake = Intake(limits.max_intake_bytes)
        self._threads = ThreadPoolExecutor(limits.decode_threads, thread_name_prefix="unpack")
        self._places = threading.BoundedSemaphore(limits.decode_threads + limits.max_decodes_waiting)
        self._turns = asyncio.Semaphore(limits.decode_threads)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `work(*args)` on a thread; raise Overloaded if every place in the line is taken."""
        if not self._places.acquire(blocking=False):
            raise Overloaded("overloaded", "Too many frames are being unpacked; send fewer at once.", retry_after_s=1.0)
        try:
            return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))
        finally:
            self._places.release()

    async def in_turn(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, but wait for a place in the line: for connections that are not read on meanwhile."""
        async with self._turns:
            return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        self._threads.shutdown(wait=True, cancel_futures=True)


@dataclass
class Intake:
    """How many bytes of requests are in memory. Who announces much and trickles holds little."""

    most_bytes: int
    held_bytes: int = 0

    @contextmanager
    def room(self) -> Iterator[Callable[[int], None]]:
        """Give a way to count bytes in, which raises Overloaded where there is no room. At the end they are let go."""
        counted = 0

        def take(n_bytes: int) -> None:
            nonlocal counted
            if self.held_bytes + n_bytes > self.most_bytes:
                raise Overloaded("overloaded", "Too many bytes arrive at once; send smaller frames.", retry_after_s=1.0)
            self.held_bytes += n_bytes
            counted += n_bytes

        try:
            yield take
        finally:
            self.held_bytes -= counted
