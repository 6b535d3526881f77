from __future__ import annotations

import asyncio
import threading

import pytest

from stillframe.errors import Overloaded
from stillframe.web.service.connections import Hub


def test_who_comes_after_the_drain_began_is_told():
    """A connection that was let in a moment before a signal finds that it has to leave, though it came first of all."""
    hub = Hub(2)
    hub.drain()

    async def enter():
        with hub.entered("robot") as leaving:
            return leaving.is_set()

    assert asyncio.run(enter())


def test_told_from_any_thread(monkeypatch):
    """Whoever waits hears of the drain, whichever thread says so, by way of the loop that he waits on.

    Afterwards saying so again harms nobody.
    """
    hub, told = Hub(2), []

    async def wait():
        loop = asyncio.get_running_loop()
        tell = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda call: told.append(call) or tell(call))
        with hub.entered("robot") as leaving:
            thread = threading.Thread(target=hub.drain)
            thread.start()
            thread.join(20)
            assert not leaving.is_set()
            async with asyncio.timeout(20):
                await leaving.wait()
            return told == [leaving.set], hub.open

    assert asyncio.run(wait()) == (True, 1)
    hub.drain()
    assert hub.open == 0


def test_counted_however_it_ends():
    """One that fails leaves as well; beyond the limit nobody comes in, and the count stays."""
    hub = Hub(1)

    async def enter():
        with pytest.raises(ZeroDivisionError), hub.entered("robot"):
            raise ZeroDivisionError
        with hub.entered("robot"):
            with pytest.raises(Overloaded), hub.entered("robot"):
                pass
            return hub.open

    assert asyncio.run(enter()) == 1
    assert hub.open == 0
