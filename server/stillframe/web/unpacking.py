"""Runs the parsing of bodies and the decoding of pictures beside the event loop, a few at a time.

Knows not what it runs. More work than may wait is refused at once instead of queued.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from stillframe.errors import Overloaded
from stillframe.web.limits import Limits

P = ParamSpec("P")
T = TypeVar("T")


class Unpacking:
    """A few threads and a bounded line in front of them."""

    def __init__(self, limits: Limits):
        self._threads = ThreadPoolExecutor(limits.decode_threads, thread_name_prefix="unpack")
        self._places = threading.BoundedSemaphore(limits.decode_threads + limits.max_decodes_waiting)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the line, from before anything is read; raise Overloaded if every place is taken."""
        if not self._places.acquire(blocking=False):
            raise Overloaded("overloaded", "Too many frames are being unpacked; send fewer at once.", retry_after_s=1.0)
        try:
            yield
        finally:
            self._places.release()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `work(*args)` on a thread. For those who hold a place."""
        return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        self._threads.shutdown(wait=True, cancel_futures=True)
