"""The line in front of the device: who is next. Turns go round by key, so that nobody's many hold up another's one.

Knows keys, places and order; not what waits there, and no device. Any thread enters; one thread asks who is next.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from stillframe.errors import NotReady, Overloaded

T = TypeVar("T")
RETRY_AFTER_S = 1.0


@dataclass
class Place(Generic[T]):
    """Where something waits, and the errands that come right after it."""

    waits: T
    errands: list[T] = field(default_factory=list)


Lane = deque[Place[T]]  # of one key, first come first served


class Line(Generic[T]):
    """At most `most` wait. A key's turn comes round after one of each other key that waited when it lined up.

    Turns go round, instead of to whoever had the least so far: a client that comes under ever new keys would always
    have had the least. A key that was served last lines up behind all who came meanwhile; one whose last waiting gave
    up keeps its turn for what it sends instead.
    """

    def __init__(self, most: int):
        self._most = most
        self._lanes: OrderedDict[Hashable, Lane[T]] = OrderedDict()  # whose turn is next first; empty: a turn is kept
        self._errands: deque[T] = deque()  # that nothing is in front of
        self._waiting = 0
        self._served: Hashable = object()  # the key whose turn it was last
        self._closed = False
        self._changed = threading.Condition()

    @property
    def closed(self) -> bool:
        """Whether nobody may enter any more."""
        return self._closed

    @property
    def wanted(self) -> bool:
        """Whether the device is: something waits, or the line is closed. Costs no lock."""
        return bool(self._waiting or self._errands or self._closed)

    @property
    def waiting(self) -> list[T]:
        """All that wait, errands aside."""
        with self._changed:
            return [place.waits for lane in self._lanes.values() for place in lane]

    @property
    def keys(self) -> int:
        """Of how many keys something waits or a turn is kept."""
        return len(self._lanes)

    def enter(self, key: Hashable, item: T) -> T | None:
        """Line up. In a full line the last of the key that has most gives way, and is returned for its answer.

        Raises Overloaded where that would leave it with less than `key`, NotReady once the line is closed.
        """
        with self._changed:
            if self._closed:
                raise NotReady("draining", "the daemon is stopping", retry_after_s=RETRY_AFTER_S)
            displaced = self._make_room(key) if self._waiting >= self._most else None
            if len(self._lanes) >= 2 * self._most:  # most of them turns that are kept for nobody
                self._lanes = OrderedDict((key, lane) for key, lane in self._lanes.items() if lane)
            self._lanes.setdefault(key, deque()).append(Place(item))
            self._waiting += 1
            self._changed.notify()
            return displaced

    def full(self) -> Overloaded:
        """What is said to whom there is no room for."""
        detail = f"{self._most} frames wait already; send fewer, or ask another daemon"
        return Overloaded("overloaded", detail, retry_after_s=RETRY_AFTER_S)

    def leave(self, key: Hashable, gave_up: Callable[[T], bool]) -> bool:
        """Free the place of who gave up, if it has one. Its key keeps the turn; errands behind it move up."""
        with self._changed:
            lane = self._lanes.get(key, deque())
            at = next((at for at, place in enumerate(lane) if gave_up(place.waits)), None)
            if at is not None:
                self._remove(lane, at)
            return at is not None

    def errand(self, key: Hashable, item: T) -> None:
        """Have something done behind what waits of that key now, at once if nothing does. Takes no place."""
        with self._changed:
            lane = self._lanes.get(key)
            (lane[-1].errands if lane else self._errands).append(item)
            self._changed.notify()

    def next(self) -> T | None:
        """Whatever is due, as soon as something is. None: the line is closed, and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self.wanted)
            if self._errands:
                return self._errands.popleft()
            return self._take() if self._waiting else None

    def close(self) -> None:
        """Let nobody in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _take(self) -> T:
        if self._served in self._lanes:
            self._lanes.move_to_end(self._served)
        self._drop_empty_front()
        self._served, lane = next(iter(self._lanes.items()))
        item = self._remove(lane, 0)
        if not lane:
            del self._lanes[self._served]
        return item

    def _drop_empty_front(self) -> None:
        while not self._lanes[first := next(iter(self._lanes))]:
            del self._lanes[first]

    def _make_room(self, key: Hashable) -> T:
        longest = max(self._lanes.values(), key=len)
        if len(longest) <= len(self._lanes.get(key, ())) + 1:
            raise self.full()
        return self._remove(longest, len(longest) - 1)

    def _remove(self, lane: Lane[T], at: int) -> T:
        """Take out a place. Errands behind it come after the one before it, or at once."""
        place = lane[at]
        del lane[at]
        self._waiting -= 1
        (lane[at - 1].errands if at else self._errands).extend(place.errands)
        return place.waits
