"""FairOrder: which key is served next. Shares take turns, and keys within a share; longest unserved first.

Knows keys, shares and when each was last served; not what waits. Not thread-safe: its queue holds a lock.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Hashable, Iterable
from itertools import islice

FREQUENT_WITHIN = 3  # takes: a key served within so many asks as often as the device answers
RECENT_WITHIN = 64  # takes, within which an active share has been served
MOST_KNOWN = 1024  # keys whose last turn is known though nothing of them waits; beyond, one counts as new


class FairOrder:
    """When each key, and each share, was last served. A key is of one share for as long as it is known."""

    def __init__(self, waiting: Collection[Hashable], most_waiting: int):
        """`waiting`: the keys of which something waits, now and later; none of them is forgotten."""
        self._waiting = waiting
        self._most_known = MOST_KNOWN + most_waiting
        self._last: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()  # key -> its last turn: _now, _takes
        self._share: dict[Hashable, Hashable] = {}  # of each key in _last
        self._last_of: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()  # share -> its last turn
        self._served: list[tuple[Hashable, Hashable]] = []  # keys being served, and their shares
        self._now = 0  # counts turns and new keys
        self._takes = 0  # counts batches

    def __len__(self) -> int:
        """How many keys are known."""
        return len(self._last)

    @property
    def shared(self) -> bool:
        """Whether several shares were served recently, so that others may wait for what one share's turn takes."""
        recent = [takes for _, takes in islice(reversed(self._last_of.values()), 2)]
        return len(recent) == 2 and self._takes - recent[1] <= RECENT_WITHIN

    def share_of(self, key: Hashable, default: Hashable) -> Hashable:
        """The share of a known key; `default` for a new one."""
        return self._share.get(key, default)

    def add(self, key: Hashable, share: Hashable) -> None:
        """Know a key. A new key, or a new share, starts as if served just now."""
        if key not in self._last:
            self._share[key] = share
            if share in self._last_of:
                self._last[key] = (self._tick(), self._takes)
                self._forget_oldest()
            else:
                self._mark(key)

    def forget(self, key: Hashable) -> None:
        """Drop a key; should it come again, it is new."""
        self._last.pop(key, None)
        self._share.pop(key, None)

    def turns(self, keys: Iterable[Hashable]) -> list[Hashable]:
        """Keys in the order in which they are served: one of each share, then a second of each, and so on."""
        ranks: Counter[Hashable] = Counter()
        order: list[tuple[int, tuple[int, int], Hashable]] = []
        for key in sorted(keys, key=self._last.__getitem__):
            share = self._share[key]
            order.append((ranks[share], self._last_of[share], key))
            ranks[share] += 1
        return [key for *_, key in sorted(order, key=lambda turn: turn[:2])]

    def infrequent(self, key: Hashable) -> bool:
        """Whether a key was not served in the last takes."""
        return self._takes - self._last[key][1] > FREQUENT_WITHIN

    def serve(self, key: Hashable) -> None:
        """A key's turn begins."""
        self._served.append((key, self._share[key]))

    def end_turns(self) -> tuple[set[Hashable], set[Hashable]]:
        """Record the turns that are over, and begin the next take: of a forgotten key, its share's turn alone.

        Return the keys that had one and are still known, and the shares of all that had one.
        """
        known: set[Hashable] = set()
        for key, share in self._served:
            if self._share.get(key) == share:
                self._mark(key)
                known.add(key)
            else:
                self._mark_share(share)
        shares = {share for _, share in self._served}
        self._served = []
        self._takes += 1
        return known, shares

    def _mark(self, key: Hashable) -> None:
        """A key's turn is over, and its share's."""
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
        if len(self._last) > self._most_known:
            oldest = next(known for known in self._last if known not in self._waiting)
            del self._last[oldest], self._share[oldest]
        if len(self._last_of) > self._most_known:
            in_use = set(self._share.values())
            for share in [share for share in self._last_of if share not in in_use]:
                del self._last_of[share]
