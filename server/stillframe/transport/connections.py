"""Table of open connections: the limit, and which one is evicted where it is reached.

Knows addresses and stages; no protocol. For the event loop's thread only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from time import monotonic
from typing import Protocol

from stillframe.domain import ConnectionReport
from stillframe.transport.bounds import (
    CONNECTION_BURST,
    CONNECTIONS_PER_REQUEST,
    EVENT_BURST,
    EVENTS_PER_REQUEST,
    MAX_BUFFERED_BYTES,
    MAX_CONNECTIONS,
    MAX_TARPITTED,
)
from stillframe.web.http.token_bucket import TokenBucket, TokenBuckets


class Stage(IntEnum):
    """How far a connection is; the lowest stage is evicted first."""

    NEW = 0  # no request answered yet
    IDLE = 1  # keep-alive, between two requests
    SENDING = 2  # its request's body is incomplete
    BUSY = 3  # a request is being answered, or it is a WebSocket: never evicted


class TrackedConnection(Protocol):
    """A connection, as the table sees it."""

    address: str  # of the other end: see web/middleware/addresses.py
    since_s: float  # when it reached its stage

    @property
    def stage(self) -> Stage:
        """Return its stage."""
        ...

    def abort(self) -> None:
        """Close it now."""
        ...


class ConnectionTable:
    """At most `capacity` connections and `max_bytes` of incomplete messages.

    When full, a connection of the address with most is evicted: of the lowest stage, and of those the oldest in it.
    So a flood of connections evicts its own.
    """

    def __init__(
        self,
        capacity: int = MAX_CONNECTIONS,
        max_bytes: int = MAX_BUFFERED_BYTES,
        clock: Callable[[], float] = monotonic,
        requests_per_s: float | None = None,
        max_tarpitted: int = MAX_TARPITTED,
        *,
        one_caller: bool = False,
    ):
        """`requests_per_s`: of one caller; the event and connection rates follow from it. None: no bound.

        `one_caller`: all share one address (a proxy): the event rate is counted per connection.
        """
        self._one_caller = one_caller
        self.capacity = capacity
        self.clock = clock
        per_s = float("inf") if requests_per_s is None else requests_per_s
        self._events = TokenBuckets(per_s * EVENTS_PER_REQUEST, EVENT_BURST, clock)  # of each address
        self._newcomers = TokenBuckets(per_s * CONNECTIONS_PER_REQUEST, CONNECTION_BURST, clock)
        self._max_tarpitted = max_tarpitted
        self._tarpitted = 0  # over the connection rate of their address
        self.refused = 0  # not admitted
        self.displaced = 0  # evicted
        self.closed_by_bound: Counter[str] = Counter()  # by the bound that was broken
        self._max_bytes = max_bytes
        self._open: dict[TrackedConnection, int] = {}  # -> bytes buffered
        self._bytes = 0  # sum of these: needed at every read

    def __len__(self) -> int:
        return len(self._open)

    def report(self, rate_limited: int) -> ConnectionReport:
        """Return the counts, with `rate_limited` counted elsewhere."""
        return ConnectionReport(
            len(self), self.capacity, self.refused, self.displaced, dict(self.closed_by_bound), rate_limited
        )

    def event_bucket(self, connection: TrackedConnection) -> TokenBucket:
        """Return the token bucket of parser events of the connection's address."""
        return self._events.bucket(id(connection) if self._one_caller else connection.address)

    def within_rate(self, connection: TrackedConnection) -> bool:
        """Return whether a new connection is within its address' rate; if not, tarpit it."""
        if self._one_caller or self._newcomers.bucket(connection.address).take(self.clock()):
            return True
        self.refused += 1
        return False

    def enter_tarpit(self) -> bool:
        """Count a tarpitted connection; False where MAX_TARPITTED are. `leave_tarpit` ends it."""
        if self._tarpitted >= self._max_tarpitted:
            return False
        self._tarpitted += 1
        return True

    def leave_tarpit(self) -> None:
        """A tarpitted connection was closed."""
        self._tarpitted -= 1

    def add(self, connection: TrackedConnection) -> bool:
        """Add a connection, evicting one when full; False where none can be evicted."""
        if len(self._open) >= self.capacity and not self._evict():
            self.refused += 1
            return False
        self._open[connection] = 0
        return True

    def remove(self, connection: TrackedConnection) -> None:
        """Remove a connection that closed or changed protocol."""
        self._bytes -= self._open.pop(connection, 0)
        if self._one_caller:
            self._events.forget(id(connection))

    def set_buffered(self, connection: TrackedConnection, n_bytes: int) -> None:
        """Set a connection's buffered bytes. Over the limit of all, the one that buffers most is closed."""
        if connection not in self._open:
            return
        self._bytes += n_bytes - self._open[connection]
        self._open[connection] = n_bytes
        if self._bytes > self._max_bytes:
            self._close(max(self._open, key=self._open.__getitem__))

    def _evict(self) -> bool:
        by_address = Counter(connection.address for connection in self._open)
        yielding = [connection for connection in self._open if connection.stage is not Stage.BUSY]
        if not yielding:
            return False
        self._close(min(yielding, key=lambda held: (-by_address[held.address], held.stage, held.since_s)))
        return True

    def _close(self, connection: TrackedConnection) -> None:
        self.displaced += 1
        self.remove(connection)
        connection.abort()
