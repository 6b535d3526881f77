from __future__ import annotations

import asyncio
import threading

import pytest

from stillframe.errors import Overloaded
from stillframe.web.http.decode_pool import Unpacking
from stillframe.web.http.limits import Limits


@pytest.fixture
def unpacking():
    """One thread and one place to wait."""
    made = Unpacking(Limits(decode_threads=1, max_decodes_waiting=1))
    yield made
    made.close()


def test_more_than_may_wait_are_refused_at_once(unpacking):
    """With one thread and one place to wait, the third is refused; places come back afterwards."""
    go_on = threading.Event()

    async def three():
        waiting = [asyncio.ensure_future(unpacking.run("robot", go_on.wait, 20)) for _ in range(3)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        go_on.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    for _ in range(2):
        go_on.clear()

        assert [type(outcome) for outcome in asyncio.run(three())] == [bool, bool, Overloaded]


def test_in_turn_nobody_is_refused(unpacking):
    """Who waits for a turn is served in order, however many there are; one who gives up leaves it to the next."""
    go_on, served = threading.Event(), []

    def work(number):
        assert go_on.wait(20)
        served.append(number)

    async def crowd():
        waiting = [asyncio.ensure_future(unpacking.in_turn("robot", work, number)) for number in range(6)]
        await asyncio.sleep(0)
        waiting[3].cancel()
        go_on.set()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(crowd())

    assert served == [0, 1, 2, 4, 5]


def test_those_in_turn_leave_the_threads_to_others(unpacking):
    """However many of one caller wait for their turn, another's request is served after the one that has it."""
    go_on, served = threading.Event(), []

    def work(name):
        assert go_on.wait(20)
        served.append(name)

    async def crowd():
        in_turn = [asyncio.ensure_future(unpacking.in_turn("robot", work, number)) for number in range(5)]
        for _ in range(3):
            await asyncio.sleep(0)
        request = asyncio.ensure_future(unpacking.run("another", work, "request"))
        for _ in range(3):
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*in_turn, request)

    asyncio.run(crowd())

    assert served == [0, "request", 1, 2, 3, 4]


def test_a_failure_gives_its_place_back(unpacking):
    """Work that raises frees its place, and its exception arrives."""

    async def fail():
        await unpacking.run("robot", divmod, 1, 0)

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            asyncio.run(fail())


def test_bytes_that_arrive_are_counted(unpacking):
    """Over the bound no more are taken in; what was held is given back, also after a refusal."""
    intake, most_bytes = unpacking.intake, Limits().max_intake_bytes
    with intake.room("robot") as take:
        take(most_bytes - 10)
        with intake.room("another") as other:
            other(10)

            with pytest.raises(Overloaded):
                other(1)
        assert intake.held_bytes == most_bytes - 10
    assert intake.held_bytes == 0


def test_one_caller_does_not_fill_the_room(unpacking):
    """It gets no more once it has three times what is free; another does."""
    mib = 2**20  # of 128
    with unpacking.intake.room("flood") as take, unpacking.intake.room("robot") as other:
        for _ in range(96):
            take(mib)
        with pytest.raises(Overloaded):
            take(mib)
        other(16 * mib)

        assert unpacking.intake.held_bytes == 112 * mib
