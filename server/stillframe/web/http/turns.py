"""Work that takes turns: a few at a time, and of those that wait each caller's next in turn.

Knows neither the work nor who the callers are. For the event loop's thread only.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from stillframe.errors import Overloaded

RETRY_AFTER_S = 1.0


@dataclass(eq=False)
class _Place:
    """One that waits."""

    patient: bool  # its client is not read meanwhile, so that it costs nothing to let it wait
    come: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Turns:
    """`at_once` have their turn; at most `most` wait beside the patient ones, and the caller with most gives way."""

    def __init__(self, at_once: int, most: int):
        self._free = at_once
        self._most = most
        self._lines: OrderedDict[str, deque[_Place]] = OrderedDict()  # by caller, in the order of their turns
        self._latest = ""  # whose turn was the last to come: it goes behind those that wait

    @asynccontextmanager
    async def turn(self, share: str, *, patient: bool = False) -> AsyncIterator[None]:
        """Have a turn, after a place in the caller's line if need be. Raises Overloaded."""
        await self._come(share, patient=patient)
        try:
            yield
        finally:
            self._pass_on()

    async def _come(self, share: str, *, patient: bool) -> None:
        if self._free > 0:
            self._free -= 1
            self._latest = share
            return
        place = self._stand(share, patient=patient)
        try:
            await place.come
        except asyncio.CancelledError:
            if place.come.done() and not place.come.cancelled():
                self._pass_on()  # it had come, and is not wanted any more
            else:
                self._remove(share, place)
            raise

    def _stand(self, share: str, *, patient: bool) -> _Place:
        if not patient and sum(self._impatient(line) for line in self._lines.values()) >= self._most:
            self._make_room(share)
        place = _Place(patient)
        self._lines.setdefault(share, deque()).append(place)
        return place

    def _make_room(self, share: str) -> None:
        """The last of the caller with most gives way, unless the newcomer's would then have as many."""
        fullest = max(self._lines, key=lambda other: self._impatient(self._lines[other]))
        if self._impatient(self._lines[fullest]) <= self._impatient(self._lines.get(share, deque())) + 1:
            raise _full()
        place = next(place for place in reversed(self._lines[fullest]) if not place.patient)
        self._remove(fullest, place)
        place.come.set_exception(_full())

    def _pass_on(self) -> None:
        while self._lines:
            if next(iter(self._lines)) == self._latest:
                self._lines.move_to_end(self._latest)
            share, line = next(iter(self._lines.items()))
            place = line.popleft()
            if not line:
                del self._lines[share]
            if not place.come.done():
                self._latest = share
                place.come.set_result(None)
                return
        self._free += 1

    def _remove(self, share: str, place: _Place) -> None:
        line = self._lines.get(share, deque())
        if place in line:
            line.remove(place)
        if not line:
            self._lines.pop(share, None)

    @staticmethod
    def _impatient(line: deque[_Place]) -> int:
        return sum(not place.patient for place in line)


def _full() -> Overloaded:
    return Overloaded(
        "overloaded", "Too many frames are being unpacked; send fewer at once.", retry_after_s=RETRY_AFTER_S
    )
