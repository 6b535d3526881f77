from __future__ import annotations

import asyncio
import threading

import pytest

from stillframe.errors import Overloaded
from stillframe.web.service.connections import ConnectionLimiter


def test_who_comes_after_the_drain_began_is_told():
    """A connection that was let in a moment before a signal finds that it has to leave, though it came first of all."""
    limiter = ConnectionLimiter(2)
    limiter.drain()

    async def enter():
        with limiter.admit("robot") as draining:
            return draining.is_set()

    assert asyncio.run(enter())


def test_told_from_any_thread(monkeypatch):
    """Whoever waits hears of the drain, whichever thread says so, by way of the loop that he waits on.

    Afterwards saying so again harms nobody.
    """
    limiter, told = ConnectionLimiter(2), []

    async def wait():
        loop = asyncio.get_running_loop()
        tell = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda call: told.append(call) or tell(call))
        with limiter.admit("robot") as draining:
            thread = threading.Thread(target=limiter.drain)
            thread.start()
            thread.join(60)
            assert not draining.is_set()
            async with asyncio.timeout(60):
                await draining.wait()
            return told == [draining.set], limiter.open

    assert asyncio.run(wait()) == (True, 1)
    limiter.drain()
    assert limiter.open == 0


def test_counted_however_it_ends():
    """One that fails leaves as well; beyond the limit nobody comes in, and the count stays."""
    limiter = ConnectionLimiter(1)

    async def enter():
        with pytest.raises(ZeroDivisionError), limiter.admit("robot"):
            raise ZeroDivisionError
        with limiter.admit("robot"):
            with pytest.raises(Overloaded), limiter.admit("robot"):
                pass
            return limiter.open

    assert asyncio.run(enter()) == 1
    assert limiter.open == 0
