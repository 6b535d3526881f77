from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from stillframe.domain import Observation
from stillframe.engine.requests import PrepareTask
from stillframe.errors import Unprocessable
from stillframe.models.base import Prepared

WAIT_S = 60  # for what has to happen; no test waits this long unless it fails


class Studio:
    """Prepares, and tells in which thread; `prepared` are names for what is made of each."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.done = threading.Event()

    def prepare(self, observation: Observation) -> Prepared:
        """Fail where the frame is one that cannot be served."""
        self.threads.append(threading.get_ident())
        self.done.set()
        if observation.instruction == "broken":
            raise Unprocessable("unknown-camera", "no such camera")
        return observation.instruction.upper()  # type: ignore[return-value]  # whatever it is, it is handed on


@pytest.fixture
def studio() -> Studio:
    """One that has done nothing."""
    return Studio()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """One thread."""
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.fixture
def busy(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """The same, at something else for as long as the test takes."""
    over = threading.Event()
    pool.submit(over.wait, WAIT_S)
    yield pool
    over.set()


def preparation(studio: Studio, says: str = "lift") -> PrepareTask:
    """Of a frame without pictures."""
    return PrepareTask(studio.prepare, Observation({}, says))


def test_it_is_made_on_another_thread(studio: Studio, pool: ThreadPoolExecutor) -> None:
    """Before anybody asks for it, and once."""
    own = preparation(studio)
    own.begin(pool)
    assert studio.done.wait(WAIT_S)

    assert own() == "LIFT"
    assert len(studio.threads) == 1
    assert threading.get_ident() not in studio.threads


def test_it_is_made_here_if_nobody_came_to_it(studio: Studio, pool: ThreadPoolExecutor) -> None:
    """The device waits for no other frame to be made ready; nor is this one made twice, once the pool has time."""
    over = threading.Event()
    pool.submit(over.wait, WAIT_S)
    own = preparation(studio)
    own.begin(pool)
    assert own() == "LIFT"
    over.set()
    pool.submit(int).result(WAIT_S)  # behind it

    assert studio.threads == [threading.get_ident()]


@pytest.mark.parametrize("begun", [True, False])
def test_without_a_pool_it_is_made_here(studio: Studio, pool: ThreadPoolExecutor, *, begun: bool) -> None:
    """Never begun, or the pool is closed: the daemon stops, and what it took is answered."""
    own = preparation(studio)
    pool.shutdown()
    if begun:
        own.begin(pool)

    assert own() == "LIFT"
    assert studio.threads == [threading.get_ident()]


@pytest.mark.parametrize("where", ["pool", "busy"])
def test_errors_pass_through(studio: Studio, where: str, request: pytest.FixtureRequest) -> None:
    """From either thread, as they are; and again to who asks again."""
    own = preparation(studio, "broken")
    own.begin(request.getfixturevalue(where))

    for _ in range(2):
        with pytest.raises(Unprocessable, match="no such camera"):
            own()


@pytest.mark.parametrize("where", ["pool", "busy"])
def test_it_can_be_asked_for_again(studio: Studio, where: str, request: pytest.FixtureRequest) -> None:
    """By a frame that failed beside others and is computed alone."""
    own = preparation(studio)
    own.begin(request.getfixturevalue(where))

    assert (own(), own()) == ("LIFT", "LIFT")


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("where", ["pool", "busy"])
def test_once_over_it_holds_nothing(studio: Studio, where: str, request: pytest.FixtureRequest, *, asked: bool) -> None:
    """Neither the pictures nor what was made of them, whether or not it was asked for; nobody prepares it after."""
    pool: ThreadPoolExecutor = request.getfixturevalue(where)
    observation = Observation({}, "lift")
    held = weakref.ref(observation)
    own = PrepareTask(studio.prepare, observation)
    own.begin(pool)
    if asked:
        own()
    if where == "pool":
        pool.submit(int).result(WAIT_S)  # the thread has it no more at hand
    made = len(studio.threads)
    own.cancel()
    own.cancel()
    del observation

    assert len(studio.threads) == made
    with pytest.raises(RuntimeError, match="was cancelled"):
        own()
    if where == "pool":
        assert held() is None


def test_once_over_it_is_not_made_by_who_comes_to_it_later(studio: Studio, pool: ThreadPoolExecutor) -> None:
    """The pool was at something else; what is not waited for costs it no time."""
    over = threading.Event()
    pool.submit(over.wait, WAIT_S)
    own = preparation(studio)
    own.begin(pool)
    own.cancel()
    over.set()
    pool.submit(int).result(WAIT_S)  # behind it

    assert studio.threads == []
