from __future__ import annotations

import asyncio

import pytest

from stillframe.domain import KeyframeReason
from stillframe.errors import Conflict, TooMany
from stillframe.sessions.pending import ReplyCache, Superseded
from stillframe.sessions.session import ServiceMode, Session
from stillframe.web.streaming.session_queue import SessionQueue


class Watch:
    """Counts those who gave way."""

    gave_way = 0

    def superseded(self):
        """One more."""
        self.gave_way += 1


def queue_of(service, most=2):
    """The queue of a new session, and its observer."""
    first, watch = KeyframeReason.FIRST_FRAME, Watch()
    session = Session("arm", "me", "me", "secret", 1, service, None, first, ReplyCache(8), lambda: 0.0)
    return SessionQueue(session, most, watch), watch


@pytest.mark.parametrize("seq", [None, 0, 1, 7])
def test_the_newest_takes_the_place_of_who_waits(seq):
    """Who has the turn keeps it; who waits is told by which frame he was overtaken, where that said its number."""

    async def story():
        queue, watch = queue_of(ServiceMode.REALTIME)
        first, second = queue.join(None), queue.join(None)
        third = queue.join(seq)
        async with queue.turn(first):
            with pytest.raises(Conflict) as caught:
                async with queue.turn(second):
                    pass
            waits = not third.ready.is_set()
        async with queue.turn(third):
            return caught.value, waits, watch.gave_way

    error, waits, gave_way = asyncio.run(story())

    assert (error.code, gave_way, waits) == ("superseded", 1, True)
    assert isinstance(error, Superseded) == (seq is not None)
    assert getattr(error, "by", None) == seq


def test_in_lock_step_each_has_his_turn():
    """In their order, one at a time; one who fails or gives up leaves the turn to the next."""

    async def story():
        queue, watch = queue_of(ServiceMode.LOCKSTEP, most=4)
        turns, served = [queue.join(None) for _ in range(4)], []

        async def serve(number):
            async with queue.turn(turns[number]):
                assert [slot.ready.is_set() for slot in turns[number + 1 :]] == [False] * (3 - number)
                served.append(number)
                await asyncio.sleep(0)
                if number == 1:
                    raise ValueError

        tasks = [asyncio.create_task(serve(number)) for number in (0, 1, 2, 3)]
        with pytest.raises(TooMany):
            queue.join(None)
        await asyncio.gather(*tasks, return_exceptions=True)
        queue.join(None)
        return served, watch.gave_way

    assert asyncio.run(story()) == ([0, 1, 2, 3], 0)
