"""The connections that are open: how many there may be, and which gives way where there is no room.

Knows addresses and stages; no protocol. For the event loop's thread only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from time import monotonic
from typing import Protocol

from stillframe.domain import ConnectionReport
from stillframe.transport.allowances import Allowance, Allowances
from stillframe.transport.bounds import (
    BUFFERED_BYTES,
    CONNECTIONS_A_REQUEST,
    CONNECTIONS_AT_ONCE,
    EVENTS_A_REQUEST,
    EVENTS_AT_ONCE,
    MOST_CONNECTIONS,
    MOST_WAITING,
)


class Stage(IntEnum):
    """How far a connection is; a lower one gives way first."""

    SILENT = 0  # it has never had a request answered
    IDLE = 1  # between two requests
    SENDING = 2  # the body of its request is not complete
    ANSWERED_FOR = 3  # its request waits for an answer, or it is a WebSocket: never gives way


class Held(Protocol):
    """A connection, as far as the book asks."""

    address: str  # of the other end: see web/middleware/addresses.py
    since_s: float  # when it came to its stage

    @property
    def stage(self) -> Stage:
        """How far it is."""
        ...

    def cut(self) -> None:
        """Close it now."""
        ...


class Connections:
    """At most `most` connections, at most `most_bytes` of what they have sent and what is not a message yet.

    Where there is no room for one more, one of the address that has most gives way: of the lowest stage, and of those
    the one that has been in it for longest. So a flood of connections displaces itself.
    """

    def __init__(
        self,
        most: int = MOST_CONNECTIONS,
        most_bytes: int = BUFFERED_BYTES,
        clock: Callable[[], float] = monotonic,
        requests_per_s: float | None = None,
        most_waiting: int = MOST_WAITING,
        *,
        one_caller: bool = False,
    ):
        """`requests_per_s`: of one caller; what its connections may cost follows from that. None: no bound.

        `one_caller`: all come from one address, which tells nothing: what it may have parsed is each connection's.
        """
        self._one_caller = one_caller
        self.most = most
        self.clock = clock
        per_s = float("inf") if requests_per_s is None else requests_per_s
        self._events = Allowances(per_s * EVENTS_A_REQUEST, EVENTS_AT_ONCE, clock)  # of each address
        self._newcomers = Allowances(per_s * CONNECTIONS_A_REQUEST, CONNECTIONS_AT_ONCE, clock)
        self._most_waiting = most_waiting
        self._waiting = 0  # that are too many of their address
        self.refused = 0  # that found no room
        self.displaced = 0  # that gave way
        self.cuts: Counter[str] = Counter()  # by the bound that a client broke
        self._most_bytes = most_bytes
        self._open: dict[Held, int] = {}  # -> bytes that it holds
        self._bytes = 0  # that all of them hold: asked at every read

    def __len__(self) -> int:
        return len(self._open)

    def report(self, rate_limited: int) -> ConnectionReport:
        """How things stand, with what was counted elsewhere."""
        return ConnectionReport(len(self), self.most, self.refused, self.displaced, dict(self.cuts), rate_limited)

    def events_of(self, connection: Held) -> Allowance:
        """How much of a connection may be parsed: what its address has left."""
        return self._events.of(id(connection) if self._one_caller else connection.address)

    def comes(self, connection: Held) -> bool:
        """Whether a new connection is not too many of its address. One that is should be `kept_waiting`."""
        if self._one_caller or self._newcomers.of(connection.address).take(self.clock()):
            return True
        self.refused += 1
        return False

    def kept_waiting(self) -> bool:
        """Whether there is room to let it wait for its end; `done_waiting` gives the place back."""
        if self._waiting >= self._most_waiting:
            return False
        self._waiting += 1
        return True

    def done_waiting(self) -> None:
        """One that waited for its end has gone."""
        self._waiting -= 1

    def enter(self, connection: Held) -> bool:
        """Let a connection in; False: there is no room, and none that would give way."""
        if len(self._open) >= self.most and not self._make_room():
            self.refused += 1
            return False
        self._open[connection] = 0
        return True

    def leave(self, connection: Held) -> None:
        """It is closed, or goes on as another protocol."""
        self._bytes -= self._open.pop(connection, 0)
        if self._one_caller:
            self._events.forget(id(connection))

    def holds(self, connection: Held, n_bytes: int) -> None:
        """Say how much of a connection is in memory. Over the limit of all, the one that holds most is cut."""
        if connection not in self._open:
            return
        self._bytes += n_bytes - self._open[connection]
        self._open[connection] = n_bytes
        if self._bytes > self._most_bytes:
            most = max(self._open, key=self._open.__getitem__)
            self._displace(most)

    def _make_room(self) -> bool:
        by_address = Counter(connection.address for connection in self._open)
        yielding = [connection for connection in self._open if connection.stage is not Stage.ANSWERED_FOR]
        if not yielding:
            return False
        self._displace(min(yielding, key=lambda held: (-by_address[held.address], held.stage, held.since_s)))
        return True

    def _displace(self, connection: Held) -> None:
        self.displaced += 1
        self.leave(connection)
        connection.cut()
