from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from stillframe.errors import Overloaded
from stillframe.web.limits import Limits
from stillframe.web.unpacking import Unpacking


@pytest.fixture
def unpacking():
    """One thread and one place to wait."""
    made = Unpacking(Limits(decode_threads=1, max_decodes_waiting=1))
    yield made
    made.close()


def test_more_than_may_wait_are_refused_at_once(unpacking):
    """With one thread and one place to wait, the third is refused; places come back afterwards."""
    for _ in range(2):
        with ExitStack() as line:
            line.enter_context(unpacking.place())
            line.enter_context(unpacking.place())

            with pytest.raises(Overloaded):
                line.enter_context(unpacking.place())


def test_a_failure_gives_its_place_back(unpacking):
    """Work that raises frees its place, and its exception arrives."""

    async def fail():
        with unpacking.place():
            await unpacking.run(divmod, 1, 0)

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            asyncio.run(fail())
