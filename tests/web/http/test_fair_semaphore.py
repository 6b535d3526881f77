from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from stillframe.errors import Overloaded
from stillframe.web.http.fair_semaphore import FairSemaphore


class Crowd:
    """Callers at one line; each says its name when its turn comes, and ends it when `go` says so."""

    def __init__(self, at_once: int, most: int):
        self.semaphore = FairSemaphore(at_once, most)
        self.came: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.go = asyncio.Event()

    async def join(self, *names: str, patient: bool = False) -> None:
        """Line up one after another; the first letter is the caller."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self._turn(name, patient=patient))
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Let everything have its turn."""
        self.go.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    @property
    def refused(self) -> set[str]:
        """Which were refused."""
        done = {name: task for name, task in self.tasks.items() if task.done() and not task.cancelled()}
        return {name for name, task in done.items() if isinstance(task.exception(), Overloaded)}

    async def _turn(self, name: str, *, patient: bool) -> None:
        async with self.semaphore.acquire(name[0], patient=patient):
            self.came.append(name)
            await self.go.wait()


def run(script: Callable[[], Awaitable[None]]) -> None:
    """In an event loop of its own."""
    asyncio.run(script())  # type: ignore[arg-type]


def test_callers_take_turns() -> None:
    """However many one has in the line, another's first comes after one of them; each caller's in its order."""

    async def script() -> None:
        crowd = Crowd(1, 32)
        await crowd.join("f0", "f1", "f2", "f3", "r0", "f4", "r1", "s0")
        await crowd.end()
        assert crowd.came == ["f0", "r0", "s0", "f1", "r1", "f2", "f3", "f4"]

    run(script)


def test_so_many_at_once() -> None:
    """And as one ends, the next comes."""

    async def script() -> None:
        crowd = Crowd(2, 32)
        await crowd.join("a0", "a1", "a2", "b0")
        assert crowd.came == ["a0", "a1"]
        await crowd.end()
        assert crowd.came == ["a0", "a1", "b0", "a2"]
        await crowd.join("c0")
        assert crowd.came[-1] == "c0"

    run(script)


def test_in_a_full_line_the_caller_with_most_gives_way() -> None:
    """Its last one is refused for one of a caller with fewer; one of its own is refused itself."""

    async def script() -> None:
        crowd = Crowd(1, 3)
        await crowd.join("f0", "f1", "f2", "f3", "f4")
        assert crowd.refused == {"f4"}
        await crowd.join("r0")
        await asyncio.sleep(0)
        assert crowd.refused == {"f4", "f3"}
        await crowd.join("r1")
        await asyncio.sleep(0)
        assert crowd.refused == {"f4", "f3", "r1"}
        await crowd.end()
        assert crowd.came == ["f0", "r0", "f1", "f2"]

    run(script)


def test_the_patient_are_never_refused() -> None:
    """However many they are; nor do they take a place of the others."""

    async def script() -> None:
        crowd = Crowd(1, 1)
        await crowd.join(*[f"p{n}" for n in range(9)], patient=True)
        await crowd.join("r0", "r1")
        assert crowd.refused == {"r1"}
        await crowd.end()
        assert crowd.came[:3] == ["p0", "r0", "p1"]
        assert len(crowd.came) == 10

    run(script)


def test_one_that_gives_up_leaves_its_place() -> None:
    """While it waits, as its turn comes, and in its turn: the next has it, and none is lost."""

    async def script() -> None:
        crowd = Crowd(1, 2)
        await crowd.join("a0", "a1", "a2")
        crowd.tasks["a1"].cancel()
        await asyncio.sleep(0)
        await crowd.join("a3")
        assert crowd.refused == set()
        crowd.tasks["a0"].cancel()
        await asyncio.sleep(0)  # a2's turn has come, and it does not know yet
        crowd.tasks["a2"].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await crowd.end()
        assert crowd.came[0] == "a0"
        assert crowd.came[-1] == "a3"
        await crowd.join("a4")
        assert crowd.came[-1] == "a4"

    run(script)


def test_a_failure_ends_a_turn() -> None:
    """The place is free again."""

    async def script() -> None:
        semaphore = FairSemaphore(1, 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with semaphore.acquire("a"):
                    raise ZeroDivisionError

    run(script)


def test_a_patient_one_does_not_give_way() -> None:
    """Though it stands behind those of its caller that do."""

    async def script() -> None:
        crowd = Crowd(1, 3)
        await crowd.join("f0", "f1", "f2", "f3")
        await crowd.join("f4", patient=True)
        await crowd.join("r0")
        await asyncio.sleep(0)
        assert crowd.refused == {"f3"}
        await crowd.end()
        assert crowd.came == ["f0", "r0", "f1", "f2", "f4"]

    run(script)


def test_a_place_that_was_given_up_is_passed_over() -> None:
    """Though its caller does not know yet that it was as a turn ends."""

    async def script() -> None:
        crowd = Crowd(1, 3)
        await crowd.join("a0", "b0", "c0")
        crowd.go.set()  # a0 goes on before b0 does
        crowd.tasks["b0"].cancel()
        await crowd.end()
        assert crowd.came == ["a0", "c0"]
        await crowd.join("d0")
        assert crowd.came[-1] == "d0"

    run(script)
