"""What waits to be sent on one connection: calls in their order, and of each topic the newest message only.

Knows no ROS. A thread sends, so a caller never waits for the socket. What the other end does not take is dropped, not
queued: pings travel in the same stream as the messages, and while one is unanswered for CONGESTED_S nothing is
published, so a server or a network that comes back does not bring a burst of old commands.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Optional, Tuple

from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from stillframe_client.jaco2.rosbridge.counts import Counts

PING_EVERY_S = 0.05
CONGESTED_S = 0.15  # so old are the commands at most that a server has before it when it comes back
FRESH_S = 0.05  # a message that waited longer is not sent any more


@dataclass(frozen=True)
class _Work:
    text: str = ""  # empty: a ping
    put_s: Optional[float] = None  # of a published message


class Outbox:
    """The sending side of one connection; `run` is its thread's."""

    def __init__(self, connection: Any, counts: Counts, clock: Callable[[], float]):
        self._connection, self._counts, self._clock = connection, counts, clock
        self._changed = threading.Condition()
        self._orders: Deque[str] = deque()
        self._newest: Dict[str, Tuple[str, float]] = {}  # topic -> message, when it was put there
        self._pings: Deque[Tuple[threading.Event, float]] = deque()
        self._pinged_s = clock()
        self._sending_since_s: Optional[float] = None
        self._closed = False

    def order(self, text: str) -> None:
        """Send it after the orders before it, and before anything published. Never waits."""
        with self._changed:
            self._orders.append(text)
            self._changed.notify()

    def publish(self, topic: str, text: str) -> bool:
        """Send it, in place of one of the topic that still waits; False where it was dropped. Never waits."""
        now_s = self._clock()
        with self._changed:
            if self._closed or self._unanswered_s(now_s) > CONGESTED_S:
                self._newest.pop(topic, None)
                self._counts.dropped += 1
                return False
            self._counts.dropped += topic in self._newest
            self._newest[topic] = (text, now_s)
            self._changed.notify()
        return True

    def discard(self, topic: str) -> None:
        """Drop what of the topic still waits."""
        with self._changed:
            self._newest.pop(topic, None)

    def unanswered_s(self) -> float:
        """For how long the other end has not answered a ping, or not taken what is being sent."""
        with self._changed:
            return self._unanswered_s(self._clock())

    def close(self) -> None:
        """Take nothing more; `run` ends once the orders are out."""
        with self._changed:
            self._closed = True
            self._newest.clear()
            self._changed.notify()

    def run(self) -> None:
        """Send until closed, or the connection is."""
        work = self._next()
        while work is not None:
            try:
                self._send(work)
            except (ConnectionClosed, OSError):  # the reader says why
                return
            work = self._next()

    def _send(self, work: _Work) -> None:
        if not work.text:
            self._pings.append((self._connection.ping(), self._clock()))
        elif work.put_s is None or self._clock() - work.put_s <= FRESH_S:
            self._connection.send(work.text)
            self._counts.published += work.put_s is not None
        else:
            self._counts.dropped += 1

    def _next(self) -> Optional[_Work]:
        """Wait for the next thing to send; None: no more."""
        with self._changed:
            self._sending_since_s = None
            while True:
                work = self._due()
                if work is not None or self._closed:
                    self._sending_since_s = self._clock()
                    return work
                self._changed.wait(max(self._pinged_s + PING_EVERY_S - self._clock(), 0.001))

    def _due(self) -> Optional[_Work]:
        now_s = self._clock()
        if self._orders:
            return _Work(self._orders.popleft())
        if self._newest:
            topic = next(iter(self._newest))
            return _Work(*self._newest.pop(topic))
        if not self._closed and now_s >= self._pinged_s + PING_EVERY_S:
            self._pinged_s = now_s
            return _Work()
        return None

    def _unanswered_s(self, now_s: float) -> float:
        while self._pings and self._pings[0][0].is_set():
            self._pings.popleft()
        since = [at_s for at_s in (self._sending_since_s, *(sent_s for _, sent_s in self._pings)) if at_s is not None]
        return now_s - min(since) if since else 0.0
