"""The line in front of the device: what is next. Turns go round by share, and within a share by key.

So no caller's many hold up another's one, nor a caller's one robot its others. Knows keys, places and order; not what
waits there, and no device. Any thread enters; one thread asks what is next.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from stillframe.errors import NotReady, Overloaded

T = TypeVar("T")
RETRY_AFTER_S = 1.0
OFTEN = 3  # takes: whoever was served within so many asks as often as the device answers
LATELY = 64  # takes, within which a share had a turn if it is still about
MOST_KNOWN = 1024  # keys whose last turn is known though nothing of them waits; beyond, one counts as new


def lone(taken: Sequence[object], due: object) -> bool:  # noqa: ARG001 (what is asked of every `joins`)
    """Nobody joins anybody."""
    return False


@dataclass
class Place(Generic[T]):
    """Where something waits, and the errands that come right after it."""

    waits: T
    errands: list[T] = field(default_factory=list)


Lane = deque[Place[T]]  # of one key, first come first served


def never(key: Hashable) -> bool:  # noqa: ARG001 (what is asked of every `plural`)
    """No key has more than one turn at once."""
    return False


class Line(Generic[T]):
    """At most `most` wait. Of those that do, the share whose last turn is longest ago goes next, and its key likewise.

    A key is of one share for as long as it is known; where none is named it is one by itself.

    So whoever asks seldom waits for the frame under way only, and whoever floods gets what the others leave. A key that
    is new had its last turn when it came: a client that comes under ever new keys passes nobody. One whose last waiting
    gave up keeps its place for what it sends instead.

    Several may be taken at once: one of each share, in that order, then a second of each, and so on; one of a key, but
    of a `plural` key more, once every other key has had its turn. What was just served does not go along with a key
    that has not been for long, nor does anything else of its share: it floods, and would make the other's turn longer.
    """

    def __init__(self, most: int, plural: Callable[[Hashable], bool] = never):
        self._most = most
        self._plural = plural
        self._lanes: dict[Hashable, Lane[T]] = {}  # of keys of which something waits
        self._last: OrderedDict[Hashable, tuple[int, int]] = (
            OrderedDict()
        )  # when each key's last turn was: _now, _takes
        self._share: dict[Hashable, Hashable] = {}  # of each key in _last
        self._last_of: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()  # when each share's last turn was
        self._served: list[tuple[Hashable, Hashable]] = []  # the keys whose turn it is, and their shares
        self._errands: deque[T] = deque()  # that nothing is in front of
        self._waiting = 0
        self._now = 0  # counts turns and newcomers
        self._takes = 0  # counts how often somebody was taken
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
    def shared(self) -> bool:
        """Whether more than one share has had turns lately, so that others may wait for what one share's turn takes."""
        lately = [takes for _, takes in islice(reversed(self._last_of.values()), 2)]
        return len(lately) == 2 and self._takes - lately[1] <= LATELY

    @property
    def keys(self) -> int:
        """Of how many keys something waits or the last turn is known."""
        return len(self._last)

    def enter(self, key: Hashable, item: T, share: Hashable | None = None) -> T | None:
        """Line up. In a full line the last of the share that has most gives way, and is returned for its answer.

        Where that would leave it with less than the newcomer's share, the last of that share's key that has most does.
        Raises Overloaded where that would leave it with less than `key`, NotReady once the line is closed.
        """
        with self._changed:
            if self._closed:
                raise NotReady("draining", "the daemon is stopping", retry_after_s=RETRY_AFTER_S)
            share = self._share.get(key, key if share is None else share)
            displaced = self._make_room(key, share) if self._waiting >= self._most else None
            self._know(key, share)
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
                self._remove(key, at)
            return at is not None

    def errand(self, key: Hashable, item: T) -> None:
        """Have something done behind what waits of that key now, at once if nothing does. Takes no place."""
        with self._changed:
            lane = self._lanes.get(key)
            (lane[-1].errands if lane else self._errands).append(item)
            self._changed.notify()

    def forget(self, key: Hashable) -> None:
        """Let go of a key that is over; should it come again, it is new."""
        with self._changed:
            if key not in self._lanes:
                self._last.pop(key, None)
                self._share.pop(key, None)

    def next(self, joins: Callable[[Sequence[T], T], bool] = lone) -> list[T]:
        """Whatever is due, as soon as something is; beside it whoever `joins` what was taken before.

        An errand comes alone. Empty: the line is closed, and nobody waits.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.wanted)
            if self._errands:
                return [self._errands.popleft()]
            return self._take(joins) if self._waiting else []

    def close(self) -> None:
        """Let nobody in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _take(self, joins: Callable[[Sequence[T], T], bool]) -> list[T]:
        just, flooding = self._end_turns()
        self._takes += 1
        taken: list[T] = []
        self._served = []
        seldom: set[Hashable] = set()  # shares of keys that have not been served for long
        for key in self._turns():
            if seldom and (key in just or self._share[key] in flooding - seldom):
                continue
            if taken and not joins(taken, self._lanes[key][0].waits):
                break
            if self._takes - self._last[key][1] > OFTEN:
                seldom.add(self._share[key])
            self._served.append((key, self._share[key]))
            taken.append(self._remove(key, 0))
        return taken

    def _end_turns(self) -> tuple[set[Hashable], set[Hashable]]:
        """Write down the turns that are over: of a key that is forgotten, its share's alone.

        Return the keys that had one and are known still, and the shares of all that had one.
        """
        just: set[Hashable] = set()
        for key, share in self._served:
            if self._share.get(key) == share:
                self._mark(key)
                just.add(key)
            else:
                self._mark_share(share)
        return just, {share for _, share in self._served}

    def _turns(self) -> Iterator[Hashable]:
        """Which keys' turns they are: each one's first, then what else plural ones have before the next errand."""
        ranks: Counter[Hashable] = Counter()
        order: list[tuple[int, tuple[int, int], Hashable]] = []
        for key in sorted(self._lanes, key=self._last.__getitem__):
            share = self._share[key]
            order.append((ranks[share], self._last_of[share], key))
            ranks[share] += 1
        yield from (key for *_, key in sorted(order, key=lambda turn: turn[:2]))
        for key in [key for key in self._lanes if self._plural(key)]:
            for _ in range(len(self._lanes.get(key, ()))):
                if not self._errands:
                    yield key

    def _know(self, key: Hashable, share: Hashable) -> None:
        """Let a key that is new, and a share that is, begin with a turn that was over when it came."""
        if key not in self._last:
            self._share[key] = share
            if share in self._last_of:
                self._last[key] = (self._tick(), self._takes)
                self._forget_oldest()
            else:
                self._mark(key)

    def _mark(self, key: Hashable) -> None:
        """A key's turn is over, and its share's: what has waited since before comes first."""
        self._last[key] = (self._tick(), self._takes)
        self._last.move_to_end(key)
        self._mark_share(self._share[key])

    def _mark_share(self, share: Hashable) -> None:
        self._last_of[share] = (self._tick(), self._takes)
        self._last_of.move_to_end(share)
        self._forget_oldest()

    def _tick(self) -> int:
        self._now += 1
        return self._now

    def _forget_oldest(self) -> None:
        """Keep what is known within bounds; nothing of what waits is forgotten."""
        if len(self._last) > MOST_KNOWN + self._most:
            oldest = next(known for known in self._last if known not in self._lanes)
            del self._last[oldest], self._share[oldest]
        if len(self._last_of) > MOST_KNOWN + self._most:
            in_use = set(self._share.values())
            for share in [share for share in self._last_of if share not in in_use]:
                del self._last_of[share]

    def _make_room(self, key: Hashable, share: Hashable) -> T:
        by_share: Counter[Hashable] = Counter()
        for other, lane in self._lanes.items():
            by_share[self._share[other]] += len(lane)
        most = max(by_share, key=by_share.__getitem__)
        if most != share and by_share[most] > by_share[share] + 1:
            return self._displace(self._fullest(most))
        fullest = self._fullest(share) if by_share[share] else key
        if len(self._lanes.get(fullest, ())) <= len(self._lanes.get(key, ())) + 1:
            raise self.full()
        return self._displace(fullest)

    def _fullest(self, share: Hashable) -> Hashable:
        """Its key of which most wait."""
        keys = [key for key in self._lanes if self._share[key] == share]
        return max(keys, key=lambda key: len(self._lanes[key]))

    def _displace(self, key: Hashable) -> T:
        return self._remove(key, len(self._lanes[key]) - 1)

    def _remove(self, key: Hashable, at: int) -> T:
        """Take out a place. Errands behind it come after the one before it, or at once."""
        lane = self._lanes[key]
        place = lane[at]
        del lane[at]
        self._waiting -= 1
        (lane[at - 1].errands if at else self._errands).extend(place.errands)
        if not lane:
            del self._lanes[key]
        return place.waits
