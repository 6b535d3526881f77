"""FairQueue: frames wait for the device; the share and key served longest ago go first.

So one busy client cannot delay a quiet one, nor one robot of a client its others. Knows keys, entries and limits; not
what waits, and no device. Any thread puts; one thread takes.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from stillframe.engine.fair_order import FairOrder
from stillframe.errors import NotReady, Overloaded

T = TypeVar("T")
RETRY_AFTER_S = 1.0


def one_at_a_time(taken: Sequence[object], due: object) -> bool:  # noqa: ARG001 (what is asked of every `admits`)
    """No batches."""
    return False


def never(key: Hashable) -> bool:  # noqa: ARG001 (what is asked of every `parallel`)
    """No key has more than one turn at once."""
    return False


def impatient(item: object) -> float:  # noqa: ARG001 (what is asked of every `patience_s`)
    """No item lets others go before it."""
    return 0.0


@dataclass
class _Entry(Generic[T]):
    """A waiting item, and the control items that come right after it."""

    item: T
    controls: list[T] = field(default_factory=list)


_KeyQueue = deque[_Entry[T]]  # of one key, first come first served


class FairQueue(Generic[T]):
    """At most `most` items wait. The share whose last turn is longest ago goes next, and of its keys likewise.

    A key is of one share for as long as it is known; without a named share it is one by itself.

    So a key that asks seldom waits for the batch being computed only, and one that floods gets what the others leave. A
    new key had its last turn when it came: a client that comes under ever new keys overtakes none. A key whose last
    item is removed keeps its place for the next.

    Several may be taken at once: one of each share, in that order, then a second of each, and so on; one of a key, but
    of a `parallel` key more, once every other key has had its turn. A key just served does not go along with an
    infrequent one, nor does any other key of its share: it floods, and would make the other's turn longer.

    An item whose `patience_s` is above 0 lets all others go first that have none; of those that have, the one that has
    least goes first. Patience runs out, and then a key has its turn as ever, which is nearer for the wait: so to say
    that one is patient gains nothing but others' good will, and no key is passed over for longer than it said.
    """

    def __init__(
        self,
        most: int,
        parallel: Callable[[Hashable], bool] = never,
        patience_s: Callable[[T], float] = impatient,
    ):
        self._most = most
        self._parallel = parallel
        self._patience_s = patience_s
        self._queues: dict[Hashable, _KeyQueue[T]] = {}  # of keys of which something waits
        self._order = FairOrder(self._queues.keys(), most)
        self._controls: deque[T] = deque()  # that nothing is in front of
        self._waiting = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def closed(self) -> bool:
        """Whether nothing may be put any more."""
        return self._closed

    @property
    def has_work(self) -> bool:
        """Whether something waits, or the queue is closed. Costs no lock."""
        return bool(self._waiting or self._controls or self._closed)

    @property
    def waiting(self) -> list[T]:
        """All that wait, control items aside."""
        with self._changed:
            return [entry.item for entries in self._queues.values() for entry in entries]

    @property
    def shared(self) -> bool:
        """See FairOrder."""
        return self._order.shared

    @property
    def keys(self) -> int:
        """Of how many keys something waits or the last turn is known."""
        return len(self._order)

    def put(self, key: Hashable, item: T, share: Hashable | None = None) -> T | None:
        """Queue an item. In a full queue the last item of the fullest share is displaced, and returned.

        Where that would leave its share with less than the new item's, the last of the latter's fullest key is.
        Raises Overloaded where that would leave it with less than `key`, NotReady once the queue is closed.
        """
        with self._changed:
            if self._closed:
                raise NotReady("draining", "the daemon is stopping", retry_after_s=RETRY_AFTER_S)
            share = self._order.share_of(key, key if share is None else share)
            displaced = self._displaced_for(key, share) if self._waiting >= self._most else None
            self._order.add(key, share)
            self._queues.setdefault(key, deque()).append(_Entry(item))
            self._waiting += 1
            self._changed.notify()
            return displaced

    def overloaded(self) -> Overloaded:
        """The error of an item for which there is no room."""
        detail = f"{self._most} frames wait already; send fewer, or ask another daemon"
        return Overloaded("overloaded", detail, retry_after_s=RETRY_AFTER_S)

    def remove(self, key: Hashable, matches: Callable[[T], bool]) -> bool:
        """Remove the first waiting item that matches; say whether there was one. Its key keeps its turn."""
        with self._changed:
            entries = self._queues.get(key, deque())
            at = next((at for at, entry in enumerate(entries) if matches(entry.item)), None)
            if at is not None:
                self._pop(key, at)
            return at is not None

    def put_control(self, key: Hashable, item: T) -> None:
        """Queue a control item behind what waits of that key now; due at once if nothing does. Takes no room."""
        with self._changed:
            entries = self._queues.get(key)
            (entries[-1].controls if entries else self._controls).append(item)
            self._changed.notify()

    def forget(self, key: Hashable) -> None:
        """Drop a key that has ended; should it come again, it is new."""
        with self._changed:
            if key not in self._queues:
                self._order.forget(key)

    def next(self, admits: Callable[[Sequence[T], T], bool] = one_at_a_time) -> list[T]:
        """Wait for an item, and take it; with it those that `admits` lets into a batch of what was taken before.

        A control item comes alone. Empty: the queue is closed, and nothing waits.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.has_work)
            if self._controls:
                return [self._controls.popleft()]
            return self._take(admits) if self._waiting else []

    def close(self) -> None:
        """Refuse new items."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _take(self, admits: Callable[[Sequence[T], T], bool]) -> list[T]:
        served, flooding = self._order.end_turns()
        taken: list[T] = []
        infrequent: set[Hashable] = set()  # shares of infrequent keys
        for key in self._turns():
            share = self._order.share_of(key, key)
            if infrequent and (key in served or share in flooding - infrequent):
                continue
            if taken and not admits(taken, self._queues[key][0].item):
                break
            if self._order.infrequent(key):
                infrequent.add(share)
            self._order.serve(key)
            taken.append(self._pop(key, 0))
        return taken

    def _turns(self) -> Iterator[Hashable]:
        """Each key's first turn, in order; then what else parallel ones have before the next control item."""
        turns = self._order.turns(self._queues)
        patience_s = {key: max(0.0, self._patience_s(self._queues[key][0].item)) for key in turns}
        yield from sorted(turns, key=patience_s.__getitem__)
        for key in [key for key in self._queues if self._parallel(key)]:
            for _ in range(len(self._queues.get(key, ()))):
                if not self._controls:
                    yield key

    def _displaced_for(self, key: Hashable, share: Hashable) -> T:
        by_share: Counter[Hashable] = Counter()
        for other, entries in self._queues.items():
            by_share[self._order.share_of(other, other)] += len(entries)
        most = max(by_share, key=by_share.__getitem__)
        if most != share and by_share[most] > by_share[share] + 1:
            return self._pop_last(self._fullest(most))
        fullest = self._fullest(share) if by_share[share] else key
        if len(self._queues.get(fullest, ())) <= len(self._queues.get(key, ())) + 1:
            raise self.overloaded()
        return self._pop_last(fullest)

    def _fullest(self, share: Hashable) -> Hashable:
        """Its key of which most wait."""
        keys = [key for key in self._queues if self._order.share_of(key, key) == share]
        return max(keys, key=lambda key: len(self._queues[key]))

    def _pop_last(self, key: Hashable) -> T:
        return self._pop(key, len(self._queues[key]) - 1)

    def _pop(self, key: Hashable, at: int) -> T:
        """Take out an entry. Control items behind it come after the entry before it, or at once."""
        entries = self._queues[key]
        entry = entries[at]
        del entries[at]
        self._waiting -= 1
        (entries[at - 1].controls if at else self._controls).extend(entry.controls)
        if not entries:
            del self._queues[key]
        return entry.item
