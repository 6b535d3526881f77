from __future__ import annotations

import asyncio
import threading

import pytest

from stillframe.errors import Overloaded
from stillframe.web.http.decode_pool import DecodePool
from stillframe.web.http.limits import Limits


@pytest.fixture
def decode_pool():
    """One thread and one place to wait."""
    made = DecodePool(Limits(decode_threads=1, max_decodes_waiting=1))
    yield made
    made.close()


def test_more_than_may_wait_are_refused_at_once(decode_pool):
    """With one thread and one place to wait, the third is refused; places come back afterwards."""
    go_on = threading.Event()

    async def three():
        waiting = [asyncio.ensure_future(decode_pool.run("robot", go_on.wait, 20)) for _ in range(3)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        go_on.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    for _ in range(2):
        go_on.clear()

        assert [type(outcome) for outcome in asyncio.run(three())] == [bool, bool, Overloaded]


def test_in_turn_nobody_is_refused(decode_pool):
    """Who waits for a turn is served in order, however many there are; one who gives up leaves it to the next."""
    go_on, served = threading.Event(), []

    def work(number):
        assert go_on.wait(20)
        served.append(number)

    async def crowd():
        waiting = [asyncio.ensure_future(decode_pool.run_waiting("robot", work, number)) for number in range(6)]
        await asyncio.sleep(0)
        waiting[3].cancel()
        go_on.set()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(crowd())

    assert served == [0, 1, 2, 4, 5]


def test_those_in_turn_leave_the_threads_to_others(decode_pool):
    """However many of one caller wait for their turn, another's request is served after the one that has it."""
    go_on, served = threading.Event(), []

    def work(name):
        assert go_on.wait(20)
        served.append(name)

    async def crowd():
        in_turn = [asyncio.ensure_future(decode_pool.run_waiting("robot", work, number)) for number in range(5)]
        for _ in range(3):
            await asyncio.sleep(0)
        request = asyncio.ensure_future(decode_pool.run("another", work, "request"))
        for _ in range(3):
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*in_turn, request)

    asyncio.run(crowd())

    assert served == [0, "request", 1, 2, 3, 4]


def test_a_failure_gives_its_place_back(decode_pool):
    """Work that raises frees its place, and its exception arrives."""

    async def fail():
        await decode_pool.run("robot", divmod, 1, 0)

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            asyncio.run(fail())


def test_bytes_that_arrive_are_counted(decode_pool):
    """Over the bound no more are taken in; what was held is given back, also after a refusal."""
    byte_budget, most_bytes = decode_pool.byte_budget, Limits().max_intake_bytes
    with byte_budget.reserve("robot") as count:
        count(most_bytes - 10)
        with byte_budget.reserve("another") as other:
            other(10)

            with pytest.raises(Overloaded):
                other(1)
        assert byte_budget.held_bytes == most_bytes - 10
    assert byte_budget.held_bytes == 0


def test_one_caller_does_not_fill_the_room(decode_pool):
    """It gets no more once it has three times what is free; another does."""
    mib = 2**20  # of 128
    with decode_pool.byte_budget.reserve("flood") as count, decode_pool.byte_budget.reserve("robot") as other:
        for _ in range(96):
            count(mib)
        with pytest.raises(Overloaded):
            count(mib)
        other(16 * mib)

        assert decode_pool.byte_budget.held_bytes == 112 * mib
