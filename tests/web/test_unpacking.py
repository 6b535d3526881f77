from __future__ import annotations

import asyncio
import threading

import pytest

from stillframe.errors import Overloaded
from stillframe.web.limits import Limits
from stillframe.web.unpacking import Unpacking


def test_work_over_the_bound_is_refused_at_once():
    """With one thread and one place to wait, the third piece of work is refused; places come back afterwards."""
    unpacking = Unpacking(Limits(decode_threads=1, max_decodes_waiting=1))
    go_on = threading.Event()

    async def crowd():
        first = asyncio.create_task(unpacking.run(go_on.wait, 20))
        second = asyncio.create_task(unpacking.run(go_on.wait, 20))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await unpacking.run(go_on.wait, 20)
        go_on.set()
        return [await first, await second, await unpacking.run(go_on.wait, 20)]

    assert asyncio.run(crowd()) == [True, True, True]
    unpacking.close()


def test_a_failure_gives_its_place_back():
    """Work that raises frees its place, and its exception arrives."""
    unpacking = Unpacking(Limits(decode_threads=1, max_decodes_waiting=0))

    async def twice():
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await unpacking.run(divmod, 1, 0)

    asyncio.run(twice())
    unpacking.close()
