"""Runs the parsing of bodies and the decoding of pictures beside the event loop, a few at a time, each caller in turn.

Knows not what it runs. More work, or more bytes, than may wait is refused at once instead of queued.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from stillframe.errors import Overloaded
from stillframe.web.http.limits import Limits
from stillframe.web.http.shares import Shares
from stillframe.web.http.turns import Turns

P = ParamSpec("P")
T = TypeVar("T")


class Unpacking:
    """A few threads, a bounded line in front of them, and a bound on the bytes that arrive for them."""

    def __init__(self, limits: Limits):
        self.intake = Intake(limits.max_intake_bytes)
        self._threads = ThreadPoolExecutor(limits.decode_threads, thread_name_prefix="unpack")
        self._turns = Turns(limits.decode_threads, limits.max_decodes_waiting)

    async def run(self, share: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `work(*args)` on a thread; raise Overloaded if every place in the line is taken."""
        async with self._turns.turn(share):
            return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))

    async def in_turn(self, share: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, but wait for a place in the line: for connections that are not read on meanwhile."""
        async with self._turns.turn(share, patient=True):
            return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        self._threads.shutdown(wait=True, cancel_futures=True)


class Intake:
    """How many bytes of requests are in memory, and whose. A body that is announced and trickles in holds little."""

    def __init__(self, most_bytes: int):
        self._shares = Shares(most_bytes)

    @property
    def held_bytes(self) -> int:
        """Of all callers."""
        return int(self._shares.held)

    @contextmanager
    def room(self, share: str) -> Iterator[Callable[[int], None]]:
        """Give a way to count bytes in, which raises Overloaded where there is no room. At the end they are let go."""
        counted = 0

        def take(n_bytes: int) -> None:
            nonlocal counted
            if not self._shares.take(share, n_bytes):
                raise Overloaded("overloaded", "Too many bytes arrive at once; send smaller frames.", retry_after_s=1.0)
            counted += n_bytes

        try:
            yield take
        finally:
            self._shares.give_back(share, counted)
